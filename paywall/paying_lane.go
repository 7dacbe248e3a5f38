package paywall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
)

// usefulBlocks is how many blocks before its margin a channel must have left to be
// used for another request.
const usefulBlocks = 2

// pushTimeout bounds a payment that goes by itself.
const pushTimeout = time.Minute

// lane is one channel in use.
type lane struct {
	a      *account
	id     string
	target string // where it was used last

	mu       sync.Mutex
	active   int           // requests and answers under way
	flight   uint64        // msat, what requests under way will be charged before their answers come
	charged  uint64        // msat, the highest that the provider said
	claims   uint64        // msat, charged parts of answers under way that are not in the ledger yet
	debt     uint64        // msat that the provider charged for what did not come, and that was accepted
	slack    uint64        // msat that it may have charged for what was left
	idle     time.Time     // when the last one ended
	changed  chan struct{} // closed when something ended
	evicted  bool
	signed   uint64 // sat, the highest that was signed here
	accepted uint64 // sat, the highest that the provider said it holds
	pushing  bool
	pushMore bool
}

// lane is the channel that a request is paid on: the present one, another that is open,
// or a new one.
func (a *account) lane(ctx context.Context, q *Quoted, cost tariff, e Expect) (*lane, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.opening:
	}
	defer func() { a.opening <- struct{}{} }()
	p := a.t.c.cfg.Payer
	a.mu.Lock()
	now := a.current
	a.mu.Unlock()
	if now != nil {
		r, err := p.Record(ctx, now.id)
		if err != nil {
			return nil, err
		}
		if r.Accepted && a.usable(r, q, cost) {
			return a.use(now.id, q.URL), nil
		}
	}
	records, err := p.Records(ctx)
	if err != nil {
		return nil, err
	}
	a.recall(records)
	best := -1
	for i, r := range records {
		if !a.usable(r, q, cost) {
			continue
		}
		if best < 0 || r.Accepted && !records[best].Accepted || r.Accepted == records[best].Accepted && r.Refundable() > records[best].Refundable() {
			best = i
		}
	}
	if best >= 0 {
		r := records[best]
		if !r.Accepted {
			if err := a.t.c.Reopen(ctx, r.Terms.ID(), q.URL, e, nil); err != nil {
				return nil, a.opened(ctx, r.Terms.ID(), err)
			}
		}
		return a.found(r, q.URL), nil
	}
	id, err := a.open(ctx, q, cost, e)
	if err != nil {
		return nil, err
	}
	return a.use(id, q.URL), nil
}

// usable reports whether a channel that is there can pay for a request.
func (a *account) usable(r channel.PayerRecord, q *Quoted, cost tariff) bool {
	a.mu.Lock()
	l := a.lanes[r.Terms.ID()]
	a.mu.Unlock()
	switch {
	case l != nil && l.isEvicted():
		return false
	case Origin(r.Origin) != a.origin || r.Payee != q.Request.Recipient || r.Duplex != nil || r.Close != nil || r.SpentBy != "" || r.Void() || r.Unsigned:
		return false
	case r.Phase != channel.Prepared && r.Phase != channel.Funding && r.Phase != channel.Open:
		return false
	case uint64(q.Offer.Tip)+uint64(r.Terms.Confirmations)+uint64(r.Terms.Margin)+usefulBlocks > uint64(r.Terms.Expiry):
		return false
	}
	if r.Phase == channel.Prepared {
		r.Phase = channel.Funding
	}
	return r.CanBuy(cost.first()) == nil
}

func (a *account) use(id, target string) *lane {
	a.mu.Lock()
	l := a.lanes[id]
	if l == nil {
		l = &lane{a: a, id: id, changed: make(chan struct{})}
		a.lanes[id] = l
	}
	a.current = l
	a.mu.Unlock() // a lane's lock is taken before its account's, never the other way round
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = target
	return l
}

