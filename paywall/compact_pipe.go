package paywall

import (
	"bufio"
	"encoding/binary"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// recordBytes is what one record of TLS carries at the most.
	recordBytes = 16 << 10
	// socketHead is what the head of an unmasked WebSocket frame takes at the most.
	socketHead = 10
)

// pipe is the connection below a WebSocket of the server's. Messages of the compact
// transport are written to it past the library, each as one binary frame, so that an
// answer's bytes are neither copied nor cut into more records of TLS than they fill. The
// library writes control frames only, each at once.
type pipe struct {
	net.Conn
	stall time.Duration // for one write

	mu sync.Mutex
}

// Write implements net.Conn, for the library.
func (l *pipe) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.SetWriteDeadline(time.Now().Add(l.stall)); err != nil {
		return 0, err
	}
	return l.Conn.Write(p)
}

// message writes one message: head, which has socketHead bytes of room before it, and
// what follows it.
func (l *pipe) message(room, more []byte) error {
	var scratch [socketHead]byte
	head := appendSocketHead(scratch[:0], len(room)-socketHead+len(more))
	copy(room[socketHead-len(head):], head)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.SetWriteDeadline(time.Now().Add(l.stall)); err != nil {
		return err
	}
	if _, err := l.Conn.Write(room[socketHead-len(head):]); err != nil || len(more) == 0 {
		return err
	}
	_, err := l.Conn.Write(more)
	return err
}

// appendSocketHead writes the head of a frame that is a whole binary message of n bytes,
// unmasked, as a server's are. RFC 6455, section 5.2.
func appendSocketHead(to []byte, n int) []byte {
	to = append(to, 0x82)
	switch {
	case n < 126:
		return append(to, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(to, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(to, 127), uint64(n))
}

// small writes a message that was made without room before it.
func (l *pipe) small(message []byte) error {
	b := pipeBuffers.Get().(*[]byte)
	defer pipeBuffers.Put(b)
	room := append((*b)[:socketHead], message...)
	if cap(room) <= 4<<10 {
		*b = room
	}
	return l.message(room, nil)
}

var pipeBuffers = sync.Pool{New: func() any { b := make([]byte, socketHead, 512); return &b }}

// laid is a ResponseWriter whose connection, once it is taken over, has a pipe.
type laid struct {
	http.ResponseWriter
	stall time.Duration
	pipe  *pipe // nil: not yet
}

// Hijack implements http.Hijacker.
func (l *laid) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(l.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	l.pipe = &pipe{Conn: conn, stall: l.stall}
	rw.Writer.Reset(l.pipe)
	return l.pipe, rw, nil
}
