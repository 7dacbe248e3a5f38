package payer

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
)

// ErrNoBump: the wallet cannot make a child of a payer's rest.
var ErrNoBump = errors.New("this wallet cannot raise the fee of a transaction that it did not make")

// Bumper is a wallet that raises the fee of an unconfirmed transaction by a child of one
// of its outputs. wallet.Wallet is one.
type Bumper interface {
	Child(ctx context.Context, parent *wire.MsgTx, index uint32, parentFee int64, rate script.FeeRate, most int64) (*wallet.Funded, error)
}

// Bump raises the fee of the close or the settlement of a channel that waits in the
// mempool, by a child of the payer's rest in it (version 3 where that is): both together
// then pay rate (sat per 1000 vB). The child is saved before it is broadcast; asked
// again a dearer one takes its place. It pays from the rest alone, and at most so many
// sat (0: what the rest holds): in a settlement of many channels it pays for all of them.
// Errors: ErrUnknown, ErrNoBump, channel.ErrNotYet where nothing waits,
// channel.ErrFinalized where it is mined, channel.ErrNothingAtStake where it leaves the
// payer no rest, those of wallet.Wallet.Child. docs/protocol.md, "Closing".
func (p *Payer) Bump(ctx context.Context, id string, rate script.FeeRate, most int64) (*wallet.Funded, error) {
	w, ok := p.cfg.Wallet.(Bumper)
	if !ok {
		return nil, ErrNoBump
	}
	h, err := p.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer h.unlock()
	t := h.record.Terms
	spend, err := p.cfg.Chain.Spend(ctx, wire.OutPoint(t.Outpoint))
	switch {
	case err != nil:
		return nil, err
	case spend == nil:
		return nil, fmt.Errorf("%w: nothing that closes the channel is in the mempool", channel.ErrNotYet)
	case spend.Confirmed:
		return nil, fmt.Errorf("%w: %s is mined at height %d", channel.ErrFinalized, spend.Txid, spend.Height)
	}
	info, err := p.cfg.Chain.Tx(ctx, spend.Txid)
	if err != nil {
		return nil, err
	}
	index, ok := restOf(info.Tx, spend.Vin, t.RestScript)
	if !ok {
		return nil, fmt.Errorf("%w: %s leaves the payer no rest", channel.ErrNothingAtStake, spend.Txid)
	}
	fee, err := p.feeOf(ctx, info.Tx)
	if err != nil {
		return nil, err
	}
	f, err := w.Child(ctx, info.Tx, index, fee, rate, most)
	if err != nil {
		return nil, err
	}
	p.cfg.Log.Info("child", "channel", id, "of", spend.Txid, "txid", f.Tx.TxHash(), "fee_sat", f.Fee)
	return f, nil
}

// restOf is the payer's output in what spends its channel: at the input's index in a
// settlement of several channels, else wherever it is.
func restOf(tx *wire.MsgTx, vin uint32, rest []byte) (index uint32, ok bool) {
	for i, out := range tx.TxOut {
		if bytes.Equal(out.PkScript, rest) && (len(tx.TxIn) == 1 || uint32(i) == vin) {
			return uint32(i), true
		}
	}
	return 0, false
}

// feeOf is what a transaction pays, in sat.
func (p *Payer) feeOf(ctx context.Context, tx *wire.MsgTx) (fee int64, err error) {
	for _, in := range tx.TxIn {
		parent, err := p.cfg.Chain.Tx(ctx, in.PreviousOutPoint.Hash)
		if err != nil {
			return 0, err
		}
		if int64(in.PreviousOutPoint.Index) >= int64(len(parent.Tx.TxOut)) {
			return 0, fmt.Errorf("%w: %s does not exist", channel.ErrTerms, in.PreviousOutPoint)
		}
		fee += parent.Tx.TxOut[in.PreviousOutPoint.Index].Value
	}
	for _, out := range tx.TxOut {
		fee -= out.Value
	}
	return fee, nil
}
