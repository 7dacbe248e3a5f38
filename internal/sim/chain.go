package sim

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

// firstHeight is the height of the chain's first block; coins are from before.
const firstHeight = 1000

// Chain is a model of a blockchain with a mempool: spends, locktimes, fees and
// replacement are real, scripts are not executed (the drivers execute theirs).
type Chain struct {
	coins  map[wire.OutPoint]*wire.TxOut // from before the first block
	blocks []block
	pool   []*wire.MsgTx // parents before children
	rate   script.FeeRate
	forks  uint64
}

type block struct {
	hash chainhash.Hash
	txs  []*wire.MsgTx
}

// NewChain is a chain of one empty block.
func NewChain() *Chain {
	c := &Chain{coins: map[wire.OutPoint]*wire.TxOut{}, rate: script.FeeRatePerVB(1)}
	c.Mine(nil)
	return c
}

// Coin makes a coin that was there before the first block.
func (c *Chain) Coin(op wire.OutPoint, out *wire.TxOut) { c.coins[op] = out }

func (c *Chain) height() uint32 { return firstHeight + uint32(len(c.blocks)) - 1 }

// Mine makes a block of everything in the mempool that keep lets through; nil:
// all. Children of what is kept out stay too.
func (c *Chain) Mine(keep func(*wire.MsgTx) bool) {
	b := block{hash: c.stamp()}
	out := map[chainhash.Hash]bool{}
	var left []*wire.MsgTx
	for _, tx := range c.pool {
		wait := keep != nil && !keep(tx)
		for _, in := range tx.TxIn {
			wait = wait || out[in.PreviousOutPoint.Hash]
		}
		if wait {
			out[tx.TxHash()] = true
			left = append(left, tx)
			continue
		}
		b.txs = append(b.txs, tx)
	}
	c.pool = left
	c.blocks = append(c.blocks, b)
}

// stamp is a fresh block hash.
func (c *Chain) stamp() (h chainhash.Hash) {
	c.forks++
	binary.LittleEndian.PutUint64(h[:], c.forks)
	binary.LittleEndian.PutUint32(h[8:], uint32(len(c.blocks)))
	return h
}

// Reorg undoes depth blocks and puts depth+1 empty ones in their place; what was
// in them returns to the mempool where it still fits. It reports how many
// transactions were undone.
func (c *Chain) Reorg(depth int) (undone int) {
	depth = min(depth, len(c.blocks)-1)
	var back []*wire.MsgTx
	for _, b := range c.blocks[len(c.blocks)-depth:] {
		back = append(back, b.txs...)
	}
	c.blocks = c.blocks[:len(c.blocks)-depth]
	waiting := c.pool
	c.pool = nil
	for range depth + 1 {
		c.blocks = append(c.blocks, block{hash: c.stamp()})
	}
	for _, tx := range append(back, waiting...) {
		if c.accept(tx) == nil {
			continue // what no longer fits is gone, as in a node
		}
	}
	return len(back)
}

// Evict drops a transaction and its children from the mempool.
func (c *Chain) Evict(id chainhash.Hash) {
	gone := map[chainhash.Hash]bool{id: true}
	var left []*wire.MsgTx
	for _, tx := range c.pool {
		for _, in := range tx.TxIn {
			if gone[in.PreviousOutPoint.Hash] {
				gone[tx.TxHash()] = true
			}
		}
		if !gone[tx.TxHash()] {
			left = append(left, tx)
		}
	}
	c.pool = left
}

// find is a transaction and its height, 0 in the mempool; nil where there is none.
func (c *Chain) find(id chainhash.Hash) (*wire.MsgTx, uint32) {
	for i, b := range c.blocks {
		for _, tx := range b.txs {
			if tx.TxHash() == id {
				return tx, firstHeight + uint32(i)
			}
		}
	}
	for _, tx := range c.pool {
		if tx.TxHash() == id {
			return tx, 0
		}
	}
	return nil, 0
}

