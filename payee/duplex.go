package payee

import (
	"context"

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
	return Returned{Back: r.Duplex.Back, State: r.Duplex.Sent}, nil
}

// Refund pays a payer of a duplex channel back for chunks that were over-charged
// or withdrawn (msat). What is then owed is paid by a state of the payee's own,
// signed and saved before it is returned, once it is worth a settlement.
// Errors: ErrUnknown, channel.ErrUnsupported, those of channel.PayeeRecord.PayBack.
func (p *Payee) Refund(ctx context.Context, id string, msat uint64) (Returned, error) {
	return p.sendBack(ctx, id, nil, func(r channel.PayeeRecord, tip uint32, lim channel.DuplexLimits) (channel.PayeeRecord, bool, error) {
		return r.PayBack(msat, tip, lim)
	})
}

// Purchase is what a payee of a duplex channel got from the payer and verified.
type Purchase struct {
	Price   uint64     // msat
	Blocked bool       // the payer's credit is used up: pay whatever is owed
	Ops     []store.Op // saved in the same commit
}

// Bought pays for goods that the payee got from the payer. Errors: as Refund.
func (p *Payee) Bought(ctx context.Context, id string, q Purchase) (Returned, error) {
	return p.sendBack(ctx, id, q.Ops, func(r channel.PayeeRecord, tip uint32, lim channel.DuplexLimits) (channel.PayeeRecord, bool, error) {
		next, err := r.Bought(q.Price)
		if err != nil {
			return r, false, err
		}
		lim.Blocked = q.Blocked
		return next.PayBack(0, tip, lim)
	})
}

// sendBack applies a rule by which the payee pays, signs what it decided, and saves.
func (p *Payee) sendBack(ctx context.Context, id string, ops []store.Op,
	rule func(channel.PayeeRecord, uint32, channel.DuplexLimits) (channel.PayeeRecord, bool, error)) (Returned, error) {
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return Returned{}, err
	}
	defer h.unlock()
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
	p.cfg.Log.Info("paid back", "channel", id, "back_msat", next.Duplex.Back, "share_sat", next.Paid)
	return Returned{Back: next.Duplex.Back, State: next.Duplex.Sent}, nil
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
