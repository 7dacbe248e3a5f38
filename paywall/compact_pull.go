package paywall

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/coder/websocket"
)

// pull reads a connection's messages frame by frame. Of data it reads only the head: the
// bytes go straight to where they are wanted. One goroutine uses it at a time.
type pull struct {
	ws    *websocket.Conn
	buf   *bufio.Reader // of the present message; small, so that data go past it
	open  bool          // there is one
	fresh bool          // and nothing of it was read
	order uint64        // that the data are of
	rest  int           // bytes of the present data frame that were not read
}

func newPull(ws *websocket.Conn) *pull { return &pull{ws: ws, buf: bufio.NewReaderSize(nil, 512)} }

// next reads the next frame; of data no body, but order and rest. What is left of the
// data before it is passed over. Errors: errFrame, the connection's.
func (r *pull) next() (f frame, err error) {
	for r.rest > 0 {
		if err := r.skip(); err != nil {
			return f, err
		}
	}
	if f.kind, err = r.kind(); err != nil {
		return f, err
	}
	n, _, err := r.number()
	if err != nil {
		return f, err
	}
	if f.kind == frameData {
		order, taken, err := r.number()
		if err == nil && (n <= uint64(taken) || n-uint64(taken) > maxDataFrame) {
			err = badFrame("a data frame of %d bytes", n)
		}
		if err == nil {
			r.order, r.rest = order, int(n)-taken
		}
		return f, err
	}
	if n > maxSocketAnswer {
		return f, badFrame("a frame of %d bytes", n)
	}
	f.body = make([]byte, n)
	_, err = io.ReadFull(r.buf, f.body)
	return f, short(err)
}

// kind reads the first byte of the next frame, of the next message where this one is over.
func (r *pull) kind() (byte, error) {
	for {
		if !r.open {
			kind, from, err := r.ws.Reader(context.Background()) // closing it ends the wait
			if err != nil {
				return 0, err
			}
			if kind != websocket.MessageBinary {
				return 0, badFrame("a message of text")
			}
			r.buf.Reset(from)
			r.open, r.fresh = true, true
		}
		kind, err := r.buf.ReadByte()
		switch {
		case err == nil:
			r.fresh = false
			return kind, nil
		case !errors.Is(err, io.EOF):
			return 0, err
		case r.fresh:
			return 0, badFrame("an empty message")
		}
		r.open = false
	}
}

// number reads a varint in its shortest form, and says how many bytes it took.
func (r *pull) number() (v uint64, n int, err error) {
	var b [binary.MaxVarintLen64]byte
	for n < len(b) {
		if b[n], err = r.buf.ReadByte(); err != nil {
			return 0, n, short(err)
		}
		if n++; b[n-1] < 0x80 {
			break
		}
	}
	in := reading{b: b[:n]}
	v = in.uint(1<<63 - 1)
	return v, n, in.err
}

// data reads bytes of the present data frame. Errors: errFrame, the connection's.
func (r *pull) data(p []byte) (n int, err error) {
	n, err = r.buf.Read(p[:min(len(p), r.rest)])
	r.rest -= n
	if n > 0 {
		err = nil // it comes again
	}
	return n, short(err)
}

// skip passes over what is left of the present data frame.
func (r *pull) skip() error {
	n, err := r.buf.Discard(r.rest)
	r.rest -= n
	return short(err)
}

// short says of a message's end that something was missing.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w (%w)", badFrame("it is too short"), io.ErrUnexpectedEOF)
	}
	return err
}
