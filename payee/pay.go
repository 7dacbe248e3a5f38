package payee

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/charged"
	"github.com/spillway/spillway/store"
)

// Request pays, is charged, or both.
type Request struct {
	Channel string          // id
	Update  *channel.Update // nil: none
	Items   []Item          // chunks to be released; none: the payment alone
	Credit  uint64          // msat, the credit of this resource by the seller's policy
	Name    string          // what is sold, for the earnings; "": no name
	Line    *Line           // a metered delivery, charged beside the items; nil: none
	// Try asks whether the request would be served, with Reserved msat more than it
	// costs, and takes and charges nothing.
	Try      bool
	Reserved uint64
}

// Receipt is where a channel stands after a request.
type Receipt struct {
	Channel   string
	Paid      uint64 // sat, the newest cumulative amount held
	Charged   uint64 // msat, cumulative
	Required  uint64 // sat, what to sign next
	Fresh     uint64 // msat that this request was charged
	Units     int    // items, or units of a line, that this request was charged for; what was charged before is free
	Line      uint64 // msat that the request's line was charged in all its repeats
	LineUnits uint64 // units that were charged for it; of a try: before it
	Capacity  uint64 // sat
	Phase     channel.Phase
	Duplex    bool
	Returned  Returned // duplex: what flows back; State only where it is the newest of all
	Lock      uint32   // height, the lock of that state
}

func receipt(r channel.PayeeRecord, fresh uint64) Receipt {
	got := Receipt{
		Channel: r.Terms.ID(), Paid: r.Paid, Charged: r.Charged, Fresh: fresh,
		Required: max(r.Paid, channel.CeilSat(r.Charged)), Phase: r.Phase, Capacity: r.Terms.Capacity,
	}
	if r.Duplex != nil {
		got.Duplex, got.Returned.Back = true, r.Duplex.Back
		if r.Duplex.Sent.Newer(r.Duplex.Held) {
			got.Returned.State = r.Duplex.Sent
			got.Lock, _ = r.Terms.Lock(r.Duplex.Sent.Epoch)
		}
	}
	return got
}

// Pay takes an update and charges the items that were not charged yet, in one
// durable commit, before anything may be released. The receipt is right also
// where there is a refusal: an update that came with it was taken.
// Errors: ErrUnknown, ErrStale, channel.ErrStopped, those of channel.PayeeRecord.Pay and of the store.
func (p *Payee) Pay(ctx context.Context, q Request) (Receipt, error) {
	h, err := p.lockLive(ctx, q.Channel)
	if err != nil {
		return Receipt{}, err
	}
	defer h.unlock()
	if q.Update != nil && !holds(h.record, *q.Update) {
		if err := p.verify(h.record.Terms, h.script, *q.Update); err != nil {
			return receipt(h.record, 0), err
		}
	}
	if q.Update != nil && q.Update.Amount == h.record.Paid && h.record.Phase.Final() {
		q.Update = nil
	}
	return p.charge(ctx, h, q)
}

// holds reports whether an update is the newest one that is held: it was verified
// when it came.
func holds(r channel.PayeeRecord, u channel.Update) bool {
	if r.Duplex != nil && u.Epoch != r.Duplex.Held.Epoch {
		return false
	}
	return u.Amount == r.Paid && bytes.Equal(u.Signature, r.Signature)
}

// asked is a request as the rules see it, with what is saved where they agree.
type asked struct {
	pay   channel.Payment
	fresh []Item // that were not charged yet
	marks charged.Pages
	line  metered
}

// ask works out what of a request was not charged yet.
func (p *Payee) ask(ctx context.Context, h *held, q Request) (a asked, err error) {
	if a.marks, err = p.loadPages(ctx, h.id, q.Items); err != nil {
		return a, err
	}
	if a.line, err = p.meter(ctx, h, q.Line); err != nil {
		return a, err
	}
	a.pay = channel.Payment{
		Update: q.Update, Price: a.line.fresh, Dearest: a.line.fresh, Credit: q.Credit,
		Deliver: len(q.Items) > 0 || q.Line != nil, Now: p.cfg.Now().Unix(),
	}
	if q.Try {
		if a.pay.Price, err = channel.AddMsat(a.pay.Price, q.Reserved); err != nil {
			return a, err
		}
	}
	for _, it := range q.Items {
		if a.marks.Mark(it) {
			continue
		}
		if a.pay.Price, err = channel.AddMsat(a.pay.Price, it.Price); err != nil {
			return a, err
		}
		a.pay.Dearest = max(a.pay.Dearest, it.Price)
		if h.record.Duplex != nil {
			a.pay.Charges = append(a.pay.Charges, channel.Charge{Resource: slices.Clone(it.Resource[:]), Chunk: it.Chunk, Price: it.Price})
		}
		a.fresh = append(a.fresh, it)
	}
	return a, nil
}

