package sim

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// Days of a channel: every invariant holds after every event, and the faults that
// the runs are about did happen.
func TestSeeds(t *testing.T) {
	const groups, seeds = 8, 25
	results := make(chan Result, groups)
	t.Run("group", func(t *testing.T) {
		for g := range groups {
			t.Run(fmt.Sprint(g), func(t *testing.T) {
				t.Parallel()
				var total Result
				for s := range seeds {
					total.Add(Run(uint64(g*seeds+s), nil))
				}
				results <- total
			})
		}
	})
	close(results)
	var total Result
	for r := range results {
		total.Add(r)
	}
	for _, v := range total.Violations {
		t.Errorf("%s\nreplay: go run ./internal/sim/cmd/sim -seed N -trace", v)
	}
	for _, fault := range []string{"crash-payer", "crash-payee", "disk-payer", "disk-payee", "lost-request", "lost-answer", "censored-block",
		"fee-change", "eviction", "payer-stops", "payer-vanishes", "payee-vanishes", "refund-mined", "reorg-of-something"} {
		if total.Faults[fault] == 0 {
			t.Errorf("%s never happened", fault)
		}
	}
	if total.Events < groups*seeds*50 || total.Reorgs == 0 {
		t.Errorf("only %d events and %d reorgs", total.Events, total.Reorgs)
	}
}

// A seed is replayed exactly.
func TestSeedsReplay(t *testing.T) {
	for seed := range uint64(6) {
		var stories [2]strings.Builder
		var results [2]Result
		for i := range results {
			results[i] = Run(seed, func(format string, args ...any) { fmt.Fprintf(&stories[i], format+"\n", args...) })
		}
		if stories[0].String() != stories[1].String() || !reflect.DeepEqual(results[0], results[1]) {
			t.Errorf("seed %d is told in two ways", seed)
		}
		if stories[0].Len() == 0 {
			t.Errorf("seed %d tells nothing", seed)
		}
	}
}

// The invariants can fail: a record that breaks one is noticed.
func TestInvariantsNotice(t *testing.T) {
	w := newWorld(1, nil)
	for w.buyer.id == "" || len(w.seen.delivered) < 2 {
		w.event()
		w.check()
	}
	if w.failed {
		t.Fatal(w.result.Violations)
	}
	w.seen.paid = channel.MaxSat
	w.check()
	if !w.failed || !strings.Contains(w.result.Violations[0], "paid fell") {
		t.Errorf("a fall of what is paid was not noticed: %v", w.result.Violations)
	}
}

// The model refuses what a node refuses.
func TestChainModel(t *testing.T) {
	c := NewChain()
	pk := append([]byte{0x51, 0x20}, make([]byte, 32)...)
	op := wire.OutPoint{Hash: chainhash.Hash{1}}
	c.Coin(op, &wire.TxOut{Value: 100_000, PkScript: pk})
	spend := func(value int64, lock uint32) *wire.MsgTx {
		tx := wire.NewMsgTx(2)
		tx.LockTime = lock
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: script.Sequence})
		tx.AddTxOut(&wire.TxOut{Value: value, PkScript: pk})
		return tx
	}
	for name, tx := range map[string]*wire.MsgTx{
		"non-final": spend(90_000, c.height()+1), "dust": spend(329, 0), "min relay fee": spend(99_990, 0),
	} {
		if err := c.accept(tx); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	first := spend(99_000, 0)
	if err := c.accept(first); err != nil {
		t.Fatal(err)
	}
	if err := c.accept(spend(98_950, 0)); err == nil {
		t.Error("a replacement that does not pay for its relay")
	}
	second := spend(98_000, 0)
	if err := c.accept(second); err != nil {
		t.Fatal(err)
	}
	if tx, _ := c.find(first.TxHash()); tx != nil {
		t.Error("what was replaced is still there")
	}
	c.Mine(nil)
	if err := c.accept(spend(90_000, 0)); err == nil {
		t.Error("a spend of what is spent in a block")
	}
	if n := c.Reorg(1); n != 1 {
		t.Errorf("%d transactions were undone", n)
	}
	if _, height := c.find(second.TxHash()); height != 0 {
		t.Errorf("undone, but at height %d", height)
	}
}
