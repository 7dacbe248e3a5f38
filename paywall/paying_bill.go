package paywall

import (
	"context"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payer"
)

// bill is what a delivery that is charged while it flows is paid by: what came of it is
// counted, entered into the channel's ledger, signed for in steps and sent beside it. Its
// methods may be called from many goroutines.
type bill struct {
	lane   *lane
	target string
	expect Expect
	ctx    context.Context
	now    func() time.Time

	mu      sync.Mutex // of what follows
	cost    tariff
	base    uint64    // units of the line before what is counted here
	units   uint64    // that came
	before  uint64    // msat of what came at prices of before
	free    uint64    // msat of the line that were in the ledger before
	since   time.Time // by the second: when it began
	held    bool      // nothing is entered that the provider has not said it charged
	entered uint64    // msat that are in the ledger
	claims  uint64    // msat that are claimed and not in the ledger yet
	failed  error     // why nothing more is paid
	done    bool
	asked   time.Time // held: when the provider was asked what it charged
}

// newBill begins a bill for an answer of which msat were charged already, claimed of
// them not in the ledger.
func newBill(ctx context.Context, l *lane, target string, e Expect, cost tariff, msat, claimed uint64) *bill {
	b := &bill{lane: l, target: target, expect: e, ctx: ctx, now: l.a.t.c.cfg.Now, cost: cost, claims: claimed}
	if b.free = msat - claimed; cost.unit == bitcoin.UnitSecond {
		b.since, b.held = b.now(), true
		b.base, b.free = cost.buys(b.free), 0
	}
	return b
}

// goesOn says that what came of it before does not come again. What was charged and is
// not in the ledger may have come to a payer that has forgotten it: up to the credit of
// it is paid where the provider asks for it.
func (b *bill) goesOn() {
	b.base, b.free, b.held = b.cost.buys(b.free), 0, true
	l := b.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slack = max(l.slack, min(b.claims, b.cost.credit))
}

// reprice goes on at another price.
func (b *bill) reprice(cost tariff) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cost == cost {
		return
	}
	b.before += b.came()
	if b.base, b.units, b.cost = b.base+b.units, 0, cost; cost.unit == bitcoin.UnitSecond {
		b.since = b.now()
	}
}

// came is what has come at the present price, in msat; b.mu is held.
func (b *bill) came() uint64 {
	units := b.units
	if b.cost.unit == bitcoin.UnitSecond {
		units = uint64(max(b.now().Sub(b.since), 0)/time.Second) + 2 // the two clocks begin and end apart
	}
	return b.cost.cost(b.base+units) - b.cost.cost(b.base)
}

// due is what came and is not in the ledger yet, in msat; b.mu is held.
func (b *bill) due() uint64 {
	msat := b.before + b.came()
	msat -= min(msat, b.free)
	return msat - min(msat, b.entered)
}

// step is how much comes before it is paid, in msat: half of the credit.
func (b *bill) step() uint64 {
	if b.cost.credit == 0 {
		return max(b.cost.first()/2, 1)
	}
	return max(b.cost.credit/2, 1)
}

// add counts units that came, and pays where enough has. Errors: why no more is paid.
func (b *bill) add(units uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.units += units
	if b.failed != nil || b.due() < b.step() {
		return b.failed
	}
	return b.pay()
}

// reached is add for a count of units from the beginning.
func (b *bill) reached(units uint64) error {
	b.mu.Lock()
	more := units - min(units, b.units)
	b.mu.Unlock()
	return b.add(more)
}

// pay enters what is due into the ledger, signs for it and sends it; b.mu is held.
func (b *bill) pay() error {
	due := b.due()
	if b.held && due > 0 {
		room, err := b.lane.room(b.ctx, b.claims)
		if err != nil {
			return err
		}
		b.ask(due, room)
		due = min(due, room)
	}
	if due == 0 {
		return nil
	}
	claimed := min(due, b.claims)
	ahead := b.cost.ahead()
	if b.done {
		ahead = 0
	}
	if err := b.lane.owe(b.ctx, due, claimed, ahead); err != nil {
		b.failed = err
		return err
	}
	b.entered += due
	b.claims -= claimed
	b.lane.push(b.target, b.expect)
	return nil
}

// catchUp pays for all that came.
func (b *bill) catchUp() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil || b.done {
		return b.failed
	}
	return b.pay()
}

