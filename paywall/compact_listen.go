package paywall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/mpp"
)

// listen reads what the provider sends until the connection ends.
func (x *Compact) listen(ctx context.Context) {
	defer close(x.closed)
	var err error
	for err == nil {
		err = x.message(ctx)
	}
	if errors.Is(err, errFrame) {
		err = misbehaved("%w", err)
	} else if !errors.Is(err, ErrMisbehaved) {
		err = unreachable("%w", err)
	}
	x.fail(err)
}

var answerBuffers = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// message reads one message. What it holds of an answer's body belongs to that.
func (x *Compact) message(ctx context.Context) error {
	kind, from, err := x.ws.Reader(ctx)
	if err != nil {
		return err
	}
	if kind != websocket.MessageBinary {
		return badFrame("a message of text")
	}
	buf := answerBuffers.Get().(*[]byte)
	n := 0
	for {
		if n == len(*buf) {
			grown := make([]byte, max(2*n, dataRoom+maxDataFrame))
			copy(grown, *buf)
			*buf = grown
		}
		k, err := from.Read((*buf)[n:])
		if n += k; errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			answerBuffers.Put(buf)
			return err
		}
	}
	message, taken := (*buf)[:n], false
	for first := true; first || len(message) > 0; first = false {
		var f frame
		if f, message, err = nextFrame(message); err != nil {
			break
		}
		whole := buf
		if !first || len(message) > 0 {
			whole = nil // others are in it too
		}
		var kept bool
		if kept, err = x.frame(f, whole); err != nil {
			break
		}
		taken = taken || kept
	}
	if !taken {
		answerBuffers.Put(buf)
	}
	return err
}

// frame does what a frame says. buf is the message's buffer where the frame has it to
// itself; taken: it belongs to an answer now.
func (x *Compact) frame(f frame, buf *[]byte) (taken bool, err error) {
	switch f.kind {
	case frameHello:
		return false, x.hear(f)
	case frameBound, frameAck:
		return false, x.acked(f)
	case frameProblem:
		return false, x.refused(f)
	case frameReply:
		r, err := parseReply(f.body)
		if err != nil {
			return false, err
		}
		if in := x.incoming(r.order); in != nil {
			in.begin(r)
		}
		return false, nil
	case frameData:
		order, bytes, err := parseData(f.body)
		if err != nil {
			return false, err
		}
		in := x.incoming(order)
		if in == nil {
			return false, nil
		}
		if buf == nil {
			own := append([]byte(nil), bytes...)
			bytes, buf = own, &own
		}
		return in.take(slab{bytes, buf}), nil
	case frameEnd:
		e, err := parseEnd(f.body)
		if err != nil {
			return false, err
		}
		if in := x.incoming(e.order); in != nil {
			x.mu.Lock()
			delete(x.orders, e.order)
			x.mu.Unlock()
			return false, in.finish(e)
		}
		return false, nil
	}
	return false, nil // of a later version
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

// maxPieces is how much of an answer waits to be read, in pieces of 64 KiB; behind it the
// connection waits.
const maxPieces = 16

type slab struct {
	bytes []byte
	buf   *[]byte
}

// incoming is an answer on its way.
type incoming struct {
	x     *Compact
	id    string // channel
	terms string // challenge
	ctx   context.Context
	leave func() bool // ends the watch on ctx
	stall *time.Timer

	mu     sync.Mutex
	change *sync.Cond
	resp   *http.Response
	pieces []slab
	whole  bool
	err    error // why it breaks off
	gone   bool  // nobody reads it
}

func (x *Compact) incoming(order uint64) *incoming {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.orders[order]
}

// begin takes the head of the answer.
func (in *incoming) begin(r replyFrame) {
	in.stall.Reset(in.x.c.net.stall)
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.resp != nil {
		return
	}
	in.resp = &http.Response{
		Status: fmt.Sprintf("%d %s", r.status, http.StatusText(int(r.status))), StatusCode: int(r.status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: r.fields, ContentLength: -1, Trailer: http.Header{},
	}
	if r.slip != nil {
		in.say(in.resp.Header, *r.slip)
	}
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

// take takes a piece of the body; where too much waits it waits too.
func (in *incoming) take(p slab) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.pieces) >= maxPieces && !in.gone && in.err == nil {
		in.stall.Stop() // it is this side that is slow
		in.change.Wait()
	}
	in.stall.Reset(in.x.c.net.stall)
	if in.gone || in.err != nil {
		return false
	}
	in.pieces = append(in.pieces, p)
	in.change.Broadcast()
	return true
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

// Read implements io.Reader.
func (in *incoming) Read(p []byte) (n int, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.pieces) == 0 {
		switch {
		case in.gone:
			return 0, errors.New("the answer was closed")
		case in.err != nil:
			if err := in.ctx.Err(); err != nil {
				return 0, err
			}
			return 0, in.err
		case in.whole:
			return 0, io.EOF
		}
		in.change.Wait()
	}
	first := &in.pieces[0]
	n = copy(p, first.bytes)
	if first.bytes = first.bytes[n:]; len(first.bytes) == 0 {
		answerBuffers.Put(first.buf)
		in.pieces = in.pieces[1:]
		in.change.Broadcast()
	}
	return n, nil
}

// Close implements io.Closer. An answer that was not read to its end ends the connection:
// there is nothing else on it.
func (in *incoming) Close() error {
	in.mu.Lock()
	again, whole := in.gone, in.whole && in.err == nil
	in.gone = true
	in.pieces = nil
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
