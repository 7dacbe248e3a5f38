package paywall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/spillway/spillway/mpp"
)

// listen reads what the provider sends until the connection ends. While somebody reads
// an answer, he reads the connection in its place: so an answer's bytes go from the
// connection straight to where they are wanted.
func (x *Compact) listen() {
	defer close(x.closed)
	var err error
	for err == nil {
		var f frame
		if f, err = x.in.next(); err == nil {
			err = x.frame(f)
		}
		if in := x.lent; in != nil && err == nil {
			x.lent = nil
			in.lend()
			select {
			case <-in.back:
			case <-x.over:
				err = x.Err()
			}
		}
	}
	x.fail(broke(err))
}

// broke is why a connection ended, of an error in reading it.
func broke(err error) error {
	switch {
	case errors.Is(err, errFrame):
		return misbehaved("%w", err)
	case errors.Is(err, ErrMisbehaved), errors.Is(err, ErrUnreachable):
		return err
	}
	return unreachable("%w", err)
}

// frame does what a frame says. Of data it passes the bytes over: they are of an answer
// that nobody waits for any more.
func (x *Compact) frame(f frame) error {
	switch f.kind {
	case frameHello:
		return x.hear(f)
	case frameBound, frameAck:
		return x.acked(f)
	case frameProblem:
		return x.refused(f)
	case frameReply:
		r, err := parseReply(f.body)
		if err != nil {
			return err
		}
		if in := x.incoming(r.order); in != nil && in.begin(r) {
			x.lent = in
		}
	case frameData:
		if x.incoming(x.in.order) != nil {
			return badFrame("bytes of an answer that has not begun")
		}
	case frameEnd:
		e, err := parseEnd(f.body)
		if err != nil {
			return err
		}
		if in := x.incoming(e.order); in != nil {
			x.mu.Lock()
			delete(x.orders, e.order)
			x.mu.Unlock()
			return in.finish(e)
		}
	}
	return nil // others are of a later version
}

func (x *Compact) hear(f frame) error {
	h, err := parseHello(f.body)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.greeted.told:
		return badFrame("a second greeting")
	case h.version != compactVersion:
		return fmt.Errorf("%w: version %d", errNoCompact, h.version)
	}
	x.hello, x.key = h, nonceKey(h.nonce)
	x.greeted.tell()
	return nil
}

func (x *Compact) acked(f frame) error {
	a, err := parseAck(f.body)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if a.number >= uint64(len(x.numbers)) {
		return badFrame("number %d is no channel's", a.number)
	}
	b := x.numbers[a.number]
	if f.kind == frameBound {
		b.challenge = b.asked
	}
	if !b.known || a.at.paid >= b.at.paid {
		b.at, b.known = a.at, true
	}
	b.news.tell()
	return nil
}