// open opens a channel within the budget.
func (a *account) open(ctx context.Context, q *Quoted, cost tariff, e Expect) (string, error) {
	cfg, o := a.t.cfg, q.Offer
	kind := cfg.Construction
	for _, c := range o.Constructions {
		if kind == "" && c != script.Duplex {
			kind = c
		}
	}
	if !slices.Contains(o.Constructions, kind) || kind == script.Duplex {
		return "", fmt.Errorf("%w: it offers no %s channels", channel.ErrTerms, kind)
	}
	left := a.left()
	if need := max(o.MinimumCharge, channel.CeilSat(cost.first())); need > left {
		return "", fmt.Errorf("%w: a channel costs at least %d sat, %d sat are left for %s", channel.ErrBudget, need, left, a.origin)
	}
	deposit := cfg.Deposit
	if deposit == 0 {
		deposit = left + channel.MinimumPayout
	}
	deposit = min(max(deposit, o.MinDeposit), o.MaxDeposit, cfg.MaxDeposit)
	if deposit < o.MinDeposit {
		return "", fmt.Errorf("%w: %d sat, %d sat are allowed", ErrDeposit, o.MinDeposit, cfg.MaxDeposit)
	}
	id, err := a.t.c.Open(ctx, q, kind, deposit, e, nil)
	if err != nil {
		return "", a.opened(ctx, id, err)
	}
	return id, nil
}

// opened sorts out an opening that failed: a channel of which nothing has left is given
// up where the provider will not take it, and its coins are free again.
func (a *account) opened(ctx context.Context, id string, err error) error {
	for _, again := range []error{ErrUnreachable, context.Canceled, context.DeadlineExceeded} {
		if id == "" || errors.Is(err, again) {
			return err // the next request goes on with it
		}
	}
	p := a.t.c.cfg.Payer
	r, failed := p.Record(ctx, id)
	if failed == nil && r.Phase == channel.Prepared {
		failed = p.Abandon(ctx, id)
	} else if failed == nil {
		a.use(id, r.Origin).evict()
	}
	return errors.Join(err, failed)
}

// where is the URL that the lane was used at last.
func (l *lane) where() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.target
}

func (l *lane) isEvicted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.evicted
}

// evict gives a channel up for requests. What it holds comes back.
func (l *lane) evict() {
	l.mu.Lock()
	l.evicted = true
	l.wake()
	l.mu.Unlock()
	l.a.mu.Lock()
	defer l.a.mu.Unlock()
	if l.a.current == l {
		l.a.current = nil
	}
}

// wake tells those that wait that something changed; l.mu is held.
func (l *lane) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// begin reserves what a request will be charged before its answer comes, pays ahead
// what the credit does not cover, and returns the newest update. required (sat) is what
// the provider asked for, 0: it did not. Where requests under way use the credit up it
// waits for them. Errors: channel.ErrPrepay, channel.ErrBudget, channel.ErrAmountExceeds.
func (l *lane) begin(ctx context.Context, cost tariff, required uint64) (channel.Update, error) {
	for {
		l.mu.Lock()
		first, changed, alone := cost.first(), l.changed, l.flight == 0
		l.flight += first
		l.active++
		u, err := l.payAhead(ctx, cost, required)
		if err == nil {
			l.mu.Unlock()
			return u, nil
		}
		l.flight -= first
		l.active--
		l.mu.Unlock()
		if !errors.Is(err, channel.ErrPrepay) || alone {
			return u, err
		}
		select {
		case <-ctx.Done():
			return u, ctx.Err()
		case <-changed:
		}
	}
}

// payAhead signs what requests under way need beyond the credit; l.mu is held.
func (l *lane) payAhead(ctx context.Context, cost tariff, required uint64) (channel.Update, error) {
	p := l.a.t.c.cfg.Payer
	r, err := p.Record(ctx, l.id)
	if err != nil {
		return channel.Update{}, err
	}
	if err := r.CanBuy(cost.first()); err != nil {
		return channel.Update{}, err
	}
	// what is asked for has to be payable when it has come
	if most, budget := channel.CeilSat(r.Owed+l.flight+l.debt), l.a.limits(l, 0).Budget; most > budget {
		return channel.Update{}, fmt.Errorf("%w: %d sat, %d sat are allowed", channel.ErrBudget, most, budget)
	}
	credit := max(r.Terms.Credit, cost.credit)
	ahead := l.flight + l.debt - min(l.flight+l.debt, credit)
	slack, debt := l.slack, l.debt
	if want := required * 1000; required <= channel.MaxSat && want > r.Owed+ahead {
		more, err := l.lost(want, r.Owed+ahead, credit)
		if err != nil {
			return channel.Update{}, err
		}
		ahead += more
	}
	if ahead == 0 && r.Unpaid() == 0 {
		return p.Newest(ctx, l.id)
	}
	u, err := l.pay(ctx, payer.Payment{Ahead: ahead}, channel.CeilSat(l.debt))
	if err != nil {
		l.slack, l.debt = slack, debt
	}
	return u, err
}

