package payer

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/watch"
)

// Closing is one attempt at a cooperative close. Its secret nonce lives only in
// memory and is used once; another attempt is another Closing.
type Closing struct {
	Update channel.Update
	Nonce  [66]byte // public
	Ledger uint64   // msat, the payer's; what a duplex channel is closed at
	nonce  *script.Nonce
}

// BeginClose makes a fresh nonce for a cooperative close at the newest update.
// Errors: channel.ErrOwes while the payer's own ledger is not paid,
// channel.ErrFinalized in a channel that was imported.
func (p *Payer) BeginClose(ctx context.Context, id string) (*Closing, error) {
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return nil, err
	}
	defer h.unlock()
	if err := h.record.CanClose(); err != nil {
		return nil, err
	}
	duplex := h.record.Duplex != nil
	key, err := p.key(h.record)
	if err != nil {
		return nil, err
	}
	c := &Closing{Update: h.record.Newest(), Ledger: h.record.Owed}
	if h.record.Terms.Construction != script.Taproot && !duplex {
		return c, nil
	}
	if c.nonce, err = script.NewNonce(p.cfg.Rand, key); err != nil {
		return nil, err
	}
	c.Nonce = c.nonce.Public
	return c, nil
}

// FinishClose checks the close that the payee answered with, completes, saves
// and broadcasts it, and returns it for the payee.
// Errors: channel.ErrTerms, channel.ErrSignature, script.ErrNonceReused, and
// channel.ErrFinalized once the refund is on its way or the channel over.
func (p *Payer) FinishClose(ctx context.Context, id string, c *Closing, rawTx []byte, payeeNonce [66]byte, partial []byte) (channel.Hex, error) {
	tx, err := channel.DecodeTx(rawTx)
	if err != nil {
		return nil, err
	}
	r, err := p.change(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		next, err := h.record.Ends(channel.Closing)
		if err != nil {
			return next, nil, err
		}
		final, err := p.complete(ctx, h, c, tx, payeeNonce, partial)
		if err != nil {
			return next, nil, err
		}
		raw, err := channel.EncodeTx(final)
		if err != nil {
			return next, nil, err
		}
		next.Close = &channel.PayerClose{Tx: raw, Txid: final.TxHash().String()}
		return next, nil, nil
	})
	if err != nil {
		return nil, err
	}
	return r.Close.Tx, p.broadcast(ctx, r.Close.Tx)
}

func (p *Payer) complete(ctx context.Context, h *held, c *Closing, tx *wire.MsgTx, payeeNonce [66]byte, partial []byte) (*wire.MsgTx, error) {
	if err := p.checkClose(ctx, h, tx); err != nil {
		return nil, err
	}
	key, err := p.key(h.record)
	if err != nil {
		return nil, err
	}
	if err := h.script.VerifyPartial(tx, partial, h.record.Terms.PayeeKey, payeeNonce, c.Nonce); err != nil {
		return nil, fmt.Errorf("%w: the payee's part of the close: %w", channel.ErrSignature, err)
	}
	own, err := h.script.PartialSign(tx, key, c.nonce, payeeNonce)
	if err != nil {
		return nil, err
	}
	return h.script.CombineClose(tx, own, partial, [2][66]byte{c.Nonce, payeeNonce})
}

// checkClose applies the rule for a close; the fee may be twice what a
// settlement costs at the payer's own estimate, and a little.
func (p *Payer) checkClose(ctx context.Context, h *held, tx *wire.MsgTx) error {
	rate, err := p.cfg.Chain.FeeRate(ctx, fundingTarget)
	if err != nil {
		return err
	}
	size := h.script.SettlementVSize(int64(h.record.Terms.Capacity-h.record.Signed), h.record.RefundScript)
	return h.record.CheckClose(tx, 2*rate.Fee(size)+size)
}

// TakeSettlement records the settlement that the payee of a multisig channel
// returned when it was asked to close. Errors: channel.ErrTerms.
func (p *Payer) TakeSettlement(ctx context.Context, id string, rawTx []byte) (channel.Hex, error) {
	tx, err := channel.DecodeTx(rawTx)
	if err != nil {
		return nil, err
	}
	r, err := p.change(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		next, err := h.record.Ends(channel.Settling)
		if err != nil {
			return next, nil, err
		}
		if err := p.checkSettlement(h, tx); err != nil {
			return next, nil, err
		}
		next.Close = &channel.PayerClose{Tx: rawTx, Txid: tx.TxHash().String()}
		return next, nil, nil
	})
	if err != nil {
		return nil, err
	}
	return r.Close.Tx, p.broadcast(ctx, r.Close.Tx)
}

// checkSettlement: it spends the channel, pays the whole rest, and executes.
func (p *Payer) checkSettlement(h *held, tx *wire.MsgTx) error {
	if err := h.record.CheckClose(tx, 0); err != nil {
		return err
	}
	prev := map[wire.OutPoint]*wire.TxOut{wire.OutPoint(h.record.Terms.Outpoint): h.script.Prevout()}
	if err := script.Execute(tx, prev); err != nil {
		return fmt.Errorf("%w: the settlement does not verify: %w", channel.ErrTerms, err)
	}
	return nil
}

