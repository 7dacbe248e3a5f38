package paywall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// Bounds of what one request goes through.
const (
	maxTurns   = 12 // answers that are no success
	maxWaits   = 64 // times that it waits for confirmations
	maxReasked = 3  // times that the provider asks for more
)

// RoundTrip implements http.RoundTripper. An answer that is neither a 402 nor one of the
// scheme's own refusals comes back as it is: it was not charged. Errors: *PaymentError,
// the context's, and the connection's.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	origin := originOf(req.URL)
	if origin == "" {
		return t.base.RoundTrip(req)
	}
	if !t.allowed(req.URL.Host) {
		return t.unpaid(req)
	}
	a, err := t.account(origin)
	if err != nil {
		return nil, errors.Join(t.fail(req.URL.String(), "", err), closeBody(req))
	}
	r := &trip{t: t, a: a, req: req, target: req.URL.String(), method: req.Method}
	if r.method == "" {
		r.method = http.MethodGet
	}
	r.expect = Expect{Check: t.cfg.Check}
	if r.key = req.Header.Get(mpp.HeaderIdempotencyKey); r.key == "" {
		if r.key, err = t.c.NewKey(); err != nil {
			return nil, errors.Join(err, closeBody(req))
		}
	}
	if err := r.rewindable(); err != nil {
		return nil, err
	}
	r.expect.body = r.bytes
	resp, err := r.run(req.Context())
	if err != nil {
		id := ""
		if r.lane != nil {
			id = r.lane.id
		}
		return nil, t.fail(r.target, id, err)
	}
	return resp, nil
}

// CloseIdleConnections closes connections, not channels; http.Client calls it.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// unpaid sends a request to a host that may not be paid.
func (t *Transport) unpaid(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusPaymentRequired {
		return resp, err
	}
	if asksUs(resp) {
		return nil, errors.Join(t.fail(req.URL.String(), "", fmt.Errorf("%w: %s", ErrNotAllowed, req.URL.Host)), closeAnswer(resp.Body))
	}
	return resp, nil
}

// asksUs reports whether a 402 asks for a payment by our method.
func asksUs(resp *http.Response) bool {
	list, err := mpp.ParseChallenges(resp.Header.Values(mpp.HeaderChallenge))
	for _, ch := range list {
		if err == nil && ch.Method == bitcoin.Method && ch.Intent == bitcoin.Intent {
			return true
		}
	}
	return false
}

func closeBody(req *http.Request) error {
	if req.Body == nil {
		return nil
	}
	return req.Body.Close()
}

// trip is one request on its way, with all its repeats.
type trip struct {
	t      *Transport
	a      *account
	req    *http.Request
	target string
	method string
	key    string
	expect Expect
	body   func() (io.ReadCloser, error) // nil: it can be sent once
	used   bool                          // the body is with the connection
	lane   *lane
	cost   tariff
	after  string // id of the event behind which a stream goes on; "": the request's own
}

// bytes is the body, where it can be read again. Errors: ErrBody.
func (r *trip) bytes() ([]byte, error) {
	if r.body == nil {
		return nil, ErrBody
	}
	body, err := r.body()
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(body, r.t.cfg.MaxBody+1))
	return raw, errors.Join(err, body.Close())
}

// rewindable makes sure that the body can be sent again, where it is short enough.
func (r *trip) rewindable() error {
	switch {
	case r.req.Body == nil || r.req.Body == http.NoBody:
		r.body = func() (io.ReadCloser, error) { return http.NoBody, nil }
		return nil
	case r.req.GetBody != nil:
		r.body = r.req.GetBody
		return closeBody(r.req) // each sending takes one of its own
	}
	head, err := io.ReadAll(io.LimitReader(r.req.Body, r.t.cfg.MaxBody+1))
	if err != nil {
		return errors.Join(err, closeBody(r.req))
	}
	if int64(len(head)) > r.t.cfg.MaxBody {
		r.req = r.req.Clone(r.req.Context())
		r.req.Body = rest{io.MultiReader(bytes.NewReader(head), r.req.Body), r.req.Body}
		return nil
	}
	r.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(head)), nil }
	return closeBody(r.req)
}

