package simchain

import (
	"context"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

// Lie is a set of ways in which a backend answers what is not true.
type Lie uint32

// The lies that there are. Those about a transaction are told of any that Target
// names.
const (
	HideSpend        Lie = 1 << iota // Spend: nothing spends this
	HideTx                           // Tx, Spend, UTXOs, History: this is not known
	FakeConfirmation                 // what is in the mempool is in the newest block
	RefuseBroadcast                  // with Reason
	SwallowBroadcast                 // nil, and nobody gets it
	LoseAnswer                       // the broadcast is relayed, the answer is an error
	OtherTip                         // every other Tip is of a block that does not exist
	ZeroFee                          // FeeRate 0
	AbsurdFee                        // FeeRate of a whole bitcoin per vB
)

// kind of a fault, as Counts names it.
type kind int

const (
	down kind = iota
	lag
	stale
	cut
	hiddenSpend
	hiddenTx
	fakeConfirmation
	refused
	swallowed
	lostAnswer
	otherTip
	zeroFee
	absurdFee
	kinds
)

var kindNames = [kinds]string{
	"backend-down", "backend-lag", "backend-stale", "backend-cut-off", "lie-hidden-spend", "lie-hidden-tx", "lie-fake-confirmation",
	"lie-broadcast-refused", "lie-broadcast-swallowed", "broadcast-answer-lost", "lie-other-tip", "lie-fee-zero", "lie-fee-absurd",
}

// Faulty is one side's backend over a chain: it may be behind, stand still, be
// unreachable or lie. Without faults it answers as the chain does. It is for one
// goroutine. A fault counts when it changed an answer, or what was relayed.
type Faulty struct {
	// Target names the transactions that are lied about; nil: all.
	Target func(txid chainhash.Hash) bool
	// Reason is what RefuseBroadcast says; empty: "min relay fee not met".
	Reason string

	c      *Chain
	behind uint32 // blocks
	frozen *Chain // what it sees while it stands still
	cut    bool   // and broadcasts do not get out
	down   int    // calls that fail; negative: all
	lies   Lie
	tips   int
	counts [kinds]int
}

var _ chain.Backend = (*Faulty)(nil)

// NewFaulty is a backend without faults yet.
func NewFaulty(c *Chain) *Faulty { return &Faulty{c: c} }

// Lag puts the backend so many blocks behind; what those hold is in its mempool.
func (f *Faulty) Lag(blocks uint32) { f.behind = blocks }

// Stale makes the backend's view stand still, or go on; broadcasts still reach the
// network.
func (f *Faulty) Stale(on bool) { f.freeze(on, false) }

// CutOff parts the backend's node from the network, or joins it again: the view
// stands still, and what it accepts nobody else gets.
func (f *Faulty) CutOff(on bool) { f.freeze(on, true) }

func (f *Faulty) freeze(on, cut bool) {
	f.frozen, f.cut = nil, on && cut
	if on {
		f.frozen = f.c.Clone()
	}
}

// Down makes every call fail with chain.ErrUnavailable, or none.
func (f *Faulty) Down(on bool) {
	f.down = 0
	if on {
		f.down = -1
	}
}

// FailNext makes the next n calls fail with chain.ErrUnavailable.
func (f *Faulty) FailNext(n int) { f.down = max(n, 0) }

// Lie sets which lies are told; 0: none.
func (f *Faulty) Lie(lies Lie) { f.lies = lies }

// Honest ends all faults.
func (f *Faulty) Honest() {
	f.behind, f.frozen, f.cut, f.down, f.lies = 0, nil, false, 0, 0
}

// Faulted tells whether a fault is on, whether or not it has struck.
func (f *Faulty) Faulted() bool {
	return f.behind > 0 || f.frozen != nil || f.down != 0 || f.lies != 0
}

// Counts is how often each kind of fault struck.
func (f *Faulty) Counts() map[string]int {
	all := map[string]int{}
	for k, n := range f.counts {
		if n > 0 {
			all[kindNames[k]] = n
		}
	}
	return all
}

// Clone is a copy over another chain.
func (f *Faulty) Clone(c *Chain) *Faulty {
	g := *f
	g.c = c
	if f.frozen != nil {
		g.frozen = f.frozen.Clone()
	}
	return &g
}

// tells reports whether a lie about a transaction is told.
func (f *Faulty) tells(l Lie, id chainhash.Hash) bool {
	return f.lies&l != 0 && (f.Target == nil || f.Target(id))
}

func (f *Faulty) struck(k kind, did bool) {
	if did {
		f.counts[k]++
	}
}

// begin fails a call where the backend is down.
func (f *Faulty) begin(ctx context.Context) error {
	if err := over(ctx); err != nil {
		return err
	}
	if f.down == 0 {
		return nil
	}
	if f.down > 0 {
		f.down--
	}
	f.counts[down]++
	return fmt.Errorf("%w: simchain: the backend is down", chain.ErrUnavailable)
}

// view is what the backend sees, and the newest height of it.
func (f *Faulty) view() (c *Chain, top uint32) {
	c = f.c
	if f.frozen != nil {
		c = f.frozen
	}
	top = c.Height()
	return c, top - min(f.behind, top-c.first)
}

// frost names the fault that a frozen view is.
func (f *Faulty) frost() kind {
	if f.cut {
		return cut
	}
	return stale
}

// Tip implements chain.Backend.
func (f *Faulty) Tip(ctx context.Context) (chain.Tip, error) {
	if err := f.begin(ctx); err != nil {
		return chain.Tip{}, err
	}
	c, top := f.view()
	tip := c.tipAt(top)
	if f.Faulted() {
		f.struck(lag, top < c.Height())
		f.struck(f.frost(), f.frozen != nil && c.tipAt(c.Height()) != f.c.tipAt(f.c.Height()))
	}
	if f.lies&OtherTip != 0 {
		if f.tips++; f.tips%2 == 0 {
			f.counts[otherTip]++
			tip.Hash[31] ^= 0xff
			tip.Height += uint32(f.tips/2%3) - 1 // one below, the same, one above
		}
	}
	return tip, nil
}

// tipAt is a block of the chain as a tip.
func (c *Chain) tipAt(height uint32) chain.Tip {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.at(height)
	return chain.Tip{Height: b.height, Hash: b.hash, Time: time.Unix(b.time, 0)}
}

// BlockHash implements chain.Backend.
func (f *Faulty) BlockHash(ctx context.Context, height uint32) (chainhash.Hash, error) {
	if err := f.begin(ctx); err != nil {
		return chainhash.Hash{}, err
	}
	c, top := f.view()
	hash, err := c.BlockHash(ctx, height)
	if f.frozen != nil {
		real, lost := f.c.BlockHash(ctx, height)
		f.struck(f.frost(), (err == nil) != (lost == nil) || hash != real)
	}
	if err == nil && height > top {
		f.counts[lag]++
		return chainhash.Hash{}, fmt.Errorf("%w: no block at height %d, the tip is %d", chain.ErrNotFound, height, top)
	}
	return hash, err
}

// FeeRate implements chain.Backend.
func (f *Faulty) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	if err := f.begin(ctx); err != nil {
		return 0, err
	}
	switch {
	case f.lies&ZeroFee != 0:
		f.counts[zeroFee]++
		return 0, nil
	case f.lies&AbsurdFee != 0:
		f.counts[absurdFee]++
		return script.FeeRatePerVB(100_000_000), nil
	case f.frozen == nil:
		return f.c.FeeRate(ctx, blocks)
	}
	rate, err := f.frozen.FeeRate(ctx, blocks)
	now, lost := f.c.FeeRate(ctx, blocks)
	f.struck(f.frost(), err == nil && lost == nil && rate != now)
	return rate, err
}