// Refund takes the channel back now, when its expiry has come.
// Errors: channel.ErrNotYet before, channel.ErrFinalized when the output is spent.
func (p *Payer) Refund(ctx context.Context, id string) (*channel.Broadcast, error) {
	h, err := p.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer h.unlock()
	v, _, err := watch.Look(ctx, p.cfg.Chain, wire.OutPoint(h.record.Terms.Outpoint), h.record.FundingTx)
	if err != nil {
		return nil, err
	}
	switch {
	case v.Spend != nil && !h.record.Refund.Is(v.Spend.Txid):
		return nil, fmt.Errorf("%w: the output is spent by %s", channel.ErrFinalized, v.Spend.Txid)
	case v.Tip < h.record.Terms.Expiry:
		return nil, fmt.Errorf("%w: the refund is valid from height %d on, the tip is %d", channel.ErrNotYet, h.record.Terms.Expiry, v.Tip)
	}
	if err := p.due(ctx, h, v); err != nil {
		return h.record.Refund, err
	}
	if h.record.Refund == nil {
		return nil, fmt.Errorf("%w: phase %s", channel.ErrFinalized, h.record.Phase)
	}
	return h.record.Refund, nil
}

// EarlyRefund builds the refund without saving or broadcasting it: for a look at
// it, an export, or to show that the chain refuses it before the expiry.
func (p *Payer) EarlyRefund(ctx context.Context, id string) (*wire.MsgTx, error) {
	h, err := p.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer h.unlock()
	rate, err := p.cfg.Chain.FeeRate(ctx, fundingTarget)
	if err != nil {
		return nil, err
	}
	tx, _, err := p.buildRefund(h, rate)
	return tx, err
}

func (p *Payer) buildRefund(h *held, rate script.FeeRate) (*wire.MsgTx, int64, error) {
	key, err := p.key(h.record)
	if err != nil {
		return nil, 0, err
	}
	return h.script.Refund(key, h.record.RefundSig, h.record.RefundScript, rate)
}

// Watched returns the channels that still need the chain, for package watch. Records
// that cannot be read are an error beside the others: each channel fails alone.
func (p *Payer) Watched(ctx context.Context) ([]watch.Target, error) {
	records, err := p.readable(ctx)
	var targets []watch.Target
	for _, r := range records {
		if !r.Phase.Final() && r.Phase != channel.Prepared {
			targets = append(targets, watch.Target{ID: r.Terms.ID(), Outpoint: wire.OutPoint(r.Terms.Outpoint), FundingTx: r.FundingTx})
		}
	}
	return targets, err
}

// Due does what a channel needs as the chain stands: rules, save, broadcast.
func (p *Payer) Due(ctx context.Context, id string, v channel.View, _ []byte) error {
	h, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer h.unlock()
	return p.due(ctx, h, v)
}

func (p *Payer) due(ctx context.Context, h *held, v channel.View) error {
	p.observe(h, v)
	next, actions := h.record.Due(h.script, v, p.cfg.Policy)
	if next.Phase != h.record.Phase || next.SpentBy != h.record.SpentBy || next.FundingSent != h.record.FundingSent {
		if err := p.save(ctx, h, next); err != nil {
			return err
		}
		p.cfg.Log.Info("channel", "channel", h.id, "phase", next.Phase)
	}
	var failed []error
	for _, a := range actions {
		if !h.record.Stop().MayAct(a.Kind) {
			continue
		}
		switch a.Kind {
		case channel.MakeRefund:
			failed = append(failed, p.refund(ctx, h, a.Rate, v.Tip))
		case channel.MakeSettlement:
			failed = append(failed, p.settle(ctx, h, a.Rate, v.Tip))
		default:
			failed = append(failed, p.send(ctx, a.Tx))
		}
	}
	return errors.Join(failed...)
}

// refund builds the refund at a rate, saves it, and broadcasts it.
func (p *Payer) refund(ctx context.Context, h *held, rate script.FeeRate, tip uint32) error {
	tx, fee, err := p.buildRefund(h, rate)
	if err != nil {
		return err
	}
	if err := h.record.RefundSound(tx, fee); err != nil {
		return p.stop(ctx, h, err)
	}
	return p.made(ctx, h, tx, channel.Broadcast{Rate: int64(rate), Fee: fee, Height: tip})
}

// made saves a refund, or the settlement of what a duplex channel's payer holds,
// and broadcasts it.
func (p *Payer) made(ctx context.Context, h *held, tx *wire.MsgTx, b channel.Broadcast) error {
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		return err
	}
	b.Tx, b.Txid = raw, tx.TxHash().String()
	next := h.record
	next.Refund = b.Replaces(h.record.Refund)
	if err := p.save(ctx, h, next); err != nil {
		return err
	}
	p.cfg.Log.Info("back", "channel", h.id, "txid", b.Txid, "fee_sat", b.Fee)
	return p.send(ctx, raw)
}

// send broadcasts; a refusal is repeated with the next block and only logged.
func (p *Payer) send(ctx context.Context, raw []byte) error {
	err := p.broadcast(ctx, raw)
	if errors.Is(err, chain.ErrRejected) {
		p.cfg.Log.Warn("a broadcast was refused, it is repeated with the next block", "reason", err)
		return nil
	}
	return err
}
