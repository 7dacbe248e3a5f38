package simchain

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

var _ chain.Backend = (*Chain)(nil)

// over is the error of a context that ended before the call.
func over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", chain.ErrUnavailable, err)
	}
	return nil
}

// Tip implements chain.Backend.
func (c *Chain) Tip(ctx context.Context) (chain.Tip, error) {
	if err := over(ctx); err != nil {
		return chain.Tip{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.tip()
	return chain.Tip{Height: b.height, Hash: b.hash, Time: time.Unix(b.time, 0)}, nil
}

// BlockHash implements chain.Backend.
func (c *Chain) BlockHash(ctx context.Context, height uint32) (chainhash.Hash, error) {
	if err := over(ctx); err != nil {
		return chainhash.Hash{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if height > c.tip().height {
		return chainhash.Hash{}, fmt.Errorf("%w: no block at height %d, the tip is %d", chain.ErrNotFound, height, c.tip().height)
	}
	return c.hashAt(height), nil
}

// Tx implements chain.Backend.
func (c *Chain) Tx(ctx context.Context, id chainhash.Hash) (chain.TxInfo, error) {
	if err := over(ctx); err != nil {
		return chain.TxInfo{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.txs[id]
	if !ok {
		return chain.TxInfo{}, fmt.Errorf("%w: transaction %s", chain.ErrNotFound, id)
	}
	return c.info(p), nil
}

func (c *Chain) info(p place) chain.TxInfo {
	if p.height == 0 {
		return chain.TxInfo{Tx: p.e.tx}
	}
	return chain.TxInfo{Tx: p.e.tx, Confirmed: true, Height: p.height, BlockHash: c.hashAt(p.height)}
}

// Spend implements chain.Backend.
func (c *Chain) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.spends[op]
	if !ok {
		return nil, nil
	}
	height := c.txs[s.e.id].height
	return &chain.Spend{Txid: s.e.id, Vin: s.vin, Confirmed: height > 0, Height: height}, nil
}

// UTXOs implements chain.Backend. Coins from before the first block are at its
// height.
func (c *Chain) UTXOs(ctx context.Context, pkScript []byte) ([]chain.UTXO, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unspent(func(pk []byte) bool { return bytes.Equal(pk, pkScript) }), nil
}

// Unspent lists all unspent outputs: the coins from before the first block, then
// by height, then those of the mempool.
func (c *Chain) Unspent() []chain.UTXO {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unspent(func([]byte) bool { return true })
}

// Balance is what a script holds, in sat, and how much of it is confirmed.
func (c *Chain) Balance(pkScript []byte) (total, confirmed int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.unspent(func(pk []byte) bool { return bytes.Equal(pk, pkScript) }) {
		total += u.Value
		if u.Confirmed {
			confirmed += u.Value
		}
	}
	return total, confirmed
}

func (c *Chain) unspent(want func([]byte) bool) (all []chain.UTXO) {
	add := func(op wire.OutPoint, out *wire.TxOut, height uint32) {
		if !want(out.PkScript) || txscript.IsUnspendable(out.PkScript) {
			return
		}
		if _, spent := c.spends[op]; !spent {
			all = append(all, chain.UTXO{Outpoint: op, Value: out.Value, PkScript: slices.Clone(out.PkScript), Confirmed: height > 0, Height: height})
		}
	}
	for _, op := range c.order {
		add(op, c.coins[op], c.first)
	}
	outs := func(e *entry, height uint32) {
		for i, out := range e.tx.TxOut {
			add(wire.OutPoint{Hash: e.id, Index: uint32(i)}, out, height)
		}
	}
	for _, b := range c.blocks {
		for _, e := range b.txs {
			outs(e, b.height)
		}
	}
	for _, e := range c.pool {
		outs(e, 0)
	}
	return all
}

// History implements chain.Backend.
func (c *Chain) History(ctx context.Context, pkScript []byte) (all []chain.TxInfo, err error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	add := func(e *entry, height uint32) {
		same := func(out *wire.TxOut) bool { return bytes.Equal(out.PkScript, pkScript) }
		if slices.ContainsFunc(e.prev, same) || slices.ContainsFunc(e.tx.TxOut, same) {
			all = append(all, c.info(place{e, height}))
		}
	}
	for _, e := range slices.Backward(c.pool) {
		add(e, 0)
	}
	for _, b := range slices.Backward(c.blocks) {
		for _, e := range slices.Backward(b.txs) {
			add(e, b.height)
		}
	}
	return all, nil
}

// Broadcast implements chain.Backend.
func (c *Chain) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if err := over(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.submit(tx)
}

func (c *Chain) submit(tx *wire.MsgTx) error {
	id := tx.TxHash()
	if _, known := c.txs[id]; known {
		return nil
	}
	e, gone, err := c.judge(tx, id, fresh)
	if err != nil {
		return err
	}
	e.tx = tx.Copy()
	c.enter(e, gone)
	return nil
}

// enter takes a judged transaction into the mempool, in the place of others.
func (c *Chain) enter(e *entry, gone map[chainhash.Hash]bool) {
	c.drop(gone)
	c.know(e, 0)
	c.pool = append(c.pool, e)
}

// FeeRate implements chain.Backend: what SetFeeRate set, for any target.
func (c *Chain) FeeRate(ctx context.Context, _ int) (script.FeeRate, error) {
	if err := over(ctx); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clampedRate(), nil
}

// Capabilities implements chain.Backend.
func (c *Chain) Capabilities() chain.Capabilities {
	return chain.Capabilities{Mempool: true, FeeEstimates: true, RejectReasons: true}
}

// Spender is the transaction that spends an output and its height, 0 in the
// mempool; ok is false while there is none.
func (c *Chain) Spender(op wire.OutPoint) (tx *wire.MsgTx, height uint32, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.spends[op]
	if !ok {
		return nil, 0, false
	}
	return s.e.tx, c.txs[s.e.id].height, true
}

// Mempool lists the unconfirmed transactions, parents before children.
func (c *Chain) Mempool() []*wire.MsgTx {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*wire.MsgTx, len(c.pool))
	for i, e := range c.pool {
		all[i] = e.tx
	}
	return all
}

// Fee is what a known transaction pays, in sat.
func (c *Chain) Fee(id chainhash.Hash) (sat int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.txs[id]
	if !ok {
		return 0, false
	}
	return p.e.fee, true
}

// Faucet pays sat to a script from a new coin that anybody may spend, at 2 sat/vB,
// and gives the output; the transaction is in the mempool. Errors:
// *chain.RejectError.
func (c *Chain) Faucet(pkScript []byte, sat int64) (wire.OutPoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paid++
	from := wire.OutPoint{Hash: chainhash.HashH(binary.LittleEndian.AppendUint64([]byte("faucet"), c.paid))}
	free := []byte{txscript.OP_TRUE}
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: from, Sequence: script.Sequence, Witness: wire.TxWitness{free}})
	tx.AddTxOut(wire.NewTxOut(sat, slices.Clone(pkScript)))
	lock := append([]byte{txscript.OP_0, 32}, chainhash.HashB(free)...)
	c.coin(from, wire.NewTxOut(sat+script.FeeRatePerVB(2).Fee(script.VSize(tx)), lock))
	if err := c.submit(tx); err != nil {
		return wire.OutPoint{}, err
	}
	return wire.OutPoint{Hash: tx.TxHash()}, nil
}
