package paywall

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
)

// order has a request wait for its turn: one is answered after the other. Where many are
// refused and their answers not taken, nothing more is read.
func (x *wire) order(ctx context.Context, f orderFrame) error {
	x.mu.Lock()
	o := x.ones[f.number]
	switch {
	case o == nil:
		x.mu.Unlock()
		return badFrame("number %d is no channel's", f.number)
	case len(x.orders) < maxOrders:
		defer x.mu.Unlock()
		x.orders = append(x.orders, f)
		x.getAnswered(ctx)
		return nil
	case !o.over && f.update.Amount > o.at.paid:
		x.note(ctx, o, f.update) // it is money all the same
	}
	x.denying++
	wait := x.denying > maxOrders
	x.mu.Unlock()
	deny := func() {
		x.deny(f.order, http.StatusServiceUnavailable, "too many requests wait on this connection")
		x.mu.Lock()
		x.denying--
		x.mu.Unlock()
	}
	if wait {
		deny()
	} else {
		x.group.Go(deny)
	}
	return nil
}

// lingering is how long whoever has answered the last order waits for the next one: a buyer
// asks for chunk after chunk, and a new goroutine would grow its stack for each.
const lingering = 100 * time.Millisecond

// getAnswered has somebody answer what waits; x.mu is held.
func (x *wire) getAnswered(ctx context.Context) {
	if x.serving {
		return
	}
	x.serving = true
	if x.answerer {
		select {
		case x.more <- struct{}{}:
		default: // it is told already
		}
		return
	}
	x.answerer = true
	x.group.Go(func() { x.answer(ctx) })
}

// answer answers orders, until none came for a while.
func (x *wire) answer(ctx context.Context) {
	rest := time.NewTimer(lingering)
	defer rest.Stop()
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		for len(x.orders) > 0 {
			x.answerNext(ctx)
		}
		x.orders, x.serving = nil, false
		x.mu.Unlock()
		rest.Reset(lingering)
		more := false
		select {
		case <-x.more:
			more = true
		case <-rest.C:
		case <-ctx.Done():
		}
		x.mu.Lock()
		if !more && len(x.orders) == 0 {
			x.answerer = false
			return
		}
	}
}

// answerNext answers the first order that waits; x.mu is held, but for that while.
func (x *wire) answerNext(ctx context.Context) {
	f := x.orders[0]
	x.orders = x.orders[1:]
	o := x.ones[f.number]
	over, terms := o.over, o.terms
	x.mu.Unlock()
	defer x.mu.Lock()
	switch {
	case over:
		x.deny(f.order, http.StatusGone, "the channel was refused on this connection")
	case x.cfg.Handler == nil:
		x.deny(f.order, http.StatusNotFound, "only payments are taken here")
	default:
		x.handle(ctx, f, o, terms)
	}
}

// deny answers an order with a problem that has nothing to do with payment.
func (x *wire) deny(order uint64, status int, why string) {
	a := &compactAnswer{x: x, order: order, header: http.Header{}}
	raw, err := json.Marshal(&mpp.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: why})
	if err == nil {
		a.header.Set("Content-Type", mpp.ContentTypeProblem)
		a.header.Set("Retry-After", "1")
		a.WriteHeader(status)
		_, err = a.Write(raw)
	}
	a.end(err != nil)
}

// compactPaid is what a request of the compact transport comes with in place of a
// credential: the connection has proved whose channel it is.
type compactPaid struct {
	challenge mpp.Challenge
	voucher   bitcoin.Voucher
}

type compactPaidKey struct{}

func compactOf(r *http.Request) *compactPaid {
	p, _ := r.Context().Value(compactPaidKey{}).(*compactPaid)
	return p
}

