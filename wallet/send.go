package wallet

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// All as an amount sends everything that can be spent, less the fee.
const All int64 = -1

// Send pays an amount (sat, or All) to a script and broadcasts the transaction,
// which is saved before. Where the chain refuses it the coins are free again;
// where the chain can't be reached it stays saved, is returned with the error,
// and Rebroadcast sends it later.
// Errors: *InsufficientError, ErrRate, ErrOutput, chain.ErrRejected, chain.ErrUnavailable.
func (w *Wallet) Send(ctx context.Context, pkScript []byte, amount int64, rate script.FeeRate) (*Funded, error) {
	out := wire.NewTxOut(amount, pkScript)
	if amount == All {
		out.Value = script.Dust(pkScript)
	}
	if err := checkOutputs([]*wire.TxOut{out}, rate); err != nil {
		return nil, err
	}
	f, err := w.reserve(ctx, kindSend, func(coins []coin) (*Funded, error) {
		if amount == All {
			return sweep(coins, pkScript, rate)
		}
		return w.author(ctx, coins, []*wire.TxOut{out}, rate)
	})
	if err != nil {
		return nil, err
	}
	err = w.cfg.Chain.Broadcast(ctx, f.Tx)
	if errors.Is(err, chain.ErrRejected) {
		return nil, errors.Join(err, w.Release(ctx, f.Tx))
	}
	if err != nil {
		return f, fmt.Errorf("payment %s is saved and will be sent again: %w", f.Tx.TxHash(), err)
	}
	return f, nil
}

// decodeSaved reads a transaction that this wallet built. Errors: store.ErrDamaged.
func decodeSaved(e store.Entry) (savedTx, *wire.MsgTx, error) {
	var s savedTx
	damaged := func(err error) (savedTx, *wire.MsgTx, error) {
		return s, nil, fmt.Errorf("%w: %s/%s: %w", store.ErrDamaged, e.Bucket, e.Key, err)
	}
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return damaged(err)
	}
	raw, err := hex.DecodeString(s.Tx)
	if err != nil {
		return damaged(err)
	}
	tx, err := script.DecodeTx(raw)
	if err != nil {
		return damaged(err)
	}
	return s, tx, nil
}

// Rebroadcast sends every payment (not: funding) of this wallet again that the
// chain does not show, after a restart, a reorg or a lost connection. What the
// chain refuses is reported, and the others are sent all the same.
// Errors: joined, of the chain and the store.
func (w *Wallet) Rebroadcast(ctx context.Context) error {
	entries, err := w.cfg.Store.List(ctx, bucketTx, "")
	if err != nil {
		return err
	}
	held, err := w.reservations(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range entries {
		s, tx, err := decodeSaved(e)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if s.Kind != kindSend || !holds(held, tx) {
			continue // not ours to send, or over: buried, replaced or released
		}
		_, err = w.cfg.Chain.Tx(ctx, tx.TxHash())
		if errors.Is(err, chain.ErrNotFound) {
			err = w.cfg.Chain.Broadcast(ctx, tx)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("payment %s: %w", e.Key, err))
		}
	}
	return errors.Join(failed...)
}

// holds reports whether coins are still reserved for a transaction.
func holds(held map[string]reservation, tx *wire.MsgTx) bool {
	txid := tx.TxHash().String()
	return slices.ContainsFunc(tx.TxIn, func(in *wire.TxIn) bool {
		return held[in.PreviousOutPoint.String()].Txid == txid
	})
}
