package wallet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// Cancel spends the coins of an own, unconfirmed transaction back to the wallet
// at a higher fee and broadcasts that: the way out for a payer whose opening is
// never accepted. The fee is at least the old one and 1 sat/vB more, as nodes
// want of a replacement (BIP125). The reservations pass to the new transaction.
// Errors: store.ErrNotFound when tx was not built here, *InsufficientError,
// ErrRate, chain.ErrRejected.
func (w *Wallet) Cancel(ctx context.Context, txid chainhash.Hash, rate script.FeeRate) (*Funded, error) {
	if rate <= 0 || rate > maxRate {
		return nil, fmt.Errorf("%w: %d sat per 1000 vB", ErrRate, rate)
	}
	w.funding.Lock()
	defer w.funding.Unlock()
	e, err := w.cfg.Store.Get(ctx, bucketTx, txid.String())
	if err != nil {
		return nil, err
	}
	s, old, err := decodeSaved(e)
	if err != nil {
		return nil, err
	}
	f, err := w.replacement(ctx, s, old, rate)
	if err != nil {
		return nil, err
	}
	if err := w.complete(f); err != nil {
		return nil, err
	}
	if err := w.saveReplacement(ctx, f, txid.String()); err != nil {
		return nil, err
	}
	err = w.cfg.Chain.Broadcast(ctx, f.Tx)
	if errors.Is(err, chain.ErrRejected) {
		return nil, errors.Join(err, w.undoReplacement(ctx, f, txid.String()))
	}
	return f, err
}

// replacement builds the transaction that takes the coins of old back.
func (w *Wallet) replacement(ctx context.Context, s savedTx, old *wire.MsgTx, rate script.FeeRate) (*Funded, error) {
	held, err := w.reservations(ctx)
	if err != nil {
		return nil, err
	}
	own, err := w.owned(ctx)
	if err != nil {
		return nil, err
	}
	var coins []coin
	for _, in := range old.TxIn {
		r, ok := held[in.PreviousOutPoint.String()]
		if !ok || r.Txid != old.TxHash().String() {
			return nil, fmt.Errorf("%w: the coins of %s are not reserved for it any more", store.ErrNotFound, old.TxHash())
		}
		parent, err := w.cfg.Chain.Tx(ctx, in.PreviousOutPoint.Hash)
		if err != nil {
			return nil, err
		}
		if int(in.PreviousOutPoint.Index) >= len(parent.Tx.TxOut) {
			return nil, fmt.Errorf("%w: %s has no such output", chain.ErrUnavailable, in.PreviousOutPoint)
		}
		out := parent.Tx.TxOut[in.PreviousOutPoint.Index]
		p, ok := own[string(out.PkScript)]
		if !ok {
			return nil, fmt.Errorf("%w: %s is not the wallet's", ErrOutput, in.PreviousOutPoint)
		}
		coins = append(coins, coin{
			UTXO: chain.UTXO{Outpoint: in.PreviousOutPoint, Value: out.Value, PkScript: out.PkScript},
			slot: slot{path: p, pkScript: out.PkScript},
		})
	}
	back, op, err := w.fresh(ctx, true)
	if err != nil {
		return nil, err
	}
	f, err := sweep(coins, back.pkScript, rate)
	if err != nil {
		return nil, err
	}
	size := vsize(len(f.Tx.TxIn), f.Tx.TxOut...)
	if least := s.Fee + script.FeeRatePerVB(1).Fee(size); f.Fee < least {
		f.Tx.TxOut[0].Value -= least - f.Fee
		f.Fee = least
	}
	if f.Tx.TxOut[0].Value < script.Dust(back.pkScript) {
		return nil, &InsufficientError{Needed: f.Fee + script.Dust(back.pkScript), Available: f.Fee + f.Tx.TxOut[0].Value}
	}
	f.ChangeIndex, f.change = 0, op
	return f, nil
}

// saveReplacement saves a replacement and gives it the old one's reservations.
func (w *Wallet) saveReplacement(ctx context.Context, f *Funded, old string) error {
	txid := f.Tx.TxHash().String()
	saved, err := encodeSaved(kindSend, f)
	if err != nil {
		return err
	}
	ops, err := w.passOn(ctx, f.Tx, old, txid)
	if err != nil {
		return err
	}
	ops = append(ops, store.Op{Bucket: bucketTx, Key: txid, Value: saved, Expect: store.Any})
	if f.change != nil {
		ops = append(ops, *f.change)
	}
	return w.cfg.Store.Commit(ctx, ops...)
}

// undoReplacement gives the reservations back to the old transaction, which the
// chain prefers.
func (w *Wallet) undoReplacement(ctx context.Context, f *Funded, old string) error {
	txid := f.Tx.TxHash().String()
	ops, err := w.passOn(ctx, f.Tx, txid, old)
	if err != nil {
		return err
	}
	return w.cfg.Store.Commit(ctx, append(ops, store.Op{Bucket: bucketTx, Key: txid, Expect: store.Any})...)
}

// passOn moves the reservations of tx's inputs from one transaction to another.
func (w *Wallet) passOn(ctx context.Context, tx *wire.MsgTx, from, to string) ([]store.Op, error) {
	held, err := w.reservations(ctx)
	if err != nil {
		return nil, err
	}
	var ops []store.Op
	for _, in := range tx.TxIn {
		key := in.PreviousOutPoint.String()
		r, ok := held[key]
		if !ok || r.Txid != from {
			return nil, fmt.Errorf("%w: %s is promised elsewhere", store.ErrConflict, key)
		}
		value, err := json.Marshal(reservation{Txid: to, Value: r.Value, Height: r.Height})
		if err != nil {
			return nil, err
		}
		ops = append(ops, store.Op{Bucket: bucketReserved, Key: key, Value: value, Expect: r.rev})
	}
	return ops, nil
}

// Built reports whether this wallet built a transaction. Errors: of the store.
func (w *Wallet) Built(ctx context.Context, txid chainhash.Hash) (bool, error) {
	_, err := w.cfg.Store.Get(ctx, bucketTx, txid.String())
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