// handle has the handler answer an order.
func (x *wire) handle(ctx context.Context, f orderFrame, o *one, c *echoed) {
	a := &compactAnswer{x: x, order: f.order, header: http.Header{}}
	broken := true
	defer func() {
		if why := recover(); why != nil && why != http.ErrAbortHandler {
			x.s.cfg.Log.Error("a handler panicked", "path", x.r.URL.Path, "panic", fmt.Sprint(why), "stack", string(debug.Stack()))
		}
		a.end(broken)
		if a.slip != nil {
			x.mu.Lock()
			if a.slip.at.paid > o.at.paid {
				o.at = a.slip.at
			}
			x.mu.Unlock()
		}
	}()
	paid := &compactPaid{c.Challenge, bitcoin.Voucher{ChannelID: o.id, CumulativeAmount: f.update.Amount, Signature: f.update.Signature}}
	x.cfg.Handler.ServeHTTP(a, x.request(context.WithValue(ctx, compactPaidKey{}, paid), f, c))
	broken = false
}

// request is an order as a handler sees it.
func (x *wire) request(ctx context.Context, f orderFrame, c *echoed) *http.Request {
	u := &url.URL{Path: x.r.URL.Path, RawPath: x.r.URL.RawPath, RawQuery: f.query}
	r := &http.Request{
		Method: http.MethodGet, URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody,
		Host: x.r.Host, RemoteAddr: x.r.RemoteAddr, RequestURI: u.RequestURI(), TLS: x.r.TLS,
	}
	if f.key != "" {
		r.Header.Set(mpp.HeaderIdempotencyKey, f.key)
	}
	if f.match && c.tag != "" {
		r.Header.Set("If-Match", c.tag)
	}
	return r.WithContext(ctx)
}

// answerRoom is what stands before the first bytes of an answer in a buffer, in bytes: the
// message's head, the reply, and the head of the data.
const (
	dataRoom   = 24
	answerRoom = socketHead + maxReply + dataRoom
	maxReply   = 1 << 10 // of a longer reply the bytes come in the next message
)

// answerBuffers hold what is gathered of an answer: at most a message, and its end.
var answerBuffers = sync.Pool{New: func() any { b := make([]byte, answerRoom+maxDataFrame); return &b }}

// compactAnswer is the ResponseWriter of an order.
type compactAnswer struct {
	x        *wire
	order    uint64
	header   http.Header
	trailers []string // that were announced
	status   int
	slip     *slip // newest receipt
	late     *slip // one that came after the header
	sent     bool
	reply    []byte  // the frame that begins it, where that has not left
	buf      *[]byte // what is gathered lies behind answerRoom
	n        int     // bytes of it
	written  uint64
	promised uint64 // bytes, by Content-Length; 0: not said
	err      error
	over     bool
}

// Header implements http.ResponseWriter.
func (a *compactAnswer) Header() http.Header { return a.header }

// receipt notes where the channel stands for the header, or behind the body.
func (a *compactAnswer) receipt(r payee.Receipt) {
	s := &slip{standingOf(r), uint64(max(r.Units, 0)), r.Line}
	if a.slip = s; a.sent {
		a.late = s
	}
}

// notSent are fields that say nothing on this connection.
func notSent(name string) bool {
	return name == mpp.HeaderReceipt || name == "X-Content-Type-Options" || strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, http.TrailerPrefix)
}