// send sends the request once, with more fields.
func (r *trip) send(ctx context.Context, more http.Header) (*http.Response, error) {
	out := r.req.Clone(ctx)
	switch {
	case r.body != nil:
		body, err := r.body()
		if err != nil {
			return nil, err
		}
		out.Body, out.GetBody = body, nil
		if r.method == http.MethodPost && r.req.ContentLength == 0 {
			// an empty POST is a payment that comes alone: this one says that it is not
			out.ContentLength = -1
			if body == http.NoBody {
				out.Body = io.NopCloser(bytes.NewReader(nil))
			}
		}
	case r.used:
		return nil, ErrBody
	}
	r.used = true
	if out.Header.Get(mpp.HeaderAccept) == "" { // draft-httpauth-payment-02 section 7.4
		out.Header.Set(mpp.HeaderAccept, accepts)
	}
	if out.Header.Get("Accept-Encoding") == "" {
		out.Header.Set("Accept-Encoding", "identity") // bytes are counted as they are sent
	}
	out.Header.Set(mpp.HeaderIdempotencyKey, r.key)
	if r.after != "" {
		out.Header.Set(headerLastEvent, r.after)
	}
	for name, values := range more {
		if name == mpp.HeaderCredential && r.req.Header.Get(name) != "" {
			return nil, ErrAuthorization
		}
		out.Header[name] = values
	}
	return r.t.base.RoundTrip(out)
}

// run sends the request, unpaid where no price is known, and pays where it has to.
func (r *trip) run(ctx context.Context) (*http.Response, error) {
	q := r.t.c.recall(r.target)
	if q != nil && r.expect.check(q) != nil {
		q = nil
	}
	if q == nil {
		resp, err := r.again(ctx, func() (*http.Response, error) { return r.send(ctx, nil) })
		if err != nil || resp.StatusCode != http.StatusPaymentRequired || !asksUs(resp) {
			return resp, err
		}
		q, err = r.t.c.quoteOf(resp, r.target, r.expect)
		if err = errors.Join(err, closeAnswer(resp.Body)); err != nil {
			return nil, err
		}
	}
	resp, receipt, err := r.pay(ctx, q)
	if err != nil || receipt == nil {
		return resp, err
	}
	return r.settle(ctx, resp, *receipt)
}

// again repeats a sending while no answer comes.
func (r *trip) again(ctx context.Context, send func() (*http.Response, error)) (*http.Response, error) {
	for n := 0; ; n++ {
		resp, err := send()
		if err == nil || ctx.Err() != nil || r.body == nil || n >= r.t.cfg.Retries || errors.Is(err, ErrAuthorization) {
			return resp, err
		}
		r.t.c.cfg.Log.Debug("a request is repeated", "url", r.target, "reason", err)
		if err := r.t.c.cfg.Sleep(ctx, patience(n, err)); err != nil {
			return nil, err
		}
	}
}

// turns counts what a request went through.
type turns struct {
	all, waits, asked, lost int
	required                uint64 // sat, what the provider wants before it delivers; 0: it did not say
}

// pay sends the request with a payment until there is a success. The receipt is nil
// where nothing was charged.
func (r *trip) pay(ctx context.Context, q *Quoted) (*http.Response, *bitcoin.Receipt, error) {
	var n turns
	for {
		resp, receipt, refused, err := r.turn(ctx, q, n.required)
		if err != nil || refused == nil {
			return resp, receipt, err
		}
		n.required = 0
		if n.all++; n.all-n.waits > maxTurns {
			return nil, nil, refused
		}
		if err := r.next(ctx, refused, &n); err != nil {
			return nil, nil, err
		}
		if again := r.t.c.recall(r.target); again != nil {
			q = again
		}
	}
}

// next decides what is done about a refusal: nil is to try again.
func (r *trip) next(ctx context.Context, refused error, n *turns) error {
	var unconfirmed *UnconfirmedError
	var insufficient *InsufficientError
	switch {
	case errors.As(refused, &unconfirmed) && n.waits < maxWaits:
		n.waits++
		return r.t.c.cfg.Sleep(ctx, unconfirmed.RetryAfter)
	case errors.As(refused, &insufficient) && n.asked < maxReasked:
		n.asked++
		n.required = insufficient.Required
		return nil
	case errors.Is(refused, ErrGone), errors.Is(refused, ErrExpiring), errors.Is(refused, channel.ErrAmountExceeds), errors.Is(refused, channel.ErrFinalized):
		r.t.c.cfg.Log.Info("the channel is not used any more", "channel", r.lane.id, "reason", refused)
		r.lane.evict()
		return nil
	case errors.Is(refused, errFresh):
		return nil
	case errors.Is(refused, ErrUnreachable) && ctx.Err() == nil && n.lost < r.t.cfg.Retries: // it broke off: what it said is not known
		n.lost++
		return r.t.c.cfg.Sleep(ctx, patience(n.lost-1, refused))
	}
	return refused
}

// errFresh: a refusal that came with a fresh challenge, which was all that was missing.
var errFresh = errors.New("a fresh challenge is used")

