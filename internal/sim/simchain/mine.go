package simchain

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// maxBlock is what a block holds, in weight units, without its coinbase.
const maxBlock = 4_000_000 - 4_000

// Errors of moving the chain.
var (
	// ErrRange: so many blocks can't be undone or made.
	ErrRange = errors.New("simchain: out of range")
	// ErrBlock: a transaction that a block should hold breaks a rule of consensus.
	ErrBlock = errors.New("simchain: the block is invalid")
)

// Template says what a miner takes. The zero value takes everything that fits.
type Template struct {
	// Keep tells whether the miner takes a transaction; nil: any. What spends from
	// one that is not taken is not taken either.
	Keep func(*wire.MsgTx) bool
	// Weight is the room in weight units; 0: a whole block's.
	Weight int64
	// Floor is the least rate that gets in, of a transaction together with what it
	// needs of the mempool; 0: any.
	Floor script.FeeRate
}

// Mine makes a block of everything in the mempool that keep lets through and that
// fits, the dearest first; nil: all. It reports how many transactions it took.
func (c *Chain) Mine(keep func(*wire.MsgTx) bool) int { return c.MineTemplate(Template{Keep: keep}) }

// MineTemplate makes a block by a template and reports how many transactions it
// took. keep must not use the chain.
func (c *Chain) MineTemplate(t Template) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.choose(t)
	c.connect(taken)
	return len(taken)
}

// connect makes a block of transactions of the mempool.
func (c *Chain) connect(taken []*entry) {
	height := c.tip().height + 1
	for _, e := range taken {
		c.txs[e.id] = place{e, height}
	}
	if len(taken) > 0 {
		c.pool = slices.DeleteFunc(slices.Clone(c.pool), func(e *entry) bool { return c.txs[e.id].height > 0 })
	}
	c.push(&block{height: height, time: c.nextTime(), txs: taken})
}

// choose takes transactions for a block, parents before children.
func (c *Chain) choose(t Template) []*entry {
	out := map[chainhash.Hash]bool{}
	var open []*entry
	var weight int64
	for _, e := range c.pool {
		wait := t.Keep != nil && !t.Keep(e.tx)
		for _, in := range e.tx.TxIn {
			wait = wait || len(out) > 0 && out[in.PreviousOutPoint.Hash]
		}
		if wait {
			out[e.id] = true
			continue
		}
		open, weight = append(open, e), weight+e.weight
	}
	room := t.Weight
	if room <= 0 || room > maxBlock {
		room = maxBlock
	}
	if weight <= room && t.Floor <= 0 {
		return open
	}
	return c.dearest(open, room, t.Floor)
}

// dearest fills a block: again and again the transaction whose rate is highest
// together with what it needs that is not in yet.
func (c *Chain) dearest(open []*entry, room int64, floor script.FeeRate) (taken []*entry) {
	in, full := map[chainhash.Hash]bool{}, map[chainhash.Hash]bool{}
	for {
		var best []*entry
		var bestFee, bestWeight int64
		for _, e := range open {
			if in[e.id] || full[e.id] {
				continue
			}
			with, fee, weight := c.needs(e, open, in)
			if best == nil || fee*bestWeight > bestFee*weight {
				best, bestFee, bestWeight = with, fee, weight
			}
		}
		if best == nil || bestFee < floor.Fee((bestWeight+3)/4) {
			return taken
		}
		if bestWeight > room {
			full[best[len(best)-1].id] = true
			continue
		}
		for _, e := range best {
			in[e.id] = true
		}
		taken, room = append(taken, best...), room-bestWeight
	}
}

// needs is a transaction and what it hangs on of those that are open and not in,
// parents first.
func (c *Chain) needs(e *entry, open []*entry, in map[chainhash.Hash]bool) (with []*entry, fee, weight int64) {
	above := c.ancestors(e)
	if len(above) > 0 {
		for _, a := range open {
			if above[a.id] != nil && !in[a.id] {
				with, fee, weight = append(with, a), fee+a.fee, weight+a.weight
			}
		}
	}
	return append(with, e), fee + e.fee, weight + e.weight
}

// MineTxs makes a block of exactly these transactions, parents before children,
// whatever the mempool holds and whatever policy says. Errors: ErrBlock; the chain
// is then as it was.
func (c *Chain) MineTxs(txs ...*wire.MsgTx) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mineTxs(txs)
}

func (c *Chain) mineTxs(txs []*wire.MsgTx) error {
	height := c.tip().height + 1
	b := &block{height: height, time: c.nextTime()}
	old := c.aside()
	var err error
	for _, tx := range txs {
		var e *entry
		if e, err = c.consensus(tx); err != nil {
			break
		}
		c.know(e, height)
		b.txs = append(b.txs, e)
	}
	if err != nil {
		for _, e := range slices.Backward(b.txs) {
			c.forget(e)
		}
		for _, e := range old {
			c.know(e, 0)
		}
		return err
	}
	c.settle(old)
	c.push(b)
	return nil
}

// aside takes the mempool out of the index while a block is judged.
func (c *Chain) aside() []*entry {
	for _, e := range c.pool {
		c.forget(e)
	}
	return c.pool
}

// settle gives the mempool back what does not conflict with the newest block; it
// keeps its order.
func (c *Chain) settle(old []*entry) {
	c.pool = nil
	for _, e := range old {
		if _, mined := c.txs[e.id]; mined {
			continue
		}
		ok := true
		for _, in := range e.tx.TxIn {
			out, _ := c.output(in.PreviousOutPoint)
			ok = ok && out != nil
		}
		if ok {
			c.know(e, 0)
			c.pool = append(c.pool, e)
		}
	}
}

// consensus judges a transaction for a block on the tip. Errors: ErrBlock.
func (c *Chain) consensus(tx *wire.MsgTx) (*entry, error) {
	e := &entry{id: tx.TxHash(), tx: tx.Copy(), weight: script.Weight(tx)}
	err := sane(e)
	if err == nil {
		if _, known := c.txs[e.id]; known {
			err = refuse("bad-txns-BIP30")
		}
	}
	if err == nil {
		err = c.fetch(e)
	}
	if err == nil {
		err = worth(e)
	}
	if err == nil && !c.final(tx) {
		err = refuse("bad-txns-nonfinal")
	}
	if err == nil && !c.unlocked(tx) {
		err = refuse("bad-txns-nonfinal")
	}
	if err == nil && !c.SkipScripts {
		err = execute(e)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlock, err)
	}
	return e, nil
}