// ask has the provider say what it charged since, where it said too little to be paid
// for what came; b.mu is held.
func (b *bill) ask(due, room uint64) {
	if due-min(due, room) < b.step() || time.Since(b.asked) < tick {
		return
	}
	b.asked = time.Now()
	b.lane.push(b.target, b.expect)
}

// idle pays for what came while nothing comes, and sends again what did not get through:
// the provider may be waiting for it. false: it cannot be paid.
func (b *bill) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done || b.failed != nil {
		return true
	}
	if b.due() > 0 && b.pay() != nil {
		return b.failed == nil
	}
	if b.lane.unsent() {
		b.lane.push(b.target, b.expect)
	}
	return true
}

// need is what the provider says while it waits. What came is paid; what is wanted
// beyond it is paid ahead, where that may be and nothing else that is under way on the
// channel explains it. Errors: channel.ErrPrepay and its like.
func (b *bill) need(n bitcoin.NeedVoucher) error {
	l := b.lane
	if n.ChannelID != l.id {
		return nil
	}
	l.note(bitcoin.Receipt{ChargedMsat: n.ChargedMsat, AcceptedCumulative: n.AcceptedCumulative})
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil || b.done {
		return b.failed
	}
	if err := b.pay(); err != nil {
		return err
	}
	if b.failed = l.demand(b.ctx, n.RequiredCumulative, b.cost.credit); b.failed != nil {
		return b.failed
	}
	if l.unsent() {
		l.push(b.target, b.expect)
	}
	return nil
}

// receipt takes what the provider says it has charged.
func (b *bill) receipt(r bitcoin.Receipt) {
	if r.ChannelID == b.lane.id {
		b.lane.note(r)
	}
}

// trailing takes the receipts of a body's trailers.
func (b *bill) trailing(values []string) {
	if r, err := bitcoin.ParseReceipt(values); err == nil {
		b.receipt(r)
	} else if len(values) > 0 {
		b.lane.a.t.c.cfg.Log.Debug("a receipt that cannot be read", "url", b.target, "error", err)
	}
}

// end pays for the last of what came to its end. false: it had ended before.
func (b *bill) end() (bool, error) {
	b.mu.Lock()
	if b.done {
		b.mu.Unlock()
		return false, nil
	}
	b.done = true
	var err error
	if b.failed == nil {
		err = b.pay()
	}
	b.drop()
	b.mu.Unlock()
	b.lane.ended(0)
	return true, err
}

// leave pays for what came, and ends before the end: up to the credit may have been
// charged beyond it.
func (b *bill) leave() error {
	b.mu.Lock()
	if b.done {
		b.mu.Unlock()
		return nil
	}
	b.done = true
	var failed error
	if b.failed == nil {
		failed = b.pay()
	}
	b.drop()
	b.mu.Unlock()
	b.lane.ended(max(b.cost.credit, b.cost.first()))
	return failed
}

// drop gives back what was claimed and did not come; b.mu is held.
func (b *bill) drop() {
	l := b.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claims -= min(l.claims, b.claims)
	b.claims = 0
}

// room is what the provider said it charged beyond what is in the ledger and what other
// answers claim of it, in msat; claims are the asker's own.
func (l *lane) room(ctx context.Context, claims uint64) (uint64, error) {
	r, err := l.a.t.c.cfg.Payer.Record(context.WithoutCancel(ctx), l.id)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := r.Owed + l.claims - min(l.claims, claims)
	return l.charged - min(l.charged, taken), nil
}

// demand pays up to an amount (sat) that the provider waits for, where it is more than
// what has come: within what may be paid ahead, and only where no other answer is under
// way that will pay it. credit is the quote's, in msat.
func (l *lane) demand(ctx context.Context, required, credit uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if required <= l.signed || required > channel.MaxSat || l.active > 1 {
		return nil
	}
	r, err := l.a.t.c.cfg.Payer.Record(context.WithoutCancel(ctx), l.id)
	if err != nil {
		return err
	}
	if required <= r.Signed {
		return nil
	}
	slack, debt := l.slack, l.debt
	known := min(required*1000-min(required*1000, r.Owed), l.debt)
	more, err := l.lost(required*1000, r.Owed+known, max(r.Terms.Credit, credit))
	if err != nil {
		return err
	}
	if _, err = l.pay(context.WithoutCancel(ctx), payer.Payment{Ahead: known + more}, channel.CeilSat(l.debt)); err != nil {
		l.slack, l.debt = slack, debt
	}
	return err
}