// spender is what spends an output, and its height, 0 in the mempool.
func (c *Chain) spender(op wire.OutPoint) (*wire.MsgTx, uint32, uint32) {
	look := func(txs []*wire.MsgTx) (*wire.MsgTx, uint32) {
		for _, tx := range txs {
			for i, in := range tx.TxIn {
				if in.PreviousOutPoint == op {
					return tx, uint32(i)
				}
			}
		}
		return nil, 0
	}
	for i, b := range c.blocks {
		if tx, vin := look(b.txs); tx != nil {
			return tx, firstHeight + uint32(i), vin
		}
	}
	tx, vin := look(c.pool)
	return tx, 0, vin
}

func (c *Chain) output(op wire.OutPoint) *wire.TxOut {
	if out := c.coins[op]; out != nil {
		return out
	}
	tx, _ := c.find(op.Hash)
	if tx == nil || int(op.Index) >= len(tx.TxOut) {
		return nil
	}
	return tx.TxOut[op.Index]
}

func (c *Chain) fee(tx *wire.MsgTx) (int64, error) {
	var fee int64
	for _, in := range tx.TxIn {
		out := c.output(in.PreviousOutPoint)
		if out == nil {
			return 0, &chain.RejectError{Reason: "missing-inputs"}
		}
		fee += out.Value
	}
	for _, out := range tx.TxOut {
		if out.Value < script.Dust(out.PkScript) {
			return 0, &chain.RejectError{Reason: "dust"}
		}
		fee -= out.Value
	}
	return fee, nil
}

// accept takes a transaction into the mempool, by a node's rules. BIP125.
func (c *Chain) accept(tx *wire.MsgTx) error {
	if tx.LockTime > c.height() {
		return &chain.RejectError{Reason: "non-final"}
	}
	fee, err := c.fee(tx)
	if err != nil {
		return err
	}
	size := script.VSize(tx)
	if fee < script.FeeRatePerVB(1).Fee(size) {
		return &chain.RejectError{Reason: "min relay fee not met"}
	}
	replaced := map[chainhash.Hash]bool{}
	for _, in := range tx.TxIn {
		other, height, _ := c.spender(in.PreviousOutPoint)
		if other == nil {
			continue
		}
		if height > 0 {
			return &chain.RejectError{Reason: "txn-mempool-conflict: spent in a block"}
		}
		had, err := c.fee(other)
		if err != nil {
			return err
		}
		if fee < had+script.FeeRatePerVB(1).Fee(size) || fee*script.VSize(other) <= had*size {
			return &chain.RejectError{Reason: "insufficient fee"}
		}
		replaced[other.TxHash()] = true
	}
	for id := range replaced {
		c.Evict(id)
	}
	c.pool = append(c.pool, tx)
	return nil
}

// Tip implements the drivers' chain.
func (c *Chain) Tip(context.Context) (chain.Tip, error) {
	return chain.Tip{Height: c.height(), Hash: c.blocks[len(c.blocks)-1].hash}, nil
}

// Tx implements the drivers' chain.
func (c *Chain) Tx(_ context.Context, id chainhash.Hash) (chain.TxInfo, error) {
	tx, height := c.find(id)
	if tx == nil {
		return chain.TxInfo{}, fmt.Errorf("%w: %s", chain.ErrNotFound, id)
	}
	return chain.TxInfo{Tx: tx, Confirmed: height > 0, Height: height}, nil
}

// Spend implements the drivers' chain.
func (c *Chain) Spend(_ context.Context, op wire.OutPoint) (*chain.Spend, error) {
	tx, height, vin := c.spender(op)
	if tx == nil {
		return nil, nil
	}
	return &chain.Spend{Txid: tx.TxHash(), Vin: vin, Confirmed: height > 0, Height: height}, nil
}

// Broadcast implements the drivers' chain.
func (c *Chain) Broadcast(_ context.Context, tx *wire.MsgTx) error {
	if known, _ := c.find(tx.TxHash()); known != nil {
		return nil
	}
	return c.accept(tx)
}

// FeeRate implements the drivers' chain.
func (c *Chain) FeeRate(context.Context, int) (script.FeeRate, error) { return c.rate, nil }
