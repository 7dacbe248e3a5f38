// Package simchain is a model of a blockchain with a mempool, for the simulator:
// it accepts, replaces, mines and undoes transactions by the rules of a node, in
// memory and in a fixed order, so that the same calls give the same chain. Its
// tests compare it with the embedded node, and it passes the suite of backends.
//
// It never reads a clock or randomness of its own, starts no goroutine and
// connects to nothing. It has no proof of work, no coinbases and no limit on
// signature operations; blocks are as valid as their transactions.
package simchain

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

// The chain that New begins with.
const (
	StartHeight = 1000          // of the tip
	StartTime   = 1_700_000_000 // of the tip, unix seconds
	history     = 130           // blocks that can be undone at once, below the tip
	spacing     = 600           // seconds between blocks while there is no clock
)

// Rules say whose policy the mempool follows where nodes differ.
type Rules int

// The rules that there are.
const (
	// Bitcoind relays as bitcoind 29 does: any transaction can be replaced, version
	// 3 is TRUC (BIP431) with sibling eviction, chains have at most 25 members.
	Bitcoind Rules = iota
	// Embedded relays as the embedded node does: only what signals can be replaced
	// (BIP125), version 3 is like 2, chains have any length, and a replacement's rate
	// is above that of all that it evicts.
	Embedded
)

// Chain is the model. Its zero value is not usable; see New. It is safe for
// concurrent use, and deterministic where one goroutine uses it. Transactions that
// it answers are its own: nobody changes them.
type Chain struct {
	// Rules is whose policy the mempool follows. It is set before the first use.
	Rules Rules
	// SkipScripts takes every witness for right, where a run is about something else.
	SkipScripts bool

	// Relay is the least rate that the mempool takes, and what a replacement pays for
	// its own relay, in sat per 1000 vB; 0: 1,000, as nodes had it before bitcoind 29.1,
	// which takes 100.
	Relay script.FeeRate

	mu     sync.Mutex
	now    func() time.Time
	coins  map[wire.OutPoint]*wire.TxOut // from before the first block
	order  []wire.OutPoint               // of the coins, as they came
	first  uint32                        // height of blocks[0]
	blocks []*block                      // the best chain
	txs    map[chainhash.Hash]place
	spends map[wire.OutPoint]spender
	pool   []*entry // parents before children
	rate   script.FeeRate
	least  script.FeeRate // the mempool's minimum, 0: none above the relay floor
	stamps uint64         // blocks ever made
	paid   uint64         // payments of the faucet
}

// block is never changed once it is made.
type block struct {
	hash         chainhash.Hash
	height       uint32
	time, median int64 // unix seconds; median time past after this block
	txs          []*entry
}

// entry is a transaction; it is never changed once it is made.
type entry struct {
	id     chainhash.Hash
	tx     *wire.MsgTx
	prev   []*wire.TxOut // what its inputs spend
	fee    int64         // sat
	weight int64
}

func (e *entry) vsize() int64 { return (e.weight + 3) / 4 }

// perKvB is the rate in sat per 1000 vB, rounded down.
func (e *entry) perKvB() int64 { return e.fee * 1000 / e.vsize() }

// place is where a transaction is; height 0: the mempool.
type place struct {
	e      *entry
	height uint32
}

type spender struct {
	e   *entry
	vin uint32
}

// New is a chain of empty blocks, its tip at StartHeight and StartTime.
func New() *Chain { return NewAt(StartHeight, time.Unix(StartTime, 0)) }

// NewAt is New with another tip. At least 130 blocks are there to be undone.
func NewAt(height uint32, at time.Time) *Chain {
	height = max(height, history)
	c := &Chain{
		coins: map[wire.OutPoint]*wire.TxOut{}, txs: map[chainhash.Hash]place{}, spends: map[wire.OutPoint]spender{},
		rate: script.FeeRatePerVB(1), first: height - history,
	}
	made := make([]block, history+1)
	c.blocks = make([]*block, 0, history+64)
	for i := range made {
		b := &made[i]
		b.height, b.time = c.first+uint32(i), at.Unix()-spacing*int64(history-i)
		c.push(b)
	}
	return c
}

// push makes a block the tip. Its height, time and transactions are set.
func (c *Chain) push(b *block) {
	c.stamps++
	var buf [20 + chainhash.HashSize]byte
	binary.LittleEndian.PutUint64(buf[:], c.stamps)
	binary.LittleEndian.PutUint32(buf[8:], b.height)
	binary.LittleEndian.PutUint64(buf[12:], uint64(b.time))
	if len(c.blocks) > 0 {
		copy(buf[20:], c.tip().hash[:])
	}
	b.hash = chainhash.HashH(buf[:])
	c.blocks = append(c.blocks, b)
	var times [11]int64
	last := c.blocks[max(0, len(c.blocks)-11):]
	for i, b := range last {
		times[i] = b.time
	}
	slices.Sort(times[:len(last)])
	b.median = times[len(last)/2]
}

func (c *Chain) tip() *block { return c.blocks[len(c.blocks)-1] }

// at is the block at a height that is not below the first; nil above the tip.
func (c *Chain) at(height uint32) *block {
	if i := int64(height) - int64(c.first); i >= 0 && i < int64(len(c.blocks)) {
		return c.blocks[i]
	}
	return nil
}

