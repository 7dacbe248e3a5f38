package payee

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
)

// Returned is what flows back to the payer of a duplex channel.
type Returned struct {
	Back  uint64         // msat, cumulative: what was returned for what was charged
	State channel.Update // the payee's newest; no signature: none yet
}

// Returned is what a payer that asks is told: it may be sent any number of times.
// Errors: ErrUnknown, channel.ErrUnsupported.
func (p *Payee) Returned(ctx context.Context, id string) (Returned, error) {
	r, err := p.Record(ctx, id)
	if err != nil {
		return Returned{}, err
	}
	if r.Duplex == nil {
		return Returned{}, channel.ErrUnsupported
	}
	return returned(r), nil
}

func returned(r channel.PayeeRecord) Returned {
	return Returned{Back: r.Duplex.Back, State: r.Duplex.Sent}
}

// bucketReturned remembers what was returned by key: channel id/key → msat.
const bucketReturned = "payee/returned"

// maxReturnKey bounds the name of a pay-back, in bytes.
const maxReturnKey = 128

// Refund pays a payer of a duplex channel back for chunks that were over-charged
// (msat). key names this pay-back: what was returned under it is saved in the same
// commit, and a second one with the same key and amount returns nothing more. What
// is then owed is paid by a state of the payee's own, signed and saved before it is
// returned, once it is worth a settlement; until then the payer owes so much less,
// and a cooperative close is at the ledger.
// Errors: ErrUnknown, channel.ErrConflict (the key with another amount),
// channel.ErrTerms, channel.ErrUnsupported, those of channel.PayeeRecord.PayBack.
func (p *Payee) Refund(ctx context.Context, id, key string, msat uint64) (Returned, error) {
	if key == "" || len(key) > maxReturnKey || msat == 0 {
		return Returned{}, fmt.Errorf("%w: a pay-back has a key of 1 to %d bytes, and an amount", channel.ErrTerms, maxReturnKey)
	}
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return Returned{}, err
	}
	defer h.unlock()
	at := id + "/" + key
	e, err := p.cfg.Store.Get(ctx, bucketReturned, at)
	if err == nil && string(e.Value) != strconv.FormatUint(msat, 10) {
		return Returned{}, fmt.Errorf("%w: %s msat were returned as %q", channel.ErrConflict, e.Value, key)
	} else if err == nil {
		return returned(h.record), nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return Returned{}, err
	}
	ops, err := p.takenOff(ctx, id, nil, msat)
	if err != nil {
		return Returned{}, err
	}
	ops = append(ops, store.Op{Bucket: bucketReturned, Key: at, Value: strconv.AppendUint(nil, msat, 10)})
	return p.sendBack(ctx, h, ops, func(r channel.PayeeRecord, tip uint32, lim channel.DuplexLimits) (channel.PayeeRecord, bool, error) {
		return r.PayBack(msat, tip, lim)
	})
}

// Reconcile compares the ledger that the payer of a duplex channel states (msat)
// with this one: what was charged and is not offered any more, and never arrived
// there, is taken off, once, and may be charged anew where it is offered again. What
// was paid ahead for it is then owed, and paid as in Refund.
// Errors: ErrUnknown, those of channel.PayeeRecord.PayBack.
func (p *Payee) Reconcile(ctx context.Context, id string, ledger uint64) error {
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return err
	}
	defer h.unlock()
	if p.cfg.Offered == nil || h.record.Duplex == nil || ledger >= h.record.Charged {
		return nil
	}
	next, off := h.record.Withdraw(ledger, func(c channel.Charge) bool {
		return len(c.Resource) == 32 && !p.cfg.Offered([32]byte(c.Resource))
	})
	if len(off) == 0 {
		return nil
	}
	items := make([]Item, len(off))
	for i, c := range off {
		items[i] = Item{Resource: [32]byte(c.Resource), Chunk: c.Chunk}
	}
	marks, err := p.loadPages(ctx, id, items)
	if err != nil {
		return err
	}
	for _, it := range items {
		marks.Clear(it)
	}
	p.cfg.Log.Info("withdrawn", "channel", id, "chunks", len(off), "was_msat", h.record.Charged, "charged_msat", next.Charged)
	ops, err := p.takenOff(ctx, id, off, 0)
	if err != nil {
		return err
	}
	_, err = p.sendBack(ctx, h, append(ops, marks.Ops()...), func(_ channel.PayeeRecord, tip uint32, lim channel.DuplexLimits) (channel.PayeeRecord, bool, error) {
		paid, due, err := next.PayBack(0, tip, lim)
		if err != nil { // too late for a state: it is off the ledger all the same
			return next, false, nil
		}
		return paid, due, nil
	})
	return err
}

// Purchase is what a payee of a duplex channel got from the payer and verified.
type Purchase struct {
	Price   uint64     // msat
	Blocked bool       // the payer's credit is used up: pay whatever is owed
	Ops     []store.Op // saved in the same commit
}

// Bought pays for goods that the payee got from the payer. Errors: as Refund.
func (p *Payee) Bought(ctx context.Context, id string, q Purchase) (Returned, error) {
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return Returned{}, err
	}
	defer h.unlock()
	return p.sendBack(ctx, h, q.Ops, func(r channel.PayeeRecord, tip uint32, lim channel.DuplexLimits) (channel.PayeeRecord, bool, error) {
		next, err := r.Bought(q.Price)
		if err != nil {
			return r, false, err
		}
		lim.Blocked = q.Blocked
		return next.PayBack(0, tip, lim)
	})
}

// sendBack applies a rule by which the payee pays, signs what it decided, and saves.
func (p *Payee) sendBack(ctx context.Context, h *held, ops []store.Op,
	rule func(channel.PayeeRecord, uint32, channel.DuplexLimits) (channel.PayeeRecord, bool, error)) (Returned, error) {
	tip, err := p.cfg.Chain.Tip(ctx)
	if err != nil {
		return Returned{}, err
	}
	rate, err := p.cfg.Chain.FeeRate(ctx, settleTarget)
	if err != nil {
		return Returned{}, err
	}
	next, due, err := rule(h.record, tip.Height, channel.DuplexLimits{Least: p.minimum(rate)})
	if err != nil {
		return Returned{}, err
	}
	if due {
		if next, err = p.signState(h, next); err != nil {
			return Returned{}, p.stop(ctx, h, err)
		}
	}
	if err := p.save(ctx, h, next, ops...); err != nil {
		return Returned{}, err
	}
	p.cfg.Log.Info("paid back", "channel", h.id, "back_msat", next.Duplex.Back, "share_sat", next.Paid)
	return returned(next), nil
}

// signState signs the payee's newest state, where the invariants allow it.
// Errors: channel.ErrInvariant.
func (p *Payee) signState(h *held, r channel.PayeeRecord) (channel.PayeeRecord, error) {
	key, err := p.cfg.Keys.PayeeChannelKey(r.Terms.Nonce)
	if err != nil {
		return r, err
	}
	if err := r.MaySign(&h.record); err != nil {
		return r, err
	}
	state, err := r.Terms.Commitment(r.Duplex.Sent)
	if err != nil {
		return r, err
	}
	sig, err := h.script.SignState(key, state)
	if err != nil {
		return r, err
	}
	return r.SentSigned(sig), nil
}
