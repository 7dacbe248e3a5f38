package payer

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/curve"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// fundingTarget is the confirmation target in blocks for T1's fee rate.
const fundingTarget = 3

// OpenRequest is what a channel is to be opened on.
type OpenRequest struct {
	Offer        channel.Offer
	RawOffer     string // the challenge that it came in, kept to prove it later
	Construction script.Construction
	Capacity     uint64 // sat
	Origin       string // where the payee is reached
	Payee        string // its identity
	// Back is where the rest and the refund go: P2TR, P2WPKH or P2WSH; nil: to the
	// wallet.
	Back []byte
	// Rate is the funding's fee rate; 0: the going one.
	Rate script.FeeRate
}

// Prepare makes K1, builds and signs T1, and saves the channel as prepared.
// Nothing has left this machine when it returns, and T1's coins are reserved.
// Errors: channel.ErrTerms, channel.ErrCap, wallet.ErrInsufficient.
func (p *Payer) Prepare(ctx context.Context, q OpenRequest) (channel.PayerRecord, error) {
	r, opening, pk, err := p.plan(ctx, q)
	if err != nil {
		return channel.PayerRecord{}, err
	}
	return p.fund(ctx, q, r, opening, pk)
}

// plan makes K1, and with it all of a channel but its funding: the record as it begins,
// the opening, and the output script.
func (p *Payer) plan(ctx context.Context, q OpenRequest) (r channel.PayerRecord, op channel.Opening, pk []byte, err error) {
	tip, err := p.cfg.Chain.Tip(ctx)
	if err != nil {
		return r, op, nil, err
	}
	if err := q.Offer.CheckOffer(p.cfg.Network, tip.Height, p.cfg.Policy); err != nil {
		return r, op, nil, err
	}
	if most := p.cfg.Policy.MaxDeposit; most > 0 && q.Capacity > most {
		return r, op, nil, fmt.Errorf("%w: %d sat, %d sat are allowed", channel.ErrCap, q.Capacity, most)
	}
	if err := p.relays(q.Offer.TxVersion); err != nil {
		return r, op, nil, err
	}
	index, err := p.nextKey(ctx)
	if err != nil {
		return r, op, nil, err
	}
	key, err := p.cfg.Keys.PayerChannelKey(index)
	if err != nil {
		return r, op, nil, err
	}
	k1 := channel.Key(curve.Public(key).SerializeCompressed())
	if pk, err = script.OutputScript(q.Construction, k1, q.Offer.PayeeKey, q.Offer.Expiry); err != nil {
		return r, op, nil, fmt.Errorf("%w: %w", channel.ErrTerms, err)
	}
	chain.Hint(p.cfg.Chain, pk)
	rest := q.Back
	if len(rest) == 0 {
		if rest, err = p.cfg.Wallet.ReceiveScript(ctx); err != nil {
			return r, op, nil, err
		}
	}
	r = channel.PayerRecord{Phase: channel.Prepared, KeyIndex: index, Origin: q.Origin, Payee: q.Payee, RefundScript: rest, Offer: q.RawOffer}
	op = channel.Opening{Construction: q.Construction, PayerKey: k1, Capacity: q.Capacity, RestScript: rest}
	return r, op, pk, nil
}

// fund builds T1 and saves the channel; the coins are released where that fails.
func (p *Payer) fund(ctx context.Context, q OpenRequest, r channel.PayerRecord, op channel.Opening, pk []byte) (channel.PayerRecord, error) {
	if q.Capacity > channel.MaxSat {
		return r, fmt.Errorf("%w: a capacity of %d sat", channel.ErrTerms, q.Capacity)
	}
	rate, err := q.Rate, error(nil)
	if rate == 0 {
		if rate, err = p.cfg.Chain.FeeRate(ctx, fundingTarget); err != nil {
			return r, err
		}
	}
	funded, err := p.cfg.Wallet.Fund(ctx, []*wire.TxOut{{Value: int64(q.Capacity), PkScript: pk}}, rate)
	if err != nil {
		return r, err
	}
	r, err = p.bindFunding(q, r, op, pk, funded.Tx, funded.Prevouts)
	if err == nil {
		err = p.begin(ctx, r, 0)
	}
	if err != nil {
		return r, errors.Join(err, p.cfg.Wallet.Release(ctx, funded.Tx))
	}
	return r, nil
}

// bindFunding puts T1 into the record of a channel that begins: its inputs are segwit
// (where prevouts are given), one output is the channel's.
func (p *Payer) bindFunding(q OpenRequest, r channel.PayerRecord, op channel.Opening, pk []byte, tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) (channel.PayerRecord, error) {
	if err := script.CheckFundingInputs(tx, prevouts); prevouts != nil && err != nil {
		return r, fmt.Errorf("%w: %w", channel.ErrTerms, err)
	}
	found := false
	for i, out := range tx.TxOut {
		if bytes.Equal(out.PkScript, pk) && out.Value == int64(q.Capacity) {
			op.Outpoint, found = channel.Outpoint{Hash: tx.TxHash(), Index: uint32(i)}, true
		}
	}
	if !found {
		return r, errors.New("the wallet's transaction does not fund the channel")
	}
	t, _, err := q.Offer.Terms(op, p.cfg.Policy)
	if err != nil {
		return r, err
	}
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		return r, err
	}
	r.Terms, r.FundingTx = t, raw
	return r, nil
}