// Capabilities implements chain.Backend.
func (f *Faulty) Capabilities() chain.Capabilities { return f.c.Capabilities() }

// Broadcast implements chain.Backend.
func (f *Faulty) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if err := f.begin(ctx); err != nil {
		return err
	}
	if f.lies == 0 {
		return f.relay(ctx, tx)
	}
	id := tx.TxHash()
	known := f.c.knows(id)
	switch {
	case f.tells(RefuseBroadcast, id):
		f.counts[refused]++
		if f.Reason == "" {
			return refuse("min relay fee not met")
		}
		return refuse("%s", f.Reason)
	case f.tells(SwallowBroadcast, id):
		f.struck(swallowed, !known)
		return nil
	case f.tells(LoseAnswer, id):
		f.counts[lostAnswer]++
		return fmt.Errorf("%w: simchain: the answer was lost (%v)", chain.ErrUnavailable, f.relay(ctx, tx))
	}
	return f.relay(ctx, tx)
}

// relay hands a transaction to the backend's node and, where that has a way, to the
// network.
func (f *Faulty) relay(ctx context.Context, tx *wire.MsgTx) error {
	switch {
	case f.frozen == nil && f.behind == 0:
		return f.c.Broadcast(ctx, tx)
	case f.cut:
		id := tx.TxHash()
		before := f.frozen.knows(id)
		err := f.frozen.Broadcast(ctx, tx)
		f.struck(cut, err == nil && !before && !f.c.knows(id))
		return err
	}
	c, top := f.view()
	if early := c.finalAt(tx, top); !early && !f.c.knows(tx.TxHash()) {
		f.struck(lag, f.behind > 0 && c.finalAt(tx, c.Height()))
		f.struck(f.frost(), f.frozen != nil && f.c.finalAt(tx, f.c.Height()))
		return refuse("non-final")
	}
	err := f.c.Broadcast(ctx, tx)
	if f.frozen != nil && err == nil {
		// what it has given out it also shows, where that fits into what it sees
		if own := f.frozen.Broadcast(ctx, tx); own != nil {
			f.counts[stale]++
		}
	}
	return err
}

func (c *Chain) knows(id chainhash.Hash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.txs[id]
	return ok
}

// finalAt tells whether a transaction's own lock lets it into the block after a
// height. BIP113.
func (c *Chain) finalAt(tx *wire.MsgTx, height uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return final(tx, c.at(height))
}
