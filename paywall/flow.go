package paywall

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
)

const (
	// defaultWait is how long a delivery pauses for a payment.
	defaultWait = 10 * time.Minute
	// remindEvery is how often a delivery that pauses says so.
	remindEvery = 15 * time.Second
)

// Flow is a delivery that is charged while it flows, over whatever carries it: an
// answer's body, server-sent events, the messages of a WebSocket. It outlives the
// challenge that it began with. Its methods may be called from many goroutines.
type Flow struct {
	grant *Grant
	price Price
	wait  time.Duration

	mu      sync.Mutex
	units   uint64 // where the delivery is, in units of its line
	charged bool   // something was
}

// Flow runs the payment protocol for a request whose delivery is charged by a price,
// as it flows. With (flow, true) nothing is charged yet, and End has to be called; with
// (nil, false) the answer has been written, as by Admit. wait bounds each pause; 0: ten
// minutes. The request may be one that was made up from what came over another
// transport: method, URL and the fields Authorization and Idempotency-Key count.
// Each is a delivery of its own: what flowed cannot be sent again, so nothing of it is
// free in another one, and a credential begins one only.
func (s *Server) Flow(w http.ResponseWriter, r *http.Request, p Price, wait time.Duration) (*Flow, bool) {
	p, err := s.fixed(r, p.of(r))
	if err != nil {
		s.unavailable(&visit{s: s, w: w, r: r}, err)
		return nil, false
	}
	return s.flow(w, r, Resource{Quote: p.quote(), metered: p.metering("")}, p, wait)
}

// flow admits a delivery of its own.
func (s *Server) flow(w http.ResponseWriter, r *http.Request, res Resource, p Price, wait time.Duration) (*Flow, bool) {
	grant, ok := s.Admit(w, r, res)
	if !ok {
		return nil, false
	}
	f := newFlow(grant, p, wait)
	err := s.begins(grant.Receipt.Channel, r)
	if err == nil {
		return f, true
	}
	clear(w.Header())
	s.refuse(&visit{s: s, w: w, r: r, proved: grant.Receipt.Channel, res: Resource{Quote: p.quote(), metered: &metering{}}}, err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 10*time.Second)
	defer cancel()
	f.finish(ctx)
	return nil, false
}

// begins has a request's credential begin one delivery. Errors: errReused where it began
// another.
func (s *Server) begins(channel string, r *http.Request) error {
	var once [16]byte
	if _, err := rand.Read(once[:]); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(r.Header.Get(s.cfg.CredentialField)))
	made := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: hex.EncodeToString(once[:])}, Header: http.Header{}}
	return s.requests.bind(channel, "socket "+hex.EncodeToString(sum[:]), made, "", s.cfg.Now(), s.cfg.TTL)
}

func newFlow(g *Grant, p Price, wait time.Duration) *Flow {
	if wait <= 0 {
		wait = defaultWait
	}
	return &Flow{grant: g, price: p, wait: wait}
}

// Channel is the id of the channel that pays.
func (f *Flow) Channel() string { return f.grant.Receipt.Channel }

// Charge charges for so many more units, in one durable commit, before the first of
// them may be handed over. While the credit is used up it pauses until more is paid on
// any connection; need, where it is set, is told when a pause begins and every 15
// seconds of it. Errors: the context's, channel.ErrInsufficient where no payment came in
// time, and what the payee's driver refuses.
func (f *Flow) Charge(ctx context.Context, units uint64, need func(bitcoin.NeedVoucher)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.to(ctx, f.units+units, need)
}

// chargeTo is Charge for where the delivery will be.
func (f *Flow) chargeTo(ctx context.Context, units uint64, need func(bitcoin.NeedVoucher)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.to(ctx, units, need)
}

// to charges the delivery up to so many units in all; f.mu is held.
func (f *Flow) to(ctx context.Context, units uint64, need func(bitcoin.NeedVoucher)) error {
	f.units = units
	if f.charged && units <= f.grant.line.Units {
		return nil
	}
	units = max(units, f.grant.had) // what was charged before is had again free
	ctx, cancel := context.WithTimeoutCause(ctx, f.wait, errNoPayment)
	defer cancel()
	if err := f.grant.meterSaying(ctx, units, need); err != nil {
		return err
	}
	f.charged = true
	return nil
}

// Receipt is where the channel stands after the newest charge.
func (f *Flow) Receipt() bitcoin.Receipt {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.grant.server.receiptOf(f.grant.Challenge, f.grant.Receipt)
}

// End ends the delivery: what is reserved is given back, and an update that no charge
// has saved is kept. Errors: of the payee's driver.
func (f *Flow) End(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.grant.end(ctx)
	return err
}

// finish is End where nobody can be told: what keeps it from being saved is logged.
func (f *Flow) finish(ctx context.Context) {
	if err := f.End(ctx); err != nil && refusalOf(err) == nil {
		f.grant.server.cfg.Log.Warn("an update of a delivery was not kept", "channel", f.Channel(), "error", err)
	}
}

// receiptOf writes a receipt.
func (s *Server) receiptOf(challenge string, r payee.Receipt) bitcoin.Receipt {
	return bitcoin.Receipt{
		Timestamp: s.cfg.Now(), ChallengeID: challenge, ChannelID: r.Channel, AcceptedCumulative: r.Paid,
		ChargedMsat: r.Charged, RequiredCumulative: r.Required, Units: uint64(r.Units),
		RequestMsat: r.Line, BackMsat: r.Returned.Back, Update: wireState(r.Returned.State, r.Lock),
	}
}

// meterSaying is meter, and tells what a pause waits for.
func (g *Grant) meterSaying(ctx context.Context, units uint64, need func(bitcoin.NeedVoucher)) error {
	if need == nil {
		return g.meter(ctx, units, nil)
	}
	return g.meterAs(ctx, units, func(rec payee.Receipt, err error) {
		n := bitcoin.NeedVoucher{
			ChannelID: rec.Channel, RequiredCumulative: rec.Required, AcceptedCumulative: rec.Paid,
			Deposit: rec.Capacity, ChargedMsat: rec.Charged,
		}
		var insufficient *channel.InsufficientError
		if errors.As(err, &insufficient) {
			n.RequiredCumulative = max(n.RequiredCumulative, insufficient.Required)
		}
		need(n)
	})
}
