package wallet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/store"
)

// coinbaseMaturity is how many confirmations a block reward needs (consensus).
const coinbaseMaturity = 100

// buried is the depth in blocks at which a reserved coin's spend counts as final
// and its reservation is forgotten.
const buried = 6

// Balance is what the wallet holds, in sat. Reserved and Spendable are parts of
// the two others.
type Balance struct {
	Confirmed   int64
	Unconfirmed int64
	Reserved    int64 // promised to transactions that the chain does not show yet
	Spendable   int64 // what Fund may use now
}

// coin is an unspent output of the wallet.
type coin struct {
	chain.UTXO
	slot
	own      bool // unconfirmed change of a transaction that this wallet built
	mature   bool
	reserved bool
}

// usable coins are those that Fund may spend.
func (c coin) usable() bool { return !c.reserved && c.mature && (c.Confirmed || c.own) }

// reservation is what bucketReserved holds for an outpoint.
type reservation struct {
	Txid   string `json:"txid"`   // of the transaction that the coin is promised to
	Value  int64  `json:"value"`  // sat
	Height uint32 `json:"height"` // tip when it was reserved
	// Script is the coin's own, of one that is lent: what it takes to sign for it.
	Script []byte `json:"script,omitempty"`
	rev    uint64
}

func (w *Wallet) reservations(ctx context.Context) (map[string]reservation, error) {
	entries, err := w.cfg.Store.List(ctx, bucketReserved, "")
	if err != nil {
		return nil, err
	}
	held := make(map[string]reservation, len(entries))
	for _, e := range entries {
		var r reservation
		if err := json.Unmarshal(e.Value, &r); err != nil {
			return nil, fmt.Errorf("%w: %s/%s: %w", store.ErrDamaged, bucketReserved, e.Key, err)
		}
		r.rev = e.Revision
		held[e.Key] = r
	}
	return held, nil
}

// coins lists every unspent output on both chains, confirmed and large ones
// first, with what is reserved marked. An output found beyond the last address
// that was handed out moves the index on.
func (w *Wallet) coins(ctx context.Context) ([]coin, error) {
	if err := w.discover(ctx); err != nil {
		return nil, err
	}
	tip, err := w.cfg.Chain.Tip(ctx)
	if err != nil {
		return nil, err
	}
	var all []coin
	for _, change := range []bool{false, true} {
		if all, err = w.chainCoins(ctx, change, all); err != nil {
			return nil, err
		}
	}
	held, err := w.reservations(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if err := w.judge(ctx, &all[i], tip.Height, held); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b coin) int {
		if a.Confirmed != b.Confirmed {
			if a.Confirmed {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.Outpoint.String(), b.Outpoint.String()))
	})
	return all, nil
}

func (w *Wallet) chainCoins(ctx context.Context, change bool, all []coin) ([]coin, error) {
	x, err := w.index(ctx, change)
	if err != nil {
		return nil, err
	}
	next, used := x.Next, x.Used
	for i := uint32(0); i < next+gapLimit; i++ {
		s, err := w.slot(path{change, i})
		if err != nil {
			return nil, err
		}
		outs, err := w.cfg.Chain.UTXOs(ctx, s.pkScript)
		if err != nil {
			return nil, err
		}
		for _, u := range outs {
			all = append(all, coin{UTXO: u, slot: s})
		}
		if len(outs) > 0 {
			next, used = max(next, i+1), max(used, i+1)
		}
	}
	return all, w.raise(ctx, change, next, used)
}

// judge finds out whether a coin may be spent.
func (w *Wallet) judge(ctx context.Context, c *coin, tip uint32, held map[string]reservation) (err error) {
	_, c.reserved = held[c.Outpoint.String()]
	c.mature = true
	if !c.Confirmed {
		_, err := w.cfg.Store.Get(ctx, bucketTx, c.Outpoint.Hash.String())
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		c.own = c.change && err == nil
		return err
	}
	if c.Height > tip || tip-c.Height+1 < coinbaseMaturity {
		c.mature, err = w.noCoinbase(ctx, c.Outpoint.Hash)
	}
	return err
}

// noCoinbase reports whether a young transaction is no block reward.
func (w *Wallet) noCoinbase(ctx context.Context, txid chainhash.Hash) (bool, error) {
	w.mu.Lock()
	known := w.matured[txid]
	w.mu.Unlock()
	if known {
		return true, nil
	}
	info, err := w.cfg.Chain.Tx(ctx, txid)
	if errors.Is(err, chain.ErrNotFound) {
		return false, nil // a reorg took it meanwhile
	}
	if err != nil {
		return false, err
	}
	if in := info.Tx.TxIn; len(in) == 1 && in[0].PreviousOutPoint == (wire.OutPoint{Index: wire.MaxPrevOutIndex}) {
		return false, nil
	}
	w.mu.Lock()
	w.matured[txid] = true
	w.mu.Unlock()
	return true, nil
}

// Balance is what the wallet holds now. Errors: of the chain and the store.
func (w *Wallet) Balance(ctx context.Context) (Balance, error) {
	all, err := w.coins(ctx)
	if err != nil {
		return Balance{}, err
	}
	var b Balance
	for _, c := range all {
		if c.Confirmed {
			b.Confirmed += c.Value
		} else {
			b.Unconfirmed += c.Value
		}
		if c.reserved {
			b.Reserved += c.Value
		}
		if c.usable() {
			b.Spendable += c.Value
		}
	}
	return b, nil
}

// forget drops the reservations of coins whose spend is buried.
func (w *Wallet) forget(ctx context.Context, unspent []coin) error {
	held, err := w.reservations(ctx)
	if err != nil || len(held) == 0 {
		return err
	}
	for _, c := range unspent {
		delete(held, c.Outpoint.String())
	}
	tip, err := w.cfg.Chain.Tip(ctx)
	if err != nil {
		return err
	}
	for key, r := range held {
		op, err := parseOutpoint(key)
		if err != nil {
			return err
		}
		spend, err := w.cfg.Chain.Spend(ctx, op)
		if err != nil {
			return err
		}
		if spend == nil || !spend.Confirmed || spend.Height+buried-1 > tip.Height {
			continue
		}
		err = w.cfg.Store.Commit(ctx, store.Op{Bucket: bucketReserved, Key: key, Expect: r.rev})
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return nil
}
