package payee

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
)

// Coins lends confirmed coins of the payee's own; wallet.Wallet fits.
type Coins interface {
	Lend(ctx context.Context, name string, need int64, rate script.FeeRate) (map[wire.OutPoint]*wire.TxOut, error)
	Return(ctx context.Context, name string) error
	Sign(ctx context.Context, tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) (int, error)
}

// coinsFor names what is lent for a channel's settlement.
func coinsFor(id string) string { return "settlement of " + id }

// coins borrows what a settlement at a rate needs beside its own output; the same coin
// for each that takes the place of an older one. Where there is none the settlement is
// made without, at what it can pay: 0, nothing.
func (p *Payee) coins(ctx context.Context, h *held, wanted bool, rate *script.FeeRate) (e script.Extra, err error) {
	if !wanted || p.cfg.Coins == nil {
		return e, nil
	}
	e.Prevouts, err = p.cfg.Coins.Lend(ctx, coinsFor(h.id), script.Dust(p.cfg.Payout)+rate.Fee(h.script.SettlementVSize(int64(h.record.Terms.Capacity-h.record.Paid), p.cfg.Payout)), *rate)
	if errors.Is(err, wallet.ErrInsufficient) {
		p.cfg.Log.Warn("no confirmed coin helps a settlement to pay its fee", "channel", h.id, "reason", err)
		*rate = channel.Seat{Record: h.record, Script: h.script}.Without(p.cfg.Payout, *rate)
		return script.Extra{}, nil
	} else if err != nil {
		return e, err
	}
	e.Sign = func(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) error {
		n, err := p.cfg.Coins.Sign(ctx, tx, prevouts)
		if err == nil && n < len(e.Prevouts) {
			err = fmt.Errorf("%d of %d fee inputs were signed", n, len(e.Prevouts))
		}
		return err
	}
	return e, nil
}

// worth is what fee inputs hold, in sat.
func worth(e script.Extra) (sat int64) {
	for _, out := range e.Prevouts {
		sat += out.Value
	}
	return sat
}

// settlementSound is the check of a settlement of one channel before it is saved.
func (p *Payee) settlementSound(h *held, tx *wire.MsgTx, fee int64, e script.Extra) error {
	if len(e.Prevouts) > 0 {
		return h.record.TopUpSound(tx, fee, p.cfg.Payout, e.Prevouts)
	}
	return h.record.SettlementSound(tx, fee, p.cfg.Payout)
}

// giveBack frees what was lent for a channel that is over, before that is saved: who
// dies between does both again.
func (p *Payee) giveBack(ctx context.Context, h *held) error {
	if p.cfg.Coins == nil || h.record.Settlement == nil {
		return nil
	}
	return p.cfg.Coins.Return(ctx, coinsFor(h.id))
}