func (x *Compact) refused(f frame) error {
	p, err := parseProblemFrame(f.body)
	if err != nil {
		return err
	}
	problem, err := mpp.ParseProblem(p.problem)
	if err != nil {
		return badFrame("a problem that is none: %v", err)
	}
	if p.number == 0 {
		return fmt.Errorf("the provider ends the connection: %w", problem)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if p.number > uint64(len(x.numbers)) {
		return badFrame("number %d is no channel's", p.number-1)
	}
	b := x.numbers[p.number-1]
	b.problem, b.challenge = problem, ""
	b.news.tell()
	return nil
}

// incoming is an answer on its way.
type incoming struct {
	x     *Compact
	order uint64
	id    string // channel
	terms string // challenge
	ctx   context.Context
	leave func() bool // ends the watch on ctx
	stall *time.Timer
	back  chan struct{} // closed when the connection is read by its own goroutine again

	mu     sync.Mutex
	change *sync.Cond
	resp   *http.Response
	lent   bool // whoever reads the answer reads the connection
	whole  bool
	err    error // why it breaks off
	gone   bool  // nobody reads it
}

func (x *Compact) incoming(order uint64) *incoming {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.orders[order]
}

// begin takes the head of the answer; false: it had begun.
func (in *incoming) begin(r replyFrame) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.resp != nil {
		return false
	}
	in.resp = &http.Response{
		Status: fmt.Sprintf("%d %s", r.status, http.StatusText(int(r.status))), StatusCode: int(r.status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: r.fields, ContentLength: -1, Trailer: http.Header{},
	}
	if r.slip != nil {
		in.say(in.resp.Header, *r.slip)
	}
	return true
}

// lend hands the connection to whoever reads the answer, until it is whole.
func (in *incoming) lend() {
	in.stall.Stop() // it is the reader's turn
	in.mu.Lock()
	defer in.mu.Unlock()
	in.lent = true
	in.change.Broadcast()
}

// say writes a receipt as a field; in.mu is held.
func (in *incoming) say(h http.Header, s slip) {
	text, err := in.x.receipt(in.id, in.terms, s)
	if err != nil {
		in.err = misbehaved("%w", err)
		return
	}
	h.Set(mpp.HeaderReceipt, text)
}

// finish ends the answer as the provider says.
func (in *incoming) finish(e endFrame) error {
	in.stall.Stop()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.resp == nil { // nobody else tells who waits for it: it is not among the orders any more
		in.err = misbehaved("an answer ends that has not begun")
		in.change.Broadcast()
		return badFrame("an answer ends that has not begun")
	}
	for name, values := range e.fields {
		in.resp.Trailer[http.CanonicalHeaderKey(name)] = values
	}
	if e.slip != nil {
		in.say(in.resp.Trailer, *e.slip)
	}
	if e.broken && in.err == nil {
		in.err = unreachable("the answer broke off: %w", io.ErrUnexpectedEOF)
	}
	in.whole = true
	in.change.Broadcast()
	return nil
}

// end ends the answer where the connection does.
func (in *incoming) end(why error) {
	in.stall.Stop()
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.whole && in.err == nil {
		in.err = why
	}
	in.change.Broadcast()
}

// Read implements io.Reader. One goroutine reads at a time.
func (in *incoming) Read(p []byte) (n int, err error) {
	if err := in.standing(); err != nil || len(p) == 0 {
		return 0, err
	}
	in.stall.Reset(in.x.c.net.stall)
	n, err = in.pull(p)
	in.stall.Stop()
	if n > 0 {
		return n, nil
	}
	if err != nil {
		in.x.fail(broke(err))
	} else {
		close(in.back) // it is whole: nobody reads on here
	}
	return 0, in.standing()
}

// pull reads bytes of the answer from the connection, and does what comes between; none
// and no error: it is whole.
func (in *incoming) pull(p []byte) (n int, err error) {
	from := in.x.in
	for from.rest == 0 || from.order != in.order {
		f, err := from.next()
		if err != nil {
			return 0, err
		}
		if f.kind == frameData && from.order == in.order {
			continue
		}
		if err := in.x.frame(f); err != nil {
			return 0, err
		}
		if in.over() {
			return 0, nil
		}
	}
	return from.data(p)
}

func (in *incoming) over() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.whole
}

// standing is why nothing more is to be read; nil: there may be.
func (in *incoming) standing() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.gone:
		return errors.New("the answer was closed")
	case in.err != nil:
		if err := in.ctx.Err(); err != nil {
			return err
		}
		return in.err
	case in.whole:
		return io.EOF
	}
	return nil
}

// Close implements io.Closer. An answer that was not read to its end ends the connection:
// there is nothing else on it.
func (in *incoming) Close() error {
	in.mu.Lock()
	again, whole := in.gone, in.whole && in.err == nil
	in.gone = true
	in.change.Broadcast()
	in.mu.Unlock()
	in.stall.Stop()
	in.leave()
	if again {
		return nil
	}
	in.x.release(whole)
	return nil
}
