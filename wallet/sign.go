package wallet

import (
	"bytes"
	"context"
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// complete signs every input and executes the result under standard flags.
func (w *Wallet) complete(f *Funded) error {
	if err := w.sign(f.Tx, f.Prevouts, func(i int) (path, bool) { return f.paths[i], true }); err != nil {
		return err
	}
	return script.Execute(f.Tx, f.Prevouts)
}

// Sign adds the key-path signature (SIGHASH_DEFAULT) to every input of tx that
// spends an output of this wallet, such as a fee input, and reports how many
// those are. prevouts must hold what every input spends.
// Errors: ErrOutput when a prevout is missing, of the store and the keys.
func (w *Wallet) Sign(ctx context.Context, tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) (int, error) {
	own, err := w.owned(ctx)
	if err != nil {
		return 0, err
	}
	signed := 0
	for _, in := range tx.TxIn {
		if prevouts[in.PreviousOutPoint] == nil {
			return 0, fmt.Errorf("%w: what input %s spends is not known", ErrOutput, in.PreviousOutPoint)
		}
	}
	err = w.sign(tx, prevouts, func(i int) (path, bool) {
		p, ok := own[string(prevouts[tx.TxIn[i].PreviousOutPoint].PkScript)]
		if ok {
			signed++
		}
		return p, ok
	})
	return signed, err
}

func (w *Wallet) sign(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut, at func(int) (path, bool)) error {
	fetcher := txscript.NewMultiPrevOutFetcher(prevouts)
	hashes := txscript.NewTxSigHashes(tx, fetcher)
	for i, in := range tx.TxIn {
		p, ok := at(i)
		if !ok {
			continue
		}
		key, pk, err := w.cfg.Keys.WalletKey(p.change, p.index)
		if err != nil {
			return err
		}
		prev := prevouts[in.PreviousOutPoint]
		if !bytes.Equal(prev.PkScript, pk) {
			return fmt.Errorf("%w: %s is not the wallet's", ErrOutput, in.PreviousOutPoint)
		}
		sig, err := txscript.RawTxInTaprootSignature(tx, hashes, i, prev.Value, pk, []byte{}, txscript.SigHashDefault, key)
		key.Zero()
		if err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
		in.Witness = wire.TxWitness{sig}
	}
	return nil
}

// owned maps the wallet's scripts, up to the gap limit, to their keys' places.
func (w *Wallet) owned(ctx context.Context) (map[string]path, error) {
	if err := w.discover(ctx); err != nil {
		return nil, err
	}
	own := map[string]path{}
	for _, change := range []bool{false, true} {
		x, err := w.index(ctx, change)
		if err != nil {
			return nil, err
		}
		for i := range x.Next + gapLimit {
			s, err := w.slot(path{change, i})
			if err != nil {
				return nil, err
			}
			own[string(s.pkScript)] = s.path
		}
	}
	return own, nil
}
