package paywall

import (
	"context"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// outbox gathers frames while a message is being written, so that many travel in one.
// It starts no goroutine: whoever finds nobody writing does. The zero value is not
// usable: set write and limit.
type outbox struct {
	write func([]byte) error
	limit int // bytes of a message

	mu      sync.Mutex
	room    *sync.Cond
	buf     []byte // not written yet, at most limit
	spare   []byte
	writing bool
	err     error // that ended it
}

// put adds a frame, which is no longer than limit; it is written at once, or behind
// those that are. Errors: what ended the connection.
func (o *outbox) put(frame func([]byte) []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.room == nil {
		o.room = sync.NewCond(&o.mu)
	}
	for {
		if o.err != nil {
			return o.err
		}
		had := len(o.buf)
		o.buf = frame(o.buf)
		if had == 0 || len(o.buf) <= o.limit {
			break
		}
		o.buf = o.buf[:had]
		o.room.Wait() // somebody writes: else nothing would be left here
	}
	if o.writing {
		return nil
	}
	o.writing = true
	for len(o.buf) > 0 && o.err == nil {
		out := o.buf
		o.buf, o.spare = o.spare[:0], nil
		o.mu.Unlock()
		err := o.write(out)
		o.mu.Lock()
		if o.err == nil {
			o.err = err
		}
		if cap(out) <= 4<<10 { // an idle connection keeps little
			o.spare = out[:0]
		}
		o.room.Broadcast()
	}
	o.writing = false
	return o.err
}

// end wakes everybody who waits for room.
func (o *outbox) end(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
	if o.room != nil {
		o.room.Broadcast()
	}
}

// sending writes messages to a connection, each within so long.
func sending(ctx context.Context, ws *websocket.Conn, stall time.Duration) func([]byte) error {
	return func(message []byte) error {
		ctx, cancel := context.WithTimeout(ctx, stall)
		defer cancel()
		return ws.Write(ctx, websocket.MessageBinary, message)
	}
}
