package paywall

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// ask sends one request and waits for the head of its answer; the connection is its own
// until the body is closed.
func (x *Compact) ask(ctx context.Context, a ask, q *Quoted, v bitcoin.Voucher) (*http.Response, error) {
	query, ok := x.fits(a.target)
	if !ok {
		return nil, errNoCompact
	}
	update := channel.Update{Amount: v.CumulativeAmount, Signature: v.Signature}
	patient, cancel := context.WithTimeout(ctx, x.c.net.stall)
	defer cancel()
	if err := x.Bind(patient, a.id, q, update); err != nil {
		return nil, err
	}
	if a.method == http.MethodHead {
		return x.payAlone(patient, a, q, update)
	}
	f := orderFrame{update: update, key: a.key, match: len(a.header) > 0, query: query}
	in := x.expect(a.id, q, &f)
	in.ctx, in.leave = ctx, context.AfterFunc(ctx, func() { x.fail(context.Cause(ctx)) })
	if err := x.out.put(f.append); err != nil {
		in.leave()
		return nil, err
	}
	resp, err := in.head()
	if err != nil {
		in.leave()
		return nil, err
	}
	resp.Request = requestOf(a)
	return resp, nil
}

// expect makes room for the answer to an order, and names it.
func (x *Compact) expect(id string, q *Quoted, f *orderFrame) *incoming {
	in := &incoming{x: x, id: id, terms: q.Challenge.ID, back: make(chan struct{})}
	in.change = sync.NewCond(&in.mu)
	in.stall = time.AfterFunc(x.c.net.stall, func() { x.fail(unreachable("%w", errStalled)) })
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last++
	f.order, f.number = x.last, x.ones[id].number
	in.order, x.orders[f.order] = f.order, in
	if x.ended != nil { // nobody listens any more
		in.err = x.ended
		in.stall.Stop()
	}
	return in
}

// head waits for the head of an answer, and for the connection to read the rest from.
func (in *incoming) head() (*http.Response, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for !in.lent && in.err == nil {
		in.change.Wait()
	}
	if !in.lent {
		return nil, in.err
	}
	in.resp.Body = in
	return in.resp, nil
}

// requestOf is what an answer says that it is for.
func requestOf(a ask) *http.Request {
	u, err := url.Parse(a.target)
	if err != nil {
		u = &url.URL{}
	}
	return &http.Request{Method: a.method, URL: u, Header: http.Header{}}
}

// payAlone sends an update that pays for nothing new, and waits until it is saved.
func (x *Compact) payAlone(ctx context.Context, a ask, q *Quoted, u channel.Update) (*http.Response, error) {
	if paid, _ := x.Acknowledged(a.id); paid < u.Amount { // else the bind has brought it
		if err := x.Update(a.id, u); err != nil {
			return nil, err
		}
		if err := x.Wait(ctx, a.id, u.Amount); err != nil {
			return nil, err
		}
	}
	x.mu.Lock()
	at := x.ones[a.id].at
	x.mu.Unlock()
	text, err := x.receipt(a.id, q.Challenge.ID, slip{at: at})
	if err != nil {
		return nil, misbehaved("%w", err)
	}
	x.release(true)
	return &http.Response{
		Status: "204 No Content", StatusCode: http.StatusNoContent, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{mpp.HeaderReceipt: {text}}, Body: http.NoBody, Request: requestOf(a),
	}, nil
}