func (p *Payee) charge(ctx context.Context, h *held, q Request) (Receipt, error) {
	view, err := p.view(ctx, h)
	if err != nil {
		return p.keep(ctx, h, q.Update, err)
	}
	a, err := p.ask(ctx, h, q)
	if err != nil {
		return receipt(h.record, 0), err
	}
	pay := a.pay
	var pool channel.Pool
	var rev uint64
	if h.record.UsesPool(pay, view) {
		p.pool.Lock()
		defer p.pool.Unlock()
		if pool, rev, err = p.readPool(ctx); err != nil {
			return receipt(h.record, 0), err
		}
	}
	out := h.record.Pay(pay, view, pool)
	got := func(r channel.PayeeRecord) Receipt {
		rec := receipt(r, pay.Price)
		rec.Units, rec.Line = len(a.fresh)+int(min(a.line.units, math.MaxInt32)), a.line.total
		rec.LineUnits = a.line.had + a.line.units
		if out.Refusal != nil {
			rec.Fresh, rec.Units, rec.Line, rec.LineUnits = 0, 0, a.line.total-a.line.fresh, a.line.had
		}
		return rec
	}
	if q.Try {
		rec := got(out.Record)
		rec.LineUnits = a.line.had
		if out.Refusal == nil && !rec.Duplex { // what others have reserved is not charged
			rec.Charged, rec.Fresh = rec.Charged-min(rec.Charged, q.Reserved), rec.Fresh-min(rec.Fresh, q.Reserved)
			rec.Required = max(rec.Paid, channel.CeilSat(rec.Charged))
		}
		return rec, out.Refusal
	}
	ops, err := p.chargeOps(ctx, h, q, a, out, pool, rev)
	if err != nil {
		return receipt(h.record, 0), err
	}
	if out.RecordChanged || len(ops) > 0 {
		step := channel.Step{Charges: pay.Deliver && out.Refusal == nil, Credit: q.Credit, View: view, Pool: out.Pool}
		if err := p.saveStep(ctx, h, out.Record, step, ops...); err != nil {
			return receipt(h.record, 0), err
		}
	}
	if out.Raised {
		p.cfg.Log.Debug("update", "channel", h.id, "paid_sat", out.Record.Paid, "charged_msat", out.Record.Charged)
	}
	return got(h.record), out.Refusal
}

// chargeOps is what is saved beside the record: the pool, and what was charged.
func (p *Payee) chargeOps(ctx context.Context, h *held, q Request, a asked, out channel.Outcome, pool channel.Pool, rev uint64) (ops []store.Op, err error) {
	if out.PoolChanged {
		op, err := poolOp(out.Pool, pool, rev)
		if err != nil {
			return nil, p.stop(ctx, h, err)
		}
		ops = append(ops, op)
	}
	if out.Refusal != nil {
		return ops, nil
	}
	earned, err := p.earn(ctx, h.id, q.Name, append(a.fresh, a.line.sold(q.Name)...))
	if err != nil {
		return nil, err
	}
	return slices.Concat(ops, a.marks.Ops(), a.line.ops, earned), nil
}

// keep takes the update of a request that can't be served: it is money all the same.
func (p *Payee) keep(ctx context.Context, h *held, u *channel.Update, why error) (Receipt, error) {
	if u == nil || h.record.Duplex != nil { // without a tip nobody can tell whether a state still counts
		return receipt(h.record, 0), why
	}
	next, raised, err := h.record.Update(*u)
	if err == nil && raised {
		err = p.save(ctx, h, next)
	}
	return receipt(h.record, 0), errors.Join(why, err)
}

// Resumed is the answer to a resume.
type Resumed struct {
	Record channel.PayeeRecord
	Depth  uint32
}

// Resume answers with the newest update that the payee holds.
func (p *Payee) Resume(ctx context.Context, id string) (Resumed, error) {
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return Resumed{}, err
	}
	defer h.unlock()
	view, err := p.view(ctx, h)
	if err != nil {
		return Resumed{}, err
	}
	return Resumed{Record: h.record, Depth: view.Depth()}, nil
}

// Charged reports which of the items have been charged on a channel.
func (p *Payee) Charged(ctx context.Context, id string, items []Item) (map[uint64]bool, error) {
	marks, err := p.loadPages(ctx, id, items)
	if err != nil {
		return nil, err
	}
	done := map[uint64]bool{}
	for _, it := range items {
		done[it.Chunk] = marks.Mark(it)
	}
	return done, nil
}

// MarkRestored marks every channel that is not over as being from before a
// restore: updates and settlement only, and charged is raised to paid.
// docs/protocol.md, "After a restore".
func (p *Payee) MarkRestored(ctx context.Context) error {
	records, err := p.Records(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, r := range records {
		if r.Phase.Final() {
			continue
		}
		failed = append(failed, p.change(ctx, r.Terms.ID(), func(r channel.PayeeRecord) (channel.PayeeRecord, error) {
			if r.Restored = true; r.Stopped == "" {
				r.Charged = max(r.Charged, r.Paid*1000)
			}
			return r, nil
		}))
	}
	return errors.Join(failed...)
}

// change applies a rule to one channel and saves what it returns.
func (p *Payee) change(ctx context.Context, id string, rule func(channel.PayeeRecord) (channel.PayeeRecord, error)) error {
	h, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer h.unlock()
	next, err := rule(h.record)
	if err != nil {
		return err
	}
	return p.save(ctx, h, next)
}

// leavePool takes a channel that ended out of the newcomers' pool; what it owes
// fades. What was paid is no debt, also where it came with a close, unless the
// payer took everything back.
func (p *Payee) leavePool(ctx context.Context, h *held, next channel.PayeeRecord) ([]store.Op, error) {
	if !h.record.Place {
		return nil, nil
	}
	pool, rev, err := p.readPool(ctx)
	if err != nil {
		return nil, err
	}
	if next.Phase == channel.Closed && next.PaidBy(next.SpentBy) {
		pool = pool.Paid(h.id, next.Owed())
	}
	op, err := poolOp(pool.Leave(h.id, true), pool, rev)
	if err != nil {
		return nil, fmt.Errorf("the pool: %w", p.stop(ctx, h, err))
	}
	return []store.Op{op}, nil
}

// Standing is where a record's channel stands.
func Standing(r channel.PayeeRecord) Receipt { return receipt(r, 0) }

// Status is where a channel stands. Errors: ErrUnknown.
func (p *Payee) Status(ctx context.Context, id string) (Receipt, error) {
	r, err := p.Record(ctx, id)
	if err != nil {
		return Receipt{}, err
	}
	return receipt(r, 0), nil
}
