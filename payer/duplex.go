package payer

import (
	"context"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/watch"
)

// payDuplex decides and signs the state by which a duplex channel's payer pays, and
// so much (msat) ahead.
func (p *Payer) payDuplex(ctx context.Context, h *held, r channel.PayerRecord, ahead uint64, lim channel.Limits) (channel.PayerRecord, error) {
	tip, err := p.cfg.Chain.Tip(ctx)
	if err != nil {
		return r, err
	}
	next, err := r.PayState(ahead, tip.Height, lim)
	if err != nil {
		return next, err
	}
	return p.sign(h, next, lim)
}

// TakeBack takes what the payee of a duplex channel pays back: what it returns in
// all (msat, cumulative) and its newest state, verified and saved here.
// Errors: channel.ErrUnsupported, ErrSignature, those of channel.Duplex.Take.
func (p *Payer) TakeBack(ctx context.Context, id string, back uint64, u channel.Update) error {
	tip, err := p.cfg.Chain.Tip(ctx)
	if err != nil {
		return err
	}
	_, err = p.change(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		if len(u.Signature) > 0 {
			if err := h.record.Terms.VerifyUpdate(h.script, u); err != nil {
				return h.record, nil, err
			}
		}
		next, _, err := h.record.TakeBack(back, u, tip.Height)
		return next, nil, err
	})
	return err
}

// ResumedDuplex takes what the payee of a duplex channel answers to a resume: the
// newest update of this side that it holds, and what it returns; verified and saved
// here. Errors: channel.ErrUnsupported, ErrSignature, ErrTerms, ErrAmountExceeds.
func (p *Payer) ResumedDuplex(ctx context.Context, id string, q channel.Resumed) error {
	tip, err := p.cfg.Chain.Tip(ctx)
	if err != nil {
		return err
	}
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return err
	}
	defer h.unlock()
	next, changed, err := h.record.ResumedDuplex(h.script, q, tip.Height)
	if err != nil {
		return fmt.Errorf("what the payee shows: %w", err)
	}
	if !changed {
		return nil
	}
	return p.save(ctx, h, next)
}

// Sale is what the payee of a duplex channel asks of the payer.
type Sale struct {
	Update channel.Update // the payee's newest; no signature: none
	Price  uint64         // msat of what was not charged before
	Credit uint64         // msat
	Ops    []store.Op     // saved in the same commit: what is charged
}

// Sell takes the payee's update and charges for the payer's own goods, in one
// durable commit, before anything may be released. An update that comes with a
// refused sale is taken all the same. Errors: those of channel.Duplex.Charge.
func (p *Payer) Sell(ctx context.Context, id string, q Sale) (channel.PayerRecord, error) {
	if err := p.TakeBack(ctx, id, 0, q.Update); err != nil {
		return channel.PayerRecord{}, err
	}
	return p.change(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		v, _, err := watch.Look(ctx, p.cfg.Chain, wire.OutPoint(h.record.Terms.Outpoint), h.record.FundingTx)
		if err != nil {
			return h.record, nil, err
		}
		next, err := h.record.Sell(q.Price, q.Credit, v)
		return next, q.Ops, err
	})
}

// settle completes what the payer of a duplex channel holds, at a rate.
func (p *Payer) settle(ctx context.Context, h *held, rate script.FeeRate, tip uint32) error {
	claim, err := h.record.Claim(h.script)
	if err != nil {
		return err
	}
	if claim.PayeeKey, err = p.key(h.record); err != nil {
		return err
	}
	tx, fee, err := script.Settle([]script.Claim{claim}, h.record.RefundScript, rate)
	if err != nil {
		return fmt.Errorf("%w: %w", channel.ErrTooSmall, err)
	}
	if err := h.record.SettlementSound(tx, fee); err != nil {
		return p.stop(ctx, h, err)
	}
	return p.made(ctx, h, tx, channel.Broadcast{Rate: int64(rate), Fee: fee, Height: tip, Amount: h.record.Duplex.Held.Amount})
}
