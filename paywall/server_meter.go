package paywall

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
)

// metering is how an answer is charged that is made while it is delivered.
type metering struct {
	price, per uint64                     // msat for per units of the line
	least      uint64                     // units that the first charge has at the least
	first      uint64                     // msat that it has at the most: reserved while the handler runs
	limit      func(channel string) error // has a say about a request that is no repeat; nil: none
	body       string                     // hash of the request's body; "": it is not known in full
}

// sells reports whether a request asks for something that is charged.
func (r Resource) sells() bool { return len(r.Items) > 0 || r.metered != nil }

// body is the hash of the request's body, where it is known.
func (r Resource) body() string {
	if r.metered == nil {
		return ""
	}
	return r.metered.body
}

// running is what the answers that are being made will be charged, by channel: nobody
// has more made than it can pay.
type running struct {
	mu   sync.Mutex
	msat map[string]uint64
}

// enter reserves msat and returns what was reserved before.
func (r *running) enter(id string, msat uint64) (before uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.msat == nil {
		r.msat = map[string]uint64{}
	}
	before = r.msat[id]
	r.msat[id] += msat
	return before
}

func (r *running) leave(id string, msat uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.msat[id] -= msat; r.msat[id] == 0 {
		delete(r.msat, id)
	}
}

// meter admits a request whose answer is charged as it is handed over: the update is
// verified and would cover the beginning. It is saved with the first charge.
func (v *visit) meter(ctx context.Context, u channel.Update) (*Grant, error) {
	m := v.res.metered
	name, err := v.delivery(u)
	if err != nil {
		return nil, err
	}
	g := &Grant{
		Challenge: v.credential.Challenge.ID, server: v.s, quote: v.res.Quote, update: &u, first: m.first,
		line: payee.Line{Resource: name, Units: m.least, Price: m.price, Per: m.per, Since: v.s.cfg.Now().Add(-v.s.cfg.TTL).Unix()},
	}
	q := g.request()
	q.Try, q.Reserved = true, v.s.running.enter(v.proved, m.first)
	q.Channel = v.proved
	rec, err := v.s.cfg.Payee.Pay(ctx, q)
	if err != nil {
		v.s.running.leave(v.proved, m.first)
		_, kept := v.take(ctx, u, nil)
		return nil, errors.Join(err, kept)
	}
	if m.limit != nil && rec.LineUnits == 0 {
		if err := m.limit(v.proved); err != nil {
			v.s.running.leave(v.proved, m.first)
			_, kept := v.take(ctx, u, nil)
			return nil, errors.Join(err, kept)
		}
	}
	g.Receipt, g.had = rec, rec.LineUnits
	return g, nil
}

// delivery names the answer to a request and to all its repeats. Without an
// Idempotency-Key the same challenge, amount, method, URL and body are a repeat; a
// request whose body is not known in full has none. docs/protocol.md, section 13.
func (v *visit) delivery(u channel.Update) (name [32]byte, err error) {
	key := "key " + v.key
	if v.key == "" {
		key = fmt.Sprintf("challenge %s %d", v.credential.Challenge.ID, u.Amount)
	}
	body := v.res.metered.body
	if body == "" {
		var once [16]byte
		if _, err := rand.Read(once[:]); err != nil {
			return name, fmt.Errorf("no randomness: %w", err)
		}
		body = "once " + hex.EncodeToString(once[:])
	}
	return sha256.Sum256([]byte(strings.Join([]string{
		"spillway/answer", v.proved, key, v.r.Method, v.r.URL.EscapedPath(), v.r.URL.RawQuery,
		strings.Join(v.r.Header.Values("Range"), ","), body,
	}, "\n"))), nil
}

func (g *Grant) request() payee.Request {
	line := g.line
	return payee.Request{Channel: g.Receipt.Channel, Update: g.update, Line: &line, Credit: g.quote.CreditMsat, Name: g.quote.describe()}
}

// meter charges a metered answer up to units of its line, before the last of them is
// handed over, and saves the update that came with the request. Where the credit is
// used up it waits as Charge does.
func (g *Grant) meter(ctx context.Context, units uint64, waiting func(bool)) error {
	g.line.Units = units
	return g.await(ctx, g.chargeLine(ctx), waiting)
}

// meterAs is meter, and says why it waits: when a wait begins, and again and again.
func (g *Grant) meterAs(ctx context.Context, units uint64, why func(payee.Receipt, error)) error {
	g.line.Units = units
	return g.awaitSaying(ctx, g.chargeLine(ctx), nil, why)
}

// chargeLine charges the line once, with the update that came, if it is not saved yet.
func (g *Grant) chargeLine(ctx context.Context) func() (payee.Receipt, error) {
	return func() (payee.Receipt, error) {
		rec, err := g.server.cfg.Payee.Pay(ctx, g.request())
		if rec.Channel != "" {
			g.update = nil
			g.server.rose(rec.Channel, rec.Paid)
			g.server.bells.rang(rec.Channel, rec.Paid)
		}
		if err == nil {
			g.unreserve()
		}
		return rec, err
	}
}

// again looks anew at what the line was charged before: somebody else may have charged it
// since the request was admitted.
func (g *Grant) again(ctx context.Context) error {
	q := g.request()
	q.Try = true
	rec, err := g.server.cfg.Payee.Pay(ctx, q)
	if rec.Channel != "" {
		g.Receipt = rec
	}
	if errors.Is(err, channel.ErrInsufficient) {
		return nil // it pauses
	}
	return err
}

// unreserve ends what was reserved for the first charge.
func (g *Grant) unreserve() {
	if g.first > 0 {
		g.server.running.leave(g.Receipt.Channel, g.first)
		g.first = 0
	}
}

// end gives back what is reserved, and keeps an update that no charge has saved: it is
// money all the same.
func (g *Grant) end(ctx context.Context) (payee.Receipt, error) {
	g.unreserve()
	if g.update == nil {
		return g.Receipt, nil
	}
	rec, err := g.server.cfg.Payee.Pay(ctx, payee.Request{Channel: g.Receipt.Channel, Update: g.update, Credit: g.quote.CreditMsat})
	if err == nil {
		g.update = nil
		g.server.rose(rec.Channel, rec.Paid)
		g.server.bells.rang(rec.Channel, rec.Paid)
	}
	return rec, err
}