// RefundRequest is the unsigned refund of a multisig channel, for `prepare`.
func (p *Payer) RefundRequest(ctx context.Context, id string) (channel.Hex, error) {
	h, err := p.read(ctx, id)
	if err != nil {
		return nil, err
	}
	rate, err := p.cfg.Chain.FeeRate(ctx, fundingTarget)
	if err != nil {
		return nil, err
	}
	tx, err := h.script.UnsignedRefund(h.record.RefundScript, rate)
	if err != nil {
		return nil, err
	}
	return channel.EncodeTx(tx)
}

// TakeRefundSignature verifies and saves the payee's signature of the refund of
// a multisig channel. T1 must not leave before. Errors: channel.ErrSignature.
func (p *Payer) TakeRefundSignature(ctx context.Context, id string, sig channel.Hex) error {
	_, err := p.change(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		if err := h.script.VerifyRefundSig(sig); err != nil {
			return h.record, nil, fmt.Errorf("%w: the refund: %w", channel.ErrSignature, err)
		}
		next := h.record
		next.RefundSig = sig
		return next, nil, nil
	})
	return err
}

// Opening signs the first half-signature (everything to the payer) and saves the
// channel as funding. From here on T1 may be on the network. A repeat returns
// the same opening. Errors: channel.ErrTerms when a multisig refund is missing,
// channel.ErrFinalized when the channel is over or was given up; ErrUnsigned where T1 is
// another wallet's and not signed yet; those of Config.Keep.
func (p *Payer) Opening(ctx context.Context, id string) (channel.Opening, error) {
	r, err := p.open(ctx, id)
	if err != nil {
		return channel.Opening{}, err
	}
	if r.Unsigned {
		return channel.Opening{}, fmt.Errorf("%w: channel %s", ErrUnsigned, id)
	}
	t := r.Terms
	first, err := p.firstUpdate(r)
	return channel.Opening{
		Construction: t.Construction, PayerKey: t.PayerKey, Outpoint: t.Outpoint, Capacity: t.Capacity,
		RestScript: t.RestScript, Update: first, FundingTx: r.FundingTx,
	}, err
}

// open saves a channel as funding, and has its export kept before.
func (p *Payer) open(ctx context.Context, id string) (channel.PayerRecord, error) {
	return p.change(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		next := h.record
		if err := live(next); err != nil {
			return next, nil, err
		}
		if next.Terms.Cosigned() && len(next.RefundSig) == 0 {
			return next, nil, fmt.Errorf("%w: the refund of channel %s is not signed", channel.ErrTerms, id)
		}
		if next.Phase != channel.Prepared {
			return next, nil, nil
		}
		first, err := p.firstUpdate(next)
		if err != nil {
			return next, nil, err
		}
		next = next.Opened(first.Signature)
		return next, nil, p.keep(ctx, h.script, next)
	})
}

// firstUpdate signs the amount 0 (again): signatures are deterministic, so a
// repeated opening is the same to the byte.
func (p *Payer) firstUpdate(r channel.PayerRecord) (channel.Update, error) {
	key, err := p.key(r)
	if err != nil {
		return channel.Update{}, err
	}
	ch, err := p.scripts(r.Terms)
	if err != nil {
		return channel.Update{}, err
	}
	state, err := r.Terms.Commitment(r.Terms.First(nil))
	if err != nil {
		return channel.Update{}, err
	}
	sig, err := ch.SignState(key, state)
	return r.Terms.First(sig), err
}

// live refuses a channel that is over or was given up: its coins may be spent
// elsewhere. Errors: channel.ErrFinalized.
func live(r channel.PayerRecord) error {
	if r.Void() {
		return fmt.Errorf("%w: channel %s is %s, or was given up", channel.ErrFinalized, r.Terms.ID(), r.Phase)
	}
	return nil
}

// Accepted records that the payee has stored the opening.
// Errors: channel.ErrFinalized when the channel is over or was given up.
func (p *Payer) Accepted(ctx context.Context, id string) error {
	_, err := p.change(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		next := h.record
		next.Accepted = true
		return next, nil, live(h.record)
	})
	return err
}

// Publish broadcasts T1. That it may be on the network is saved before.
// Errors: channel.ErrTerms when `open` was not saved; channel.ErrFinalized when the
// channel is over or was given up; chain.ErrRejected.
func (p *Payer) Publish(ctx context.Context, id string) error {
	r, err := p.change(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		next := h.record
		if err := live(next); err != nil {
			return next, nil, err
		}
		if next.Phase == channel.Prepared {
			return next, nil, fmt.Errorf("%w: channel %s is not saved as funding", channel.ErrTerms, id)
		}
		if next.Unsigned {
			return next, nil, fmt.Errorf("%w: channel %s", ErrUnsigned, id)
		}
		next.FundingSent = true
		return next, nil, nil
	})
	if err != nil {
		return err
	}
	return p.broadcast(ctx, r.FundingTx)
}

func (p *Payer) broadcast(ctx context.Context, raw []byte) error {
	tx, err := channel.DecodeTx(raw)
	if err != nil {
		return err
	}
	return p.cfg.Chain.Broadcast(ctx, tx)
}

// Abandon gives up a channel whose opening never left, and frees its coins. It may
// be repeated, where freeing them failed.
// Errors: channel.ErrFinalized once the opening may have left.
func (p *Payer) Abandon(ctx context.Context, id string) error {
	r, err := p.end(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		next := h.record
		if again := next.Phase == channel.Abandoned && !next.FundingSent; next.Phase != channel.Prepared && !again {
			return next, nil, fmt.Errorf("%w: the opening of channel %s has left", channel.ErrFinalized, id)
		}
		next.Phase = channel.Abandoned
		return next, nil, nil
	})
	if err != nil {
		return err
	}
	tx, err := channel.DecodeTx(r.FundingTx)
	if err != nil {
		return err
	}
	return p.cfg.Wallet.Release(ctx, tx)
}