// lost is what is paid of an amount (msat) that the provider wants, beyond what is
// accounted for: what it may have charged for answers that were left, and what may be
// paid ahead. The provider's credit covers a rest. l.mu is held. Errors:
// channel.ErrPrepay where that is not enough.
func (l *lane) lost(want, accounted, credit uint64) (uint64, error) {
	more, most := want-min(want, accounted), l.slack+l.a.t.cfg.MaxPrepay*1000
	if more > most {
		if most == 0 || want-min(want, credit) > accounted+most {
			return 0, fmt.Errorf("%w: it wants %d sat, what has come makes %d sat", channel.ErrPrepay, channel.CeilSat(want), channel.CeilSat(accounted))
		}
		more = most
	}
	taken := min(more, l.slack)
	l.slack -= taken
	l.debt += taken
	return more, nil
}

// pay signs within the limits; more is allowed ahead beside MaxPrepay, in sat.
func (l *lane) pay(ctx context.Context, q payer.Payment, more uint64) (channel.Update, error) {
	u, err := l.a.t.c.cfg.Payer.Pay(ctx, l.id, q, l.a.limits(l, l.a.t.cfg.MaxPrepay+more))
	if err == nil {
		l.a.spent(l.id, u.Amount)
		l.signed = max(l.signed, u.Amount)
	}
	return u, err
}

// answered ends a request's reservation. left: it may have been charged, and nothing
// came of it.
func (l *lane) answered(cost tariff, left bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := cost.first()
	l.flight -= min(l.flight, first)
	if left {
		l.slack = max(l.slack, min(l.slack+first, max(cost.credit, first)))
	}
	l.wake()
}

// ended ends a request with its answer; left (msat) may have been charged for what was
// not read.
func (l *lane) ended(left uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
	l.slack = max(l.slack, left)
	l.idle = l.a.t.c.cfg.Now()
	l.wake()
}

// claim says how much of what a request was charged so far (msat) is not in the ledger
// yet: never more than the provider charged in all. The rest was owed before, by a
// request of the same key.
func (l *lane) claim(ctx context.Context, receipt bitcoin.Receipt, msat uint64) (uint64, error) {
	r, err := l.a.t.c.cfg.Payer.Record(ctx, l.id)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.charged, l.accepted = max(l.charged, receipt.ChargedMsat), max(l.accepted, receipt.AcceptedCumulative)
	known := r.Owed + l.claims
	n := min(msat, l.charged-min(l.charged, known))
	l.claims += n
	return n, nil
}

// owe puts msat into the ledger, of which claimed were claimed before, and signs for it,
// and for so much ahead of what comes.
func (l *lane) owe(ctx context.Context, msat, claimed, ahead uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claims -= min(l.claims, claimed)
	_, err := l.pay(context.WithoutCancel(ctx), payer.Payment{Verified: msat, Ahead: ahead}, channel.CeilSat(l.debt))
	return err
}

// push brings the newest update to the provider, beside the requests. It goes once for
// all that ask meanwhile.
func (l *lane) push(target string, e Expect) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pushMore = l.pushing; l.pushing {
		return
	}
	l.pushing = true
	l.a.t.pushes.Add(1)
	go func() {
		defer l.a.t.pushes.Done()
		for again := true; again; {
			l.pushOnce(target, e)
			l.mu.Lock()
			again = l.pushMore
			l.pushMore, l.pushing = false, again
			l.mu.Unlock()
		}
	}()
}

func (l *lane) pushOnce(target string, e Expect) {
	ctx, cancel := context.WithTimeout(context.Background(), pushTimeout)
	defer cancel()
	c := l.a.t.c
	for n := 0; ; n++ {
		u, err := c.cfg.Payer.Newest(ctx, l.id)
		if err == nil {
			var receipt bitcoin.Receipt
			if receipt, err = c.Voucher(ctx, Paid{Channel: l.id, URL: target, Update: u, Expect: e}); err == nil {
				l.note(receipt)
				return
			}
		}
		if !errors.Is(err, ErrUnreachable) || n >= l.a.t.cfg.Retries || c.cfg.Sleep(ctx, patience(n, err)) != nil {
			c.cfg.Log.Warn("a payment did not get through; it goes with the next request", "channel", l.id, "error", err)
			return
		}
	}
}

// note remembers what the provider has charged in all.
func (l *lane) note(receipt bitcoin.Receipt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.charged, l.accepted = max(l.charged, receipt.ChargedMsat), max(l.accepted, receipt.AcceptedCumulative)
}

// unsent reports whether the provider lacks the newest payment and nothing brings it.
func (l *lane) unsent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.signed > l.accepted && !l.pushing
}