// WriteHeader implements http.ResponseWriter.
func (a *compactAnswer) WriteHeader(status int) {
	if a.sent || status < 200 {
		return
	}
	a.sent, a.status = true, status
	f := replyFrame{order: a.order, status: uint64(status), slip: a.slip, fields: http.Header{}}
	for name, values := range a.header {
		if !notSent(name) {
			f.fields[name] = values
		}
	}
	if a.slip == nil && len(a.header[mpp.HeaderReceipt]) > 0 {
		f.fields[mpp.HeaderReceipt] = a.header[mpp.HeaderReceipt]
	}
	for _, line := range a.header.Values("Trailer") {
		for _, name := range strings.Split(line, ",") {
			a.trailers = append(a.trailers, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	if n, err := strconv.ParseUint(a.header.Get("Content-Length"), 10, 62); err == nil {
		a.promised = n
	}
	a.reply = f.append(nil)
}

// Write implements http.ResponseWriter.
func (a *compactAnswer) Write(p []byte) (done int, err error) {
	a.WriteHeader(http.StatusOK)
	if a.buf == nil && a.err == nil {
		a.buf = answerBuffers.Get().(*[]byte)
	}
	for done < len(p) && a.err == nil {
		if left := a.full() - a.n; len(p)-done >= left {
			a.hand(p[done:done+left], nil)
			done += left
			continue
		}
		n := copy((*a.buf)[answerRoom+a.n:], p[done:])
		a.n += n
		done += n
	}
	a.written += uint64(done)
	return done, a.err
}

// full is how many bytes of the body a message takes that fills its records of TLS.
func (a *compactAnswer) full() int {
	var scratch [dataRoom]byte
	return maxDataFrame - 4 - len(a.first()) - len(dataHead(scratch[:0], a.order, maxDataFrame))
}

// first is the reply, where it goes in one message with bytes of the body.
func (a *compactAnswer) first() []byte {
	if len(a.reply) > maxReply {
		return nil
	}
	return a.reply
}

// hand sends what was gathered and more of the body, with the reply before it where that
// has not left and a frame behind it, as a message.
func (a *compactAnswer) hand(more, last []byte) {
	if a.err != nil {
		return
	}
	if len(a.reply) > maxReply {
		a.err, a.reply = a.x.out.put(func(to []byte) []byte { return append(to, a.reply...) }), nil
	}
	if a.err == nil {
		a.err = a.x.pipe.message(a.message(more, last))
	}
	if a.n, a.reply = 0, nil; a.err != nil {
		a.x.stop(a.err)
	}
}

// message writes the frames of a message: room is its beginning, up to the end of a
// record of TLS, rest what follows.
func (a *compactAnswer) message(more, last []byte) (room, rest []byte) {
	if a.n+len(more) == 0 {
		return append(append(make([]byte, socketHead), a.reply...), last...), nil
	}
	var scratch [dataRoom]byte
	head := append(scratch[:0], dataHead(scratch[:0], a.order, a.n+len(more))...)
	at := answerRoom - len(a.reply) - len(head)
	b := (*a.buf)[:answerRoom+a.n]
	copy(b[at:], a.reply)
	copy(b[answerRoom-len(head):], head)
	room = b[at-socketHead:]
	if len(last) > 0 {
		return append(append(room, more...), last...), nil
	}
	whole := len(room) - socketHead + 4 // with the head that such a message has
	fill := min((recordBytes-whole%recordBytes)%recordBytes, len(more))
	return append(room, more[:fill]...), more[fill:]
}

// Flush implements http.Flusher.
func (a *compactAnswer) Flush() { _ = a.FlushError() } // the next Write says what went wrong

// FlushError is for http.ResponseController.
func (a *compactAnswer) FlushError() error {
	a.WriteHeader(http.StatusOK)
	if a.n > 0 || a.reply != nil {
		a.hand(nil, nil)
	}
	return a.err
}

// SetWriteDeadline is for http.ResponseController: every message has its own.
func (a *compactAnswer) SetWriteDeadline(time.Time) error { return nil }

// end ends the answer; broken: not all of it was made.
func (a *compactAnswer) end(broken bool) {
	if a.over {
		return
	}
	a.over = true
	if !broken {
		a.WriteHeader(http.StatusOK)
	}
	if !a.sent { // nothing was said of it, and nothing charged that the client could know of
		a.WriteHeader(http.StatusServiceUnavailable)
	}
	f := endFrame{order: a.order, slip: a.late, fields: http.Header{}}
	f.broken = broken || a.err != nil || a.promised > 0 && a.written != a.promised
	for _, name := range a.trailers {
		if values, ok := a.header[name]; ok && name != mpp.HeaderReceipt {
			f.fields[name] = values
		}
	}
	for name, values := range a.header {
		if late, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			f.fields[late] = values
		}
	}
	a.hand(nil, f.append(nil))
	if a.buf != nil {
		answerBuffers.Put(a.buf)
		a.buf = nil
	}
	if a.err != nil {
		a.x.s.cfg.Log.Debug("an answer was not taken", "path", a.x.r.URL.Path, "error", a.err)
	}
}

var (
	_ http.Flusher                    = (*compactAnswer)(nil)
	_ interface{ FlushError() error } = (*compactAnswer)(nil)
)
