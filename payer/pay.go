package payer

import (
	"context"
	"errors"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
)

// Payment is what is to be paid next in a channel.
type Payment struct {
	Verified uint64     // msat, price of what was received and verified since the last one
	Ahead    uint64     // msat that the payee wants before it delivers
	Last     bool       // the last update of a purchase: at least the minimum charge
	Ops      []store.Op // saved in the same commit: the journal of what was verified
}

// Pay adds what was verified to the payer's ledger, decides the next amount,
// signs it, saves all of it with the caller's journal in one commit, and returns
// the update, which may then be sent. Signed is spent: a lost answer is no refusal.
// Errors: channel.ErrPrepay, ErrBudget, ErrAmountExceeds, ErrFinalized, of the store.
func (p *Payer) Pay(ctx context.Context, id string, q Payment, lim channel.Limits) (channel.Update, error) {
	u, _, err := p.PayRecord(ctx, id, q, lim)
	return u, err
}

// PayRecord is Pay, and returns the record as it was saved with the update too: whoever
// pays again at once need not read it. Errors: as Pay.
func (p *Payer) PayRecord(ctx context.Context, id string, q Payment, lim channel.Limits) (u channel.Update, r channel.PayerRecord, err error) {
	rule := func(h *held) (channel.PayerRecord, []store.Op, error) {
		next, err := h.record.Verified(q.Verified)
		if err != nil {
			return next, nil, err
		}
		if next.Duplex != nil {
			if next, err = p.payDuplex(ctx, h, next, q.Ahead, lim); err != nil {
				return next, nil, err
			}
			u = next.Newest()
			return next, q.Ops, p.spend(h.record, next)
		}
		if q.Last {
			next, u.Amount, err = next.PayLast(lim)
		} else {
			next, u.Amount, err = next.Pay(q.Ahead, lim)
		}
		if err != nil {
			return next, nil, err
		}
		if next, err = p.sign(h, next, lim); err != nil {
			return next, nil, err
		}
		u.Signature = next.Signature
		return next, q.Ops, p.spend(h.record, next)
	}
	r, done, err := p.swap(ctx, id, rule)
	if !done {
		r, err = p.change(ctx, id, rule)
	}
	if err != nil {
		return channel.Update{}, r, err // what is not saved as spent does not leave
	}
	return u, r, nil
}

// spend asks whether a payment may be made.
func (p *Payer) spend(before, after channel.PayerRecord) error {
	if p.cfg.Spend == nil || after.Signed <= before.Signed {
		return nil
	}
	return p.cfg.Spend(after, after.Signed-before.Signed)
}

// swap is change on the record as it was last read or saved here, without reading it
// again: the save is a swap on that record's revision, so it is made only where that is
// what is stored. done is false where it was not, or where anything else speaks against
// it: then nothing was saved, and the stored record decides.
func (p *Payer) swap(ctx context.Context, id string, rule func(*held) (channel.PayerRecord, []store.Op, error)) (_ channel.PayerRecord, done bool, err error) {
	defer p.locks.Lock(id)()
	h := &held{id: id}
	var ok bool
	if h.record, h.rev, ok = p.known.Newest(id); !ok || h.record.Stopped != "" || h.record.Duplex != nil || h.record.Sound() != nil {
		return h.record, false, nil
	}
	if h.script, err = p.scripts(h.record.Terms); err != nil {
		return h.record, false, nil
	}
	next, ops, err := rule(h)
	if err != nil || next.Sound() != nil || next.Follows(&h.record) != nil {
		return h.record, false, nil
	}
	err = p.commit(ctx, h, next, ops...)
	return h.record, !errors.Is(err, store.ErrConflict), err
}

// sign adds the half-signature for the record's newest update, where it is missing and
// the invariants allow it. Errors: channel.ErrInvariant.
func (p *Payer) sign(h *held, r channel.PayerRecord, lim channel.Limits) (channel.PayerRecord, error) {
	u := r.Newest()
	if len(u.Signature) > 0 {
		return r, nil
	}
	if err := r.MaySign(&h.record, lim); err != nil {
		return r, err
	}
	state, err := r.Terms.Commitment(u)
	if err != nil {
		return r, err
	}
	key, err := p.key(r)
	if err != nil {
		return r, err
	}
	sig, err := h.script.SignState(key, state)
	if err != nil {
		return r, err
	}
	return r.SetSignature(sig), nil
}

// Newest is the newest update that was ever signed. It may be sent any number of times.
// Errors: ErrUnknown, channel.ErrStopped.
func (p *Payer) Newest(ctx context.Context, id string) (channel.Update, error) {
	r, err := p.Record(ctx, id)
	if err != nil {
		return channel.Update{}, err
	}
	if stop := r.Stop(); stop != nil {
		return channel.Update{}, stop
	}
	return r.Newest(), nil
}

// Resumed takes the newest update that the payee holds; where this side has
// forgotten it, it is verified and counted as spent. Errors: channel.ErrSignature.
func (p *Payer) Resumed(ctx context.Context, id string, u channel.Update) error {
	_, err := p.change(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		next, _, err := h.record.Resumed(h.script, u)
		if err != nil {
			return next, nil, fmt.Errorf("the payee shows an update that was not signed here: %w", err)
		}
		return next, nil, nil
	})
	return err
}
