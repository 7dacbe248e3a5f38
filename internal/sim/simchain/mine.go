package simchain

import (
	"bytes"
	"cmp"
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
// took. Keep is asked before anything is mined, and may ask the chain.
func (c *Chain) MineTemplate(t Template) int {
	if keep := t.Keep; keep != nil {
		kept := map[*wire.MsgTx]bool{}
		for _, tx := range c.Mempool() {
			kept[tx] = keep(tx)
		}
		t.Keep = func(tx *wire.MsgTx) bool { return kept[tx] }
	}
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
	if weight <= room && t.Floor <= 0 && len(open) < 2 {
		return open
	}
	return c.dearest(open, room, t.Floor)
}

// bundle is a transaction and what it needs of the mempool that is not in the block.
type bundle struct {
	e           *entry
	with        []*entry // all of it, parents first
	fee, weight int64
}

// worse compares two bundles as miners do: by their rate, or by the transaction's own
// where that is lower; of equals the lower txid comes first.
func (b *bundle) worse(than *bundle) bool {
	fee, weight := b.score()
	otherFee, otherWeight := than.score()
	if fee*otherWeight != otherFee*weight {
		return fee*otherWeight < otherFee*weight
	}
	return bytes.Compare(b.e.id[:], than.e.id[:]) > 0
}

func (b *bundle) score() (fee, weight int64) {
	if b.e.fee*b.weight < b.fee*b.e.weight {
		return b.e.fee, b.e.weight
	}
	return b.fee, b.weight
}

// dearest fills a block: again and again the best bundle.
func (c *Chain) dearest(open []*entry, room int64, floor script.FeeRate) (taken []*entry) {
	left := make([]*bundle, len(open))
	for i, e := range open {
		left[i] = &bundle{e: e}
		c.bundle(left[i], open, nil)
	}
	in := map[chainhash.Hash]bool{}
	for len(left) > 0 {
		best := left[0]
		for _, b := range left[1:] {
			if best.worse(b) {
				best = b
			}
		}
		if best.fee < floor.Fee((best.weight+3)/4) {
			return taken
		}
		if best.weight > room {
			left = slices.DeleteFunc(left, func(b *bundle) bool { return b == best })
			continue
		}
		for _, e := range best.with {
			in[e.id] = true
		}
		taken, room = append(taken, best.with...), room-best.weight
		left = slices.DeleteFunc(left, func(b *bundle) bool { return in[b.e.id] })
		for _, b := range left {
			if len(b.with) > 1 {
				c.bundle(b, open, in)
			}
		}
	}
	return taken
}

// bundle finds what a transaction hangs on of those that are open and not in, parents
// first: by the number of their ancestors, then by txid.
func (c *Chain) bundle(b *bundle, open []*entry, in map[chainhash.Hash]bool) {
	b.with, b.fee, b.weight = b.with[:0], b.e.fee, b.e.weight
	above := c.ancestors(b.e)
	for _, a := range open {
		if above[a.id] != nil && !in[a.id] {
			b.with, b.fee, b.weight = append(b.with, a), b.fee+a.fee, b.weight+a.weight
		}
	}
	if len(b.with) > 1 {
		slices.SortFunc(b.with, func(x, y *entry) int {
			return cmp.Or(cmp.Compare(len(c.ancestors(x)), len(c.ancestors(y))), bytes.Compare(x.id[:], y.id[:]))
		})
	}
	b.with = append(b.with, b.e)
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
