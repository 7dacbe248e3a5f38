package simchain

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// ReorgOptions describes a reorg.
type ReorgOptions struct {
	// Depth is how many blocks are undone, at least 1.
	Depth int
	// Length is how many blocks the new branch has, more than Depth; 0: one more.
	Length int
	// Drop names transactions that do not return to the mempool, as if nobody sent
	// them again. What spends from them goes too.
	Drop []chainhash.Hash
	// Mine are transactions in the new branch's first block, parents before
	// children: one that spends what an undone transaction spent replaces it.
	Mine []*wire.MsgTx
}

// Reorg undoes up to depth blocks and puts one more empty one in their place; what
// was in them returns to the mempool where it is still valid. It reports how many
// transactions were undone; 130 blocks can be undone from the beginning on.
func (c *Chain) Reorg(depth int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	depth = min(depth, len(c.blocks)-1)
	if depth < 1 {
		return 0
	}
	n, err := c.reorg(ReorgOptions{Depth: depth})
	if err != nil {
		return 0 // nothing to mine, so nothing to refuse
	}
	return n
}

// ReorgWith is Reorg with a say in what becomes of the transactions; it too reports
// how many were undone. Errors: ErrRange, ErrBlock; the chain is then as it was.
func (c *Chain) ReorgWith(o ReorgOptions) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.Depth < 1 || o.Depth >= len(c.blocks) {
		return 0, fmt.Errorf("%w: %d blocks can't be undone, %d are there", ErrRange, o.Depth, len(c.blocks)-1)
	}
	if o.Length != 0 && o.Length <= o.Depth {
		return 0, fmt.Errorf("%w: a branch of %d blocks does not replace %d", ErrRange, o.Length, o.Depth)
	}
	return c.reorg(o)
}

func (c *Chain) reorg(o ReorgOptions) (int, error) {
	cut := len(c.blocks) - o.Depth
	old := slices.Clone(c.blocks[cut:])
	pool := c.aside()
	var back []*entry
	for _, b := range slices.Backward(old) {
		for _, e := range slices.Backward(b.txs) {
			c.forget(e)
		}
	}
	for _, b := range old {
		back = append(back, b.txs...)
	}
	c.pool, c.blocks = nil, c.blocks[:cut:cut]
	if err := c.mineTxs(o.Mine); err != nil {
		c.blocks, c.pool = append(c.blocks, old...), pool
		for _, b := range old {
			for _, e := range b.txs {
				c.know(e, b.height)
			}
		}
		for _, e := range pool {
			c.know(e, 0)
		}
		return 0, err
	}
	for range max(o.Length, o.Depth+1) - 1 {
		c.connect(nil)
	}
	c.again(back, undone, o.Drop)
	c.again(pool, stayed, o.Drop)
	return len(back), nil
}

// again takes transactions back into the mempool where they are still valid, as a
// node does: their fees are not judged again, and what no longer fits is gone.
func (c *Chain) again(all []*entry, from origin, but []chainhash.Hash) {
	for _, e := range all {
		if _, known := c.txs[e.id]; known || slices.Contains(but, e.id) {
			continue
		}
		if fit, gone, err := c.judge(e.tx, e.id, from); err == nil {
			c.enter(fit, gone)
		}
	}
}
