package paywall

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/spillway/spillway/mpp"
)

// Buyer is who pays for the request that a handler answers.
type Buyer struct {
	Channel string // id of the channel, txid:vout
	Price   Price  // what was agreed
}

type buyerKey struct{}

// BuyerOf tells a handler behind the middleware who pays for a request; false: it is free.
func BuyerOf(ctx context.Context) (Buyer, bool) {
	b, ok := ctx.Value(buyerKey{}).(Buyer)
	return b, ok
}

// sell runs the payment for a request, and the handler once it is known that its
// answer will be paid.
func (w *wall) sell(rw http.ResponseWriter, r *http.Request, next http.Handler, price Price, unpaid bool) {
	client, ok := w.asks(rw, r)
	if !ok {
		return
	}
	worth := func() { w.unpaid.giveBack(client, w.cfg.Unpaid) }
	res := Resource{Quote: price.quote(), metered: price.metering(""), Worth: worth}
	res.metered.limit = func(channel string) error { return w.mayAsk(channel, price) }
	inner := r
	if !unpaid {
		var err error
		if inner, res.metered.body, err = w.body(rw, r); err != nil {
			writeProblem(rw, r, mpp.NewProblem(mpp.ProblemBadRequest, "the request's body broke off; nothing was charged"))
			return
		}
	}
	grant, ok := w.cfg.Server.Admit(rw, r, res)
	if !ok {
		return
	}
	worth()
	m := &meter{wall: w, w: rw, r: r, price: price, grant: grant, header: http.Header{}, name: grant.line.Resource}
	m.flow = newFlow(grant, price, w.cfg.MaxWait)
	defer m.end()
	m.ctx, m.cancel = context.WithCancelCause(context.WithValue(r.Context(), buyerKey{}, Buyer{Channel: grant.Receipt.Channel, Price: price}))
	defer m.cancel(nil)
	inner = inner.WithContext(m.ctx)
	inner.Header = inner.Header.Clone()
	inner.Header.Del(w.cfg.Server.cfg.CredentialField)
	w.deliver(m, inner, next)
}

// body reads a request's body as far as it is kept in memory, and returns the request
// with it, and its hash; "": it is longer.
func (w *wall) body(rw http.ResponseWriter, r *http.Request) (*http.Request, string, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, "none", nil
	}
	if r.ContentLength > w.cfg.MaxBody || w.cfg.Unread != nil && w.cfg.Unread(r) {
		return r, "", nil
	}
	defer w.readBy(rw, r)()
	head, err := io.ReadAll(io.LimitReader(r.Body, w.cfg.MaxBody+1))
	if err != nil {
		return nil, "", err
	}
	inner := r.WithContext(r.Context())
	if int64(len(head)) > w.cfg.MaxBody {
		inner.Body = rest{io.MultiReader(bytes.NewReader(head), r.Body), r.Body}
		return inner, "", nil
	}
	inner.Body = io.NopCloser(bytes.NewReader(head))
	sum := sha256.Sum256(head)
	return inner, hex.EncodeToString(sum[:]), nil
}

// leastRate is how many bytes a second a request's body comes with at the least.
const leastRate = 4 << 10

// readBy bounds how long a body takes to come, where the server has no bound of its own;
// what it returns ends that.
func (w *wall) readBy(rw http.ResponseWriter, r *http.Request) func() {
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && s.ReadTimeout > 0 {
		return func() {}
	}
	rc := http.NewResponseController(rw)
	most := w.cfg.Stall + time.Duration(w.cfg.MaxBody/leastRate)*time.Second
	_ = rc.SetReadDeadline(time.Now().Add(most)) // not every writer can
	return func() { _ = rc.SetReadDeadline(time.Time{}) }
}

// rest is a body of which a part was read already.
type rest struct {
	io.Reader
	io.Closer
}

// deliver answers with what was kept for a repeat, or has the handler make it.
func (w *wall) deliver(m *meter, r *http.Request, next http.Handler) {
	a, ok, waited, err := w.kept.enter(r.Context(), m.name, w.cfg.MaxWait)
	if err == nil && !ok {
		err = errRepeated
	}
	if err != nil {
		m.refuse(err)
		return
	}
	if a != nil {
		next = a
		if m.price.After != nil {
			m.price.After = func(*http.Request, Answer) uint64 { return a.units }
		}
	} else {
		defer func() { w.kept.leave(m.name, m.charged, m.units > m.grant.had, m.whole) }()
	}
	if waited {
		err = m.grant.again(r.Context())
	}
	if m.grant.had = m.grant.Receipt.LineUnits; err != nil {
		m.refuse(err)
		return
	}
	defer m.rest()
	next.ServeHTTP(m, r)
	m.finish(a == nil)
}

// after is what follows an event in a stream of them that was kept; all of it where
// there is no such event.
func (a *answer) after(id string) []byte {
	if id == "" || !streamsEvents(a.header) {
		return a.body
	}
	var cut events
	at, found := 0, -1
	_ = cut.feed(a.body, func(p piece) error {
		if at += len(p.raw); p.last && p.hasID && p.id == id {
			found = at
		}
		return nil
	})
	return a.body[max(found, 0):]
}

// ServeHTTP answers with what was kept.
func (a *answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	w.WriteHeader(a.status)
	if body := a.after(r.Header.Get(headerLastEvent)); len(body) > 0 {
		if _, err := w.Write(body); err != nil {
			return // said by the writer
		}
	}
	for name, values := range a.trailer {
		h[name] = values
	}
}

// refuse answers with a refusal where nothing was sent yet, and breaks off otherwise,
// so that the client sees that something is missing.
func (m *meter) refuse(err error) {
	if m.sent {
		m.wall.cfg.Server.cfg.Log.Debug("an answer broke off", "channel", m.grant.Receipt.Channel, "path", m.r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	m.sent = true
	clear(m.w.Header())
	on := m.grant.Receipt
	m.wall.cfg.Server.refuse(&visit{
		s: m.wall.cfg.Server, w: m.w, r: m.r, proved: on.Channel,
		res: Resource{Quote: m.grant.quote, metered: &metering{}},
	}, err)
}

// end keeps the update that came with a request which was charged nothing.
func (m *meter) end() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.r.Context()), 10*time.Second)
	defer cancel()
	if _, err := m.grant.end(ctx); err != nil && refusalOf(err) == nil {
		m.wall.cfg.Server.cfg.Log.Warn("an update of an uncharged request was not kept", "channel", m.grant.Receipt.Channel, "error", err)
	}
}

// errNoPayment ends an answer that waited too long.
var errNoPayment = errors.New("no payment came in time")