// hashAt is the hash of the block at a height up to the tip's; what is below the
// first block can't be undone and has hashes made up of the height.
func (c *Chain) hashAt(height uint32) (h chainhash.Hash) {
	if b := c.at(height); b != nil {
		return b.hash
	}
	if height == 0 {
		return *chaincfg.RegressionNetParams.GenesisHash
	}
	binary.LittleEndian.PutUint32(h[:], height)
	h[31] = 1
	return h
}

// Clone is a copy that goes its own way.
func (c *Chain) Clone() *Chain {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &Chain{
		Rules: c.Rules, SkipScripts: c.SkipScripts, Relay: c.Relay, now: c.now,
		coins: maps.Clone(c.coins), order: slices.Clone(c.order), first: c.first, blocks: slices.Clone(c.blocks),
		txs: maps.Clone(c.txs), spends: maps.Clone(c.spends), pool: slices.Clone(c.pool),
		rate: c.rate, least: c.least, stamps: c.stamps, paid: c.paid,
	}
}

// Coin makes a coin that was there before the first block, or replaces it.
func (c *Chain) Coin(op wire.OutPoint, out *wire.TxOut) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coin(op, out)
}

func (c *Chain) coin(op wire.OutPoint, out *wire.TxOut) {
	if c.coins[op] == nil {
		c.order = append(c.order, op)
	}
	c.coins[op] = wire.NewTxOut(out.Value, slices.Clone(out.PkScript))
}

// Height is the tip's.
func (c *Chain) Height() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tip().height
}

// SetTime gives the chain a clock for its blocks' timestamps, which are the clock's
// or a second after the median of the last eleven, whichever is later (BIP113); nil:
// each block is ten minutes after the one before it. The clock must not use the
// chain.
func (c *Chain) SetTime(now func() time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// MedianTime is the median time past at the tip: a lock by time below it is over.
// BIP113.
func (c *Chain) MedianTime() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Unix(c.tip().median, 0)
}

// nextTime is the timestamp of a block on the tip, unix seconds.
func (c *Chain) nextTime() int64 {
	t := c.tip().time + spacing
	if c.now != nil {
		t = c.now().Unix()
	}
	return max(t, c.tip().median+1)
}

// SetFeeRate sets what FeeRate answers, within chain.MinFeeRate and
// chain.MaxFeeRate. What blocks take is up to the template.
func (c *Chain) SetFeeRate(rate script.FeeRate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rate = rate
}

// SetMinFee sets the mempool's minimum, as a full mempool has one, 0 for none. What
// pays less, together with what spends from it, is evicted; the number of
// transactions that are gone is returned.
func (c *Chain) SetMinFee(rate script.FeeRate) (evicted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.least = rate
	before := len(c.pool)
	for _, e := range slices.Clone(c.pool) {
		if c.txs[e.id].e != e {
			continue // gone with its parent
		}
		family := c.family(e)
		fee, weight := int64(0), int64(0)
		for id := range family {
			fee, weight = fee+c.txs[id].e.fee, weight+c.txs[id].e.weight
		}
		if e.fee < rate.Fee(e.vsize()) && fee < rate.Fee((weight+3)/4) {
			c.drop(family)
		}
	}
	return before - len(c.pool)
}

// Evict drops a transaction and all that spends from it from the mempool, and
// reports how many there were.
func (c *Chain) Evict(id chainhash.Hash) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.txs[id]
	if !ok || p.height > 0 {
		return 0
	}
	family := c.family(p.e)
	c.drop(family)
	return len(family)
}

// family is a transaction of the mempool and all that spends from it.
func (c *Chain) family(e *entry) map[chainhash.Hash]bool {
	found := map[chainhash.Hash]bool{e.id: true}
	if len(c.pool) == 1 {
		return found
	}
	for todo := []*entry{e}; len(todo) > 0; todo = todo[1:] {
		op := wire.OutPoint{Hash: todo[0].id}
		for i := range todo[0].tx.TxOut {
			op.Index = uint32(i)
			if s, ok := c.spends[op]; ok && !found[s.e.id] {
				found[s.e.id] = true
				todo = append(todo, s.e)
			}
		}
	}
	return found
}

// drop takes transactions out of the mempool, with all that spends from them.
func (c *Chain) drop(gone map[chainhash.Hash]bool) {
	if len(gone) == 0 {
		return
	}
	left := make([]*entry, 0, len(c.pool))
	for _, e := range c.pool {
		if gone[e.id] {
			c.forget(e)
		} else {
			left = append(left, e)
		}
	}
	c.pool = left
}

// forget takes a transaction out of the index.
func (c *Chain) forget(e *entry) {
	delete(c.txs, e.id)
	for _, in := range e.tx.TxIn {
		if c.spends[in.PreviousOutPoint].e == e {
			delete(c.spends, in.PreviousOutPoint)
		}
	}
}

// know takes a transaction into the index; height 0: in the mempool.
func (c *Chain) know(e *entry, height uint32) {
	c.txs[e.id] = place{e, height}
	for i, in := range e.tx.TxIn {
		c.spends[in.PreviousOutPoint] = spender{e, uint32(i)}
	}
}

// clampedRate is the estimate within the bounds of every backend.
func (c *Chain) clampedRate() script.FeeRate { return chain.ClampFeeRate(c.rate) }
