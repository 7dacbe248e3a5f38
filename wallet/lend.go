package wallet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// lentFor marks reservations that Lend made, in the place of a transaction's id: what
// spends such a coin is somebody else's, and is replaced at rising fees.
const lentFor = "lent for "

// Lend reserves one confirmed coin, durably, for a transaction that somebody else makes
// and that this wallet signs (Sign): the smallest one that holds need and what its own
// input costs at rate (sat, sat per 1000 vB). Asked again under the same name it gives
// the same coin, whatever was made of it meanwhile. It is free again after Return.
// Errors: *InsufficientError, ErrRate, of the chain and the store.
func (w *Wallet) Lend(ctx context.Context, name string, need int64, rate script.FeeRate) (map[wire.OutPoint]*wire.TxOut, error) {
	if rate <= 0 || rate > maxRate || need < 0 || need > maxSat {
		return nil, fmt.Errorf("%w: %d sat per 1000 vB, for %d sat", ErrRate, rate, need)
	}
	w.funding.Lock()
	defer w.funding.Unlock()
	for range maxAttempts {
		if out, err := w.lent(ctx, name); err != nil || len(out) > 0 {
			return out, err
		}
		all, err := w.coins(ctx)
		if err != nil {
			return nil, err
		}
		least := need + rate.Fee(inputVSize)
		pick, total := -1, int64(0)
		for i, c := range all { // the largest comes first
			if c.usable() && c.Confirmed {
				if total += c.Value; c.Value >= least {
					pick = i
				}
			}
		}
		if pick < 0 {
			return nil, &InsufficientError{Needed: least, Available: total}
		}
		tip, err := w.cfg.Chain.Tip(ctx)
		if err != nil {
			return nil, err
		}
		c := all[pick]
		value, err := json.Marshal(reservation{Txid: lentFor + name, Value: c.Value, Height: tip.Height, Script: c.pkScript})
		if err != nil {
			return nil, err
		}
		err = w.cfg.Store.Commit(ctx, store.Op{Bucket: bucketReserved, Key: c.Outpoint.String(), Value: value})
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		return map[wire.OutPoint]*wire.TxOut{c.Outpoint: wire.NewTxOut(c.Value, c.pkScript)}, err
	}
	return nil, fmt.Errorf("other wallets on this store kept taking the coins: %w", store.ErrConflict)
}

// lent is what is lent under a name already.
func (w *Wallet) lent(ctx context.Context, name string) (map[wire.OutPoint]*wire.TxOut, error) {
	held, err := w.reservations(ctx)
	if err != nil {
		return nil, err
	}
	out := map[wire.OutPoint]*wire.TxOut{}
	for key, r := range held {
		if r.Txid != lentFor+name {
			continue
		}
		op, err := parseOutpoint(key)
		if err != nil {
			return nil, err
		}
		if len(r.Script) > 0 { // a node need not show the transaction for ever
			out[op] = wire.NewTxOut(r.Value, r.Script)
			continue
		}
		info, err := w.cfg.Chain.Tx(ctx, op.Hash)
		if err != nil {
			return nil, err
		}
		if int(op.Index) >= len(info.Tx.TxOut) {
			return nil, fmt.Errorf("%w: %s has no such output", chain.ErrUnavailable, op)
		}
		out[op] = info.Tx.TxOut[op.Index]
	}
	return out, nil
}

// Return ends what Lend reserved under a name; where a transaction spent the coin there
// is nothing to be had back. Returning twice is no error. Errors: of the store.
func (w *Wallet) Return(ctx context.Context, name string) error {
	for {
		held, err := w.reservations(ctx)
		if err != nil {
			return err
		}
		var ops []store.Op
		for key, r := range held {
			if r.Txid == lentFor+name {
				ops = append(ops, store.Op{Bucket: bucketReserved, Key: key, Expect: r.rev})
			}
		}
		if len(ops) == 0 {
			return nil
		}
		if err := w.cfg.Store.Commit(ctx, ops...); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// isLent reports whether a reservation is one of Lend's.
func (r reservation) isLent() bool { return strings.HasPrefix(r.Txid, lentFor) }
