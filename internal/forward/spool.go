package forward

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errBlock: a block has nothing more to read; the next one begins where it ended.
var errBlock = errors.New("the block is over")

// spool is what lies between the purchase of a block and the client. The purchase never
// waits for the client: where too much piles up the rest is let go, and read back later
// from what was verified and kept.
type spool struct {
	cancel context.CancelFunc
	stop   chan struct{} // closed when nothing more is to be asked for
	ended  chan struct{} // closed when the purchase is over

	mu     sync.Mutex
	next   uint64 // offset of the first byte in buf
	end    uint64 // of the block
	buf    []byte
	full   bool // something was let go
	left   bool // nobody reads it any more
	done   bool
	err    error
	change chan struct{} // closed when something changed
}

func newSpool(from, end uint64, cancel context.CancelFunc) *spool {
	return &spool{cancel: cancel, stop: make(chan struct{}), ended: make(chan struct{}), next: from, end: end, change: make(chan struct{})}
}

// Write takes verified bytes, in order. It never waits.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch room := spoolBytes - len(s.buf); {
	case s.left, s.full:
	case room < len(p):
		s.full = true
		s.buf = append(s.buf, p[:room]...)
	default:
		s.buf = append(s.buf, p...)
	}
	s.wake()
	return len(p), nil
}

// wake tells whoever waits; s.mu is held.
func (s *spool) wake() {
	close(s.change)
	s.change = make(chan struct{})
}

// over ends the purchase.
func (s *spool) over(err error) {
	s.mu.Lock()
	s.done, s.err = true, err
	s.wake()
	s.mu.Unlock()
	close(s.ended)
}

// at is the offset of the next byte.
func (s *spool) at() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// ready waits until there is something to read. Errors: what ended the purchase before.
func (s *spool) ready(ctx context.Context) error {
	for {
		s.mu.Lock()
		some, done, err, change := len(s.buf) > 0, s.done, s.err, s.change
		s.mu.Unlock()
		switch {
		case some || done && err == nil:
			return nil
		case done:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-change:
		}
	}
}

// read waits for bytes. Errors: errBlock where the block has no more, what ended the
// purchase before its end, the context's.
func (s *spool) read(ctx context.Context, p []byte) (int, error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	most := min(uint64(len(s.buf)), s.end-min(s.end, s.next)) // what is verified may go beyond what was asked for
	n := copy(p, s.buf[:most])
	s.buf = s.buf[n:]
	s.next += uint64(n)
	if n == 0 {
		return 0, errBlock
	}
	return n, nil
}

// stopWait is how long what is under way may take when nobody wants it any more: it was
// charged, and is paid and kept where it comes in time.
const stopWait = 30 * time.Second

// leave ends the purchase where nobody reads on (gone), and waits for it.
func (s *spool) leave(gone bool) {
	s.mu.Lock()
	s.left = gone || !s.full && s.next < s.end // what was let go still has to be bought
	stop := s.left
	s.mu.Unlock()
	if stop {
		close(s.stop)
		limit := time.AfterFunc(stopWait, s.cancel)
		defer limit.Stop()
	}
	<-s.ended
}