// turn sends the request once with a payment, with repeats while no answer comes.
func (r *trip) turn(ctx context.Context, q *Quoted, required uint64) (resp *http.Response, receipt *bitcoin.Receipt, refused, err error) {
	if r.cost, err = tariffOf(q); err != nil {
		return nil, nil, nil, err
	}
	settled := r.expect
	settled.Recipient = q.Request.Recipient
	if r.lane, err = r.a.lane(ctx, q, r.cost, settled); err != nil {
		return nil, nil, nil, err
	}
	update, err := r.lane.begin(ctx, r.cost, required)
	if err != nil {
		return nil, nil, nil, err
	}
	over := func(left bool) {
		r.lane.answered(r.cost, left)
		r.lane.ended(0)
	}
	a := ask{method: r.method, id: r.lane.id, target: r.target, key: r.key, expect: settled,
		payload: bitcoin.Voucher{ChannelID: r.lane.id, CumulativeAmount: update.Amount, Signature: update.Signature}}
	header, err := r.t.c.credential(ctx, a.id, q, a.payload, a.key, nil)
	if err == nil {
		err = r.asking(ctx)
	}
	if err != nil {
		over(false)
		return nil, nil, nil, err
	}
	resp, err = r.again(ctx, func() (*http.Response, error) { return r.send(ctx, header) })
	if err != nil {
		over(true)
		if ctx.Err() == nil && !errors.Is(err, ErrBody) && !errors.Is(err, ErrAuthorization) {
			err = unreachable("%w", err)
		}
		return nil, nil, nil, err
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 && resp.Header.Get(mpp.HeaderReceipt) != "" {
		got, err := r.t.c.receipt(ctx, a, resp)
		if err != nil {
			over(true)
			return nil, nil, nil, errors.Join(err, closeAnswer(resp.Body))
		}
		return resp, &got, nil, nil
	}
	over(false)
	if resp.StatusCode != http.StatusPaymentRequired && resp.StatusCode != http.StatusGone {
		return resp, nil, nil, nil // the handler's own: not charged
	}
	resp, refused, err = r.refused(resp, a, q)
	return resp, nil, refused, err
}

// refused reads a 402 or a 410. One that is not the scheme's comes back as it is.
func (r *trip) refused(resp *http.Response, a ask, q *Quoted) (*http.Response, error, error) {
	if resp.StatusCode == http.StatusGone {
		body, err := readAnswer(resp.Body, mpp.MaxProblem)
		if err = errors.Join(err, closeAnswer(resp.Body)); err != nil {
			return nil, err, nil
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		if p, err := mpp.ParseProblem(body); err != nil || p.Type != mpp.ProblemChannelNotFound && p.Type != mpp.ProblemChannelFinalized {
			return resp, nil, nil
		}
		return nil, refusal(resp), nil
	}
	fresh, refused := r.t.c.refused(resp, a, q)
	if err := closeAnswer(resp.Body); err != nil {
		return nil, nil, err
	}
	if fresh {
		refused = fmt.Errorf("%w: %w", errFresh, refused)
	}
	return nil, refused, nil
}

// settle enters a success into the ledger: by the request at once, by the byte as it is
// read.
func (r *trip) settle(ctx context.Context, resp *http.Response, receipt bitcoin.Receipt) (*http.Response, error) {
	l := r.lane
	stream := streamsEvents(resp.Header)
	byRequest := r.cost.unit == bitcoin.UnitRequest || r.cost.unit == bitcoin.UnitEvent && !stream
	msat := receipt.RequestMsat
	if byRequest {
		if most := r.cost.cost(1); msat == 0 && receipt.Units > 0 || msat > most {
			msat = most // what was agreed
		}
	}
	claimed, err := l.claim(ctx, receipt, msat)
	if err == nil && byRequest {
		err = l.owe(ctx, claimed, claimed, 0)
	}
	l.answered(r.cost, false) // after it is in the ledger: who waits for credit finds it
	if err != nil {
		l.ended(0)
		return nil, errors.Join(err, closeAnswer(resp.Body))
	}
	b := &paidBody{trip: r, ctx: ctx, resp: resp, cur: resp, body: resp.Body, hash: newHash()}
	if !byRequest {
		b.bill = newBill(ctx, l, r.target, r.expect, r.cost, msat, claimed)
		if stream {
			b.events = newEventReader(b)
			resp.Header.Del("Content-Length")
			resp.ContentLength = -1
		}
		if stream && r.req.Header.Get(headerLastEvent) != "" {
			b.bill.goesOn()
		}
	}
	resp.Body = b
	return resp, nil
}
