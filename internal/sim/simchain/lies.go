package simchain

import (
	"context"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// Tx implements chain.Backend.
func (f *Faulty) Tx(ctx context.Context, id chainhash.Hash) (chain.TxInfo, error) {
	if err := f.begin(ctx); err != nil {
		return chain.TxInfo{}, err
	}
	if !f.Faulted() {
		return f.c.Tx(ctx, id)
	}
	c, top := f.view()
	info, err := c.Tx(ctx, id)
	if f.frozen != nil {
		now, lost := f.c.Tx(ctx, id)
		f.struck(f.frost(), (err == nil) != (lost == nil) || info.BlockHash != now.BlockHash)
	}
	if err != nil {
		return info, err
	}
	if info, ok := f.bend(c, top, info, id); ok {
		return info, nil
	}
	return chain.TxInfo{}, fmt.Errorf("%w: transaction %s", chain.ErrNotFound, id)
}

// bend makes of a transaction what the backend says of it; ok is false where it
// says nothing.
func (f *Faulty) bend(c *Chain, top uint32, info chain.TxInfo, id chainhash.Hash) (_ chain.TxInfo, ok bool) {
	if f.tells(HideTx, id) {
		f.counts[hiddenTx]++
		return info, false
	}
	confirmed, height := f.place(top, info.Confirmed, info.Height, id)
	if confirmed != info.Confirmed || height != info.Height {
		info.Confirmed, info.Height, info.BlockHash = confirmed, height, chainhash.Hash{}
		if confirmed {
			info.BlockHash = c.tipAt(height).Hash
		}
	}
	return info, true
}

// place is where the backend says that a transaction is.
func (f *Faulty) place(top uint32, confirmed bool, height uint32, id chainhash.Hash) (bool, uint32) {
	if confirmed && height > top {
		f.counts[lag]++
		confirmed, height = false, 0
	}
	if !confirmed && f.tells(FakeConfirmation, id) {
		f.counts[fakeConfirmation]++
		confirmed, height = true, top
	}
	return confirmed, height
}

// Spend implements chain.Backend.
func (f *Faulty) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	if !f.Faulted() {
		return f.c.Spend(ctx, op)
	}
	c, top := f.view()
	s, err := c.Spend(ctx, op)
	if f.frozen != nil {
		now, lost := f.c.Spend(ctx, op)
		f.struck(f.frost(), err == nil && lost == nil && (s == nil) != (now == nil) || s != nil && now != nil && *s != *now)
	}
	if err != nil || s == nil {
		return s, err
	}
	switch {
	case f.tells(HideSpend, s.Txid):
		f.counts[hiddenSpend]++
		return nil, nil
	case f.tells(HideTx, s.Txid):
		f.counts[hiddenTx]++
		return nil, nil
	}
	s.Confirmed, s.Height = f.place(top, s.Confirmed, s.Height, s.Txid)
	return s, nil
}

// UTXOs implements chain.Backend. An output whose spend is hidden is not listed
// again; one whose transaction is hidden is left out.
func (f *Faulty) UTXOs(ctx context.Context, pkScript []byte) ([]chain.UTXO, error) {
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	if !f.Faulted() {
		return f.c.UTXOs(ctx, pkScript)
	}
	c, top := f.view()
	all, err := c.UTXOs(ctx, pkScript)
	if err != nil {
		return nil, err
	}
	if f.frozen != nil {
		now, err := f.c.UTXOs(ctx, pkScript)
		if err != nil {
			return nil, err
		}
		f.struck(f.frost(), !slices.EqualFunc(all, now, func(a, b chain.UTXO) bool { return a.Outpoint == b.Outpoint && a.Height == b.Height }))
	}
	said := all[:0]
	for _, u := range all {
		if f.tells(HideTx, u.Outpoint.Hash) {
			f.counts[hiddenTx]++
			continue
		}
		u.Confirmed, u.Height = f.place(top, u.Confirmed, u.Height, u.Outpoint.Hash)
		said = append(said, u)
	}
	slices.SortStableFunc(said, func(a, b chain.UTXO) int { return order(b.Height) - order(a.Height) })
	return said, nil
}

// History implements chain.Backend.
func (f *Faulty) History(ctx context.Context, pkScript []byte) ([]chain.TxInfo, error) {
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	if !f.Faulted() {
		return f.c.History(ctx, pkScript)
	}
	c, top := f.view()
	all, err := c.History(ctx, pkScript)
	if err != nil {
		return nil, err
	}
	if f.frozen != nil {
		now, err := f.c.History(ctx, pkScript)
		if err != nil {
			return nil, err
		}
		f.struck(f.frost(), !slices.EqualFunc(all, now, func(a, b chain.TxInfo) bool { return a.BlockHash == b.BlockHash && a.Tx.TxHash() == b.Tx.TxHash() }))
	}
	said := all[:0]
	for _, info := range all {
		if info, ok := f.bend(c, top, info, info.Tx.TxHash()); ok {
			said = append(said, info)
		}
	}
	slices.SortStableFunc(said, func(a, b chain.TxInfo) int { return order(a.Height) - order(b.Height) })
	return said, nil
}

// order sorts heights with the newest first and the mempool before them.
func order(height uint32) int {
	if height == 0 {
		return -1 << 40
	}
	return -int(height)
}
