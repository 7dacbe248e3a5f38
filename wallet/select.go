package wallet

import (
	"bytes"
	"context"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// Selection is the wallet's own, and not txauthor's: that one always counts a
// change output and a P2WPKH input at first, and so refuses coins that suffice.

const (
	// inputWeight of a taproot key spend: 41 bytes, and a witness of one signature.
	inputWeight = 4*41 + 66
	// inputVSize is what one more input costs, in vB, rounded up.
	inputVSize = (inputWeight + 3) / 4
)

// vsize is the exact size in vB of a transaction with this many inputs of ours.
func vsize(inputs int, outputs ...*wire.TxOut) int64 {
	base := 8 + wire.VarIntSerializeSize(uint64(inputs)) + wire.VarIntSerializeSize(uint64(len(outputs)))
	for _, out := range outputs {
		base += out.SerializeSize()
	}
	return int64(4*base+2+inputs*inputWeight+3) / 4
}

// worth drops coins that cost more to spend at this rate than they hold.
func worth(coins []coin, rate script.FeeRate) (some []coin, total int64) {
	for _, c := range coins {
		if c.Value > rate.Fee(inputVSize) {
			some, total = append(some, c), total+c.Value
		}
	}
	return some, total
}

// author picks coins in their order, confirmed and large ones first, until they
// cover the outputs and the fee, and adds the change where it is above dust.
func (w *Wallet) author(ctx context.Context, coins []coin, outputs []*wire.TxOut, rate script.FeeRate) (*Funded, error) {
	coins, available := worth(coins, rate)
	f := &Funded{Tx: wire.NewMsgTx(txVersion), ChangeIndex: -1}
	var want, have int64
	for _, out := range outputs {
		f.Tx.AddTxOut(wire.NewTxOut(out.Value, bytes.Clone(out.PkScript)))
		want += out.Value
	}
	n := 0
	for need := want + rate.Fee(vsize(1, outputs...)); have < need; need = want + rate.Fee(vsize(n, outputs...)) {
		if n == len(coins) {
			return nil, &InsufficientError{Needed: need, Available: available}
		}
		have += coins[n].Value
		n++
	}
	if err := w.addChange(ctx, f, n, have-want, rate); err != nil {
		return nil, err
	}
	f.spend(coins[:n])
	return f, nil
}

// addChange gives what is left (sat, before the fee) to a fresh internal script,
// or to the fee where that would be dust.
func (w *Wallet) addChange(ctx context.Context, f *Funded, inputs int, left int64, rate script.FeeRate) error {
	to, op, err := w.fresh(ctx, true)
	if err != nil {
		return err
	}
	change := wire.NewTxOut(0, to.pkScript)
	change.Value = left - rate.Fee(vsize(inputs, append(f.Tx.TxOut[:len(f.Tx.TxOut):len(f.Tx.TxOut)], change)...))
	if change.Value < script.Dust(to.pkScript) {
		return nil
	}
	f.ChangeIndex, f.change = len(f.Tx.TxOut), op
	f.Tx.AddTxOut(change)
	return nil
}

// sweep spends all coins into one output.
func sweep(coins []coin, pkScript []byte, rate script.FeeRate) (*Funded, error) {
	coins, total := worth(coins, rate)
	out := wire.NewTxOut(0, bytes.Clone(pkScript))
	fee := rate.Fee(vsize(len(coins), out))
	out.Value = total - fee
	if dust := script.Dust(pkScript); len(coins) == 0 || out.Value < dust {
		return nil, &InsufficientError{Needed: fee + dust, Available: total}
	}
	f := &Funded{Tx: wire.NewMsgTx(txVersion), ChangeIndex: -1}
	f.Tx.AddTxOut(out)
	f.spend(coins)
	return f, nil
}

// spend adds the inputs and notes what they spend, and the fee that follows.
func (f *Funded) spend(coins []coin) {
	f.Prevouts = make(map[wire.OutPoint]*wire.TxOut, len(coins))
	for _, c := range coins {
		f.Tx.AddTxIn(&wire.TxIn{PreviousOutPoint: c.Outpoint, Sequence: sequence})
		f.Prevouts[c.Outpoint] = wire.NewTxOut(c.Value, c.pkScript)
		f.paths = append(f.paths, c.path)
		f.Fee += c.Value
	}
	for _, out := range f.Tx.TxOut {
		f.Fee -= out.Value
	}
}
