package wallet

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/store"
)

// Release gives the coins of a transaction back that was never broadcast, and its
// change script with them. Coins that are promised to another transaction stay
// reserved; releasing twice is no error. Errors: of the store.
func (w *Wallet) Release(ctx context.Context, tx *wire.MsgTx) error {
	txid := tx.TxHash().String()
	for {
		ops, err := w.release(ctx, tx, txid)
		if err != nil || len(ops) == 0 {
			return err
		}
		if err := w.cfg.Store.Commit(ctx, ops...); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func (w *Wallet) release(ctx context.Context, tx *wire.MsgTx, txid string) ([]store.Op, error) {
	held, err := w.reservations(ctx)
	if err != nil {
		return nil, err
	}
	var ops []store.Op
	for _, in := range tx.TxIn {
		key := in.PreviousOutPoint.String()
		if r, ok := held[key]; ok && r.Txid == txid {
			ops = append(ops, store.Op{Bucket: bucketReserved, Key: key, Expect: r.rev})
		}
	}
	if len(ops) == 0 {
		return nil, nil
	}
	e, err := w.cfg.Store.Get(ctx, bucketTx, txid)
	if err == nil {
		ops = append(ops, store.Op{Bucket: bucketTx, Key: txid, Expect: e.Revision})
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	x, err := w.index(ctx, true)
	if err != nil || x.Next == 0 {
		return ops, err
	}
	last, err := w.slot(path{change: true, index: x.Next - 1})
	if err != nil || x.Used >= x.Next {
		return ops, err
	}
	for _, out := range tx.TxOut {
		if bytes.Equal(out.PkScript, last.pkScript) {
			x.Next--
			op, err := x.op(true)
			return append(ops, op), err
		}
	}
	return ops, nil
}

// ReleaseOrphans frees the coins of funding transactions that nobody knows: those
// that a process had reserved when it was killed, before the channel was saved.
// known reports whether a transaction belongs to a channel. Where other processes
// use the store, blocks must be at least as many as such a process may take to
// save its channel. It returns how many coins are free again.
// Errors: of the chain and the store.
func (w *Wallet) ReleaseOrphans(ctx context.Context, blocks uint32, known func(txid string) bool) (int, error) {
	tip, err := w.cfg.Chain.Tip(ctx)
	if err != nil {
		return 0, err
	}
	held, err := w.reservations(ctx)
	if err != nil {
		return 0, err
	}
	orphans := map[string]int{}
	for _, r := range held {
		if r.Height+blocks <= tip.Height && !r.isLent() && !known(r.Txid) {
			orphans[r.Txid]++
		}
	}
	freed := 0
	for txid, coins := range orphans {
		e, err := w.cfg.Store.Get(ctx, bucketTx, txid)
		if err != nil {
			return freed, err
		}
		s, tx, err := decodeSaved(e)
		if err != nil {
			return freed, err
		}
		if s.Kind != kindFund {
			continue
		}
		if err := w.Release(ctx, tx); err != nil {
			return freed, err
		}
		w.cfg.Logger.Info("coins of an unfinished opening are free again", "txid", txid)
		freed += coins
	}
	return freed, nil
}

// Reservation is a coin that is promised to a transaction.
type Reservation struct {
	Outpoint wire.OutPoint
	Txid     string // of that transaction
	Value    int64  // sat
	Height   uint32 // tip when it was reserved
}

// Reservations lists the reserved coins. Errors: of the store.
func (w *Wallet) Reservations(ctx context.Context) ([]Reservation, error) {
	held, err := w.reservations(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Reservation, 0, len(held))
	for key, r := range held {
		op, err := parseOutpoint(key)
		if err != nil {
			return nil, err
		}
		list = append(list, Reservation{Outpoint: op, Txid: r.Txid, Value: r.Value, Height: r.Height})
	}
	slices.SortFunc(list, func(a, b Reservation) int { return cmp.Compare(a.Outpoint.String(), b.Outpoint.String()) })
	return list, nil
}

func parseOutpoint(key string) (wire.OutPoint, error) {
	op, err := wire.NewOutPointFromString(key)
	if err != nil {
		return wire.OutPoint{}, fmt.Errorf("%w: %s/%s: %w", store.ErrDamaged, bucketReserved, key, err)
	}
	if op.String() != key { // it would never be found again
		return wire.OutPoint{}, fmt.Errorf("%w: %s/%s is not in its one form", store.ErrDamaged, bucketReserved, key)
	}
	return *op, nil
}
