package wallet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spillway/spillway/store"
)

// gapLimit is how many unused scripts in a row end a search, on the external and
// on the internal chain alike (BIP44).
const gapLimit = 20

// chainIndex is how far one of the two chains of addresses has come.
type chainIndex struct {
	Next uint32 `json:"next"` // the next fresh index
	Used uint32 `json:"used"` // one above the highest index that was seen on the chain
	rev  uint64
}

func chainName(change bool) string {
	if change {
		return "internal"
	}
	return "external"
}

func (w *Wallet) index(ctx context.Context, change bool) (chainIndex, error) {
	var x chainIndex
	e, err := w.cfg.Store.Get(ctx, bucketIndex, chainName(change))
	if errors.Is(err, store.ErrNotFound) {
		return x, nil
	} else if err != nil {
		return x, err
	}
	if err := json.Unmarshal(e.Value, &x); err != nil {
		return x, fmt.Errorf("%w: %s/%s: %w", store.ErrDamaged, bucketIndex, chainName(change), err)
	}
	x.rev = e.Revision
	return x, nil
}

// op writes the index back, against the revision that it was read at.
func (x chainIndex) op(change bool) (store.Op, error) {
	value, err := json.Marshal(x)
	return store.Op{Bucket: bucketIndex, Key: chainName(change), Value: value, Expect: x.rev}, err
}

// raise makes sure that an index counts as used (or handed out), whoever else writes.
func (w *Wallet) raise(ctx context.Context, change bool, next, used uint32) error {
	for {
		x, err := w.index(ctx, change)
		if err != nil {
			return err
		}
		if x.Next >= next && x.Used >= used {
			return nil
		}
		x.Next, x.Used = max(x.Next, next), max(x.Used, used)
		op, err := x.op(change)
		if err != nil {
			return err
		}
		if err := w.cfg.Store.Commit(ctx, op); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// discover searches both chains for what a restored seed has used, once per
// store: until 20 scripts in a row have no history.
func (w *Wallet) discover(ctx context.Context) error {
	w.mu.Lock()
	done := w.scanned
	w.mu.Unlock()
	if done {
		return nil
	}
	_, err := w.cfg.Store.Get(ctx, bucketIndex, "scanned")
	if errors.Is(err, store.ErrNotFound) {
		err = w.Rescan(ctx)
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.scanned = true
	w.mu.Unlock()
	return nil
}

// Rescan searches both chains of addresses from the start, as after a restore
// from the seed alone. Errors: of the chain and the store.
func (w *Wallet) Rescan(ctx context.Context) error {
	for _, change := range []bool{false, true} {
		if err := w.rescan(ctx, change, 0); err != nil {
			return err
		}
	}
	return w.cfg.Store.Commit(ctx, store.Op{Bucket: bucketIndex, Key: "scanned", Value: []byte("1"), Expect: store.Any})
}

// rescan looks from an index on for scripts that have a history.
func (w *Wallet) rescan(ctx context.Context, change bool, from uint32) error {
	used := from
	for i := from; i < used+gapLimit; i++ {
		s, err := w.slot(path{change, i})
		if err != nil {
			return err
		}
		txs, err := w.cfg.Chain.History(ctx, s.pkScript)
		if err != nil {
			return err
		}
		if len(txs) > 0 {
			used = i + 1
		}
	}
	return w.raise(ctx, change, used, used)
}

// fresh names the next script of a chain and how its index is to be saved. Where
// 20 scripts in a row are handed out and unused, a further one would not be found
// again from the seed alone: then the unused ones are handed out in turn, and
// there is nothing to save.
func (w *Wallet) fresh(ctx context.Context, change bool) (slot, *store.Op, error) {
	if err := w.discover(ctx); err != nil {
		return slot{}, nil, err
	}
	x, err := w.index(ctx, change)
	if err != nil {
		return slot{}, nil, err
	}
	if x.Next-min(x.Next, x.Used) >= gapLimit {
		if err := w.rescan(ctx, change, x.Used); err != nil {
			return slot{}, nil, err
		}
		if x, err = w.index(ctx, change); err != nil {
			return slot{}, nil, err
		}
	}
	if x.Next-min(x.Next, x.Used) >= gapLimit {
		w.mu.Lock()
		i := x.Used + w.turn%gapLimit
		w.turn++
		w.mu.Unlock()
		s, err := w.slot(path{change, i})
		return s, nil, err
	}
	s, err := w.slot(path{change, x.Next})
	if err != nil {
		return slot{}, nil, err
	}
	x.Next++
	op, err := x.op(change)
	return s, &op, err
}

// take hands out a fresh script and saves that.
func (w *Wallet) take(ctx context.Context, change bool) ([]byte, error) {
	for {
		s, op, err := w.fresh(ctx, change)
		if err != nil || op == nil {
			return s.pkScript, err
		}
		err = w.cfg.Store.Commit(ctx, *op)
		if errors.Is(err, store.ErrConflict) {
			continue // another process took this one
		}
		if err != nil {
			return nil, err
		}
		return s.pkScript, nil
	}
}

// Address is a fresh receiving address with its script; it is saved as handed
// out before it is returned. Errors: of the chain (once, on a new store) and the store.
func (w *Wallet) Address(ctx context.Context) (string, []byte, error) {
	pk, err := w.take(ctx, false)
	if err != nil {
		return "", nil, err
	}
	text, err := w.address(pk)
	return text, pk, err
}

// ReceiveScript is a fresh external script: where rests, refunds and payouts go.
func (w *Wallet) ReceiveScript(ctx context.Context) ([]byte, error) { return w.take(ctx, false) }

// ChangeScript is a fresh internal script.
func (w *Wallet) ChangeScript(ctx context.Context) ([]byte, error) { return w.take(ctx, true) }
