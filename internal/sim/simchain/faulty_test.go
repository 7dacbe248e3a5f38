package simchain_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/chaintest"
	"github.com/spillway/spillway/internal/sim/simchain"
	"github.com/spillway/spillway/script"
)

// TestFaultySuite: without faults it is a backend like the others.
func TestFaultySuite(t *testing.T) {
	chaintest.Suite(t, func(*testing.T) chaintest.Fixture {
		c := simchain.New()
		f := fixture(c)
		f.Backend = simchain.NewFaulty(c)
		return f
	})
}

// scene is a coin, confirmed, and a spend of it in the mempool.
type scene struct {
	c     *simchain.Chain
	f     *simchain.Faulty
	coin  wire.OutPoint
	tx    *wire.MsgTx
	spend wire.OutPoint
}

func newScene(t *testing.T) scene {
	c := simchain.New()
	s := scene{c: c, f: simchain.NewFaulty(c), coin: coinOf(t, c, 50_000)}
	s.tx = pay{from: []wire.OutPoint{s.coin}, in: 50_000, fee: 500}.tx()
	s.spend = send(t, s.f, s.tx)
	if s.f.Faulted() || len(s.f.Counts()) > 0 {
		t.Fatal("a fault before there is one")
	}
	return s
}

func (s scene) tip(t *testing.T) chain.Tip {
	t.Helper()
	tip, err := s.f.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tip
}

// at wants what the backend says of the spend: a height, 0 in the mempool, -1
// unknown.
func (s scene) at(t *testing.T, want int) {
	t.Helper()
	info, err := s.f.Tx(t.Context(), s.spend.Hash)
	switch {
	case want < 0 && errors.Is(err, chain.ErrNotFound):
	case want < 0 || err != nil || int(info.Height) != want || info.Confirmed != (want > 0):
		t.Fatalf("%+v, %v; want %d", info, err, want)
	case want > 0:
		if hash, err := s.f.BlockHash(t.Context(), uint32(want)); err != nil || hash != info.BlockHash {
			t.Fatalf("in block %s, at its height is %s, %v", info.BlockHash, hash, err)
		}
	}
}

// spent wants the backend's word on the coin: a height, 0 in the mempool, -1
// unspent.
func (s scene) spent(t *testing.T, want int) {
	t.Helper()
	got, err := s.f.Spend(t.Context(), s.coin)
	if err != nil || (got == nil) != (want < 0) || got != nil && (int(got.Height) != want || got.Confirmed != (want > 0)) {
		t.Fatalf("%+v, %v; want %d", got, err, want)
	}
}

func (s scene) struck(t *testing.T, want map[string]int) {
	t.Helper()
	if got := s.f.Counts(); !maps.Equal(got, want) {
		t.Fatalf("struck: %v, want %v", got, want)
	}
}

func TestLag(t *testing.T) {
	s := newScene(t)
	s.f.Lag(2)
	s.c.Mine(nil)
	top := int(s.c.Height())
	s.at(t, 0)
	s.spent(t, 0)
	if tip := s.tip(t); int(tip.Height) != top-2 {
		t.Fatalf("tip %d of %d", tip.Height, top)
	}
	if _, err := s.f.BlockHash(t.Context(), uint32(top-1)); !errors.Is(err, chain.ErrNotFound) {
		t.Fatal(err)
	}
	s.struck(t, map[string]int{"backend-lag": 4})
	early := pay{from: []wire.OutPoint{s.spend}, in: 49_500, fee: 500, lock: uint32(top)}.tx()
	refused(t, s.f, early, "non-final")
	s.f.Lag(0)
	send(t, s.f, early)
	s.at(t, top)
	s.struck(t, map[string]int{"backend-lag": 5})
}

func TestStale(t *testing.T) {
	s := newScene(t)
	s.f.Stale(true)
	s.at(t, 0) // nothing happened yet, so nothing struck
	s.tip(t)
	s.struck(t, map[string]int{})
	s.c.Mine(nil)
	s.at(t, 0)
	s.spent(t, 0)
	s.tip(t)
	s.struck(t, map[string]int{"backend-stale": 3})
	next := send(t, s.f, pay{from: []wire.OutPoint{s.spend}, in: 49_500, fee: 500}.tx())
	if !pending(s.c, next) {
		t.Fatal("it did not get out")
	}
	s.f.Stale(false)
	s.at(t, int(s.c.Height()))
}

func TestCutOff(t *testing.T) {
	s := newScene(t)
	s.f.CutOff(true)
	next := send(t, s.f, pay{from: []wire.OutPoint{s.spend}, in: 49_500, fee: 500}.tx())
	if _, err := s.f.Tx(t.Context(), next.Hash); err != nil || pending(s.c, next) {
		t.Fatalf("its own node has it, nobody else: %v", err)
	}
	s.struck(t, map[string]int{"backend-cut-off": 2})
	s.f.CutOff(false)
	if _, err := s.f.Tx(t.Context(), next.Hash); !errors.Is(err, chain.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestDown(t *testing.T) {
	s := newScene(t)
	s.f.FailNext(2)
	for range 2 {
		if _, err := s.f.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	s.tip(t)
	s.f.Down(true)
	if err := s.f.Broadcast(t.Context(), s.tx); !errors.Is(err, chain.ErrUnavailable) {
		t.Fatal(err)
	}
	s.f.Honest()
	s.tip(t)
	s.struck(t, map[string]int{"backend-down": 3})
}

func TestLies(t *testing.T) {
	s := newScene(t)
	top := int(s.c.Height())
	s.f.Lie(simchain.HideSpend)
	s.spent(t, -1)
	s.at(t, 0)
	s.f.Lie(simchain.HideTx)
	s.spent(t, -1)
	s.at(t, -1)
	s.f.Lie(simchain.FakeConfirmation)
	s.spent(t, top)
	s.at(t, top)
	if all, err := s.f.UTXOs(t.Context(), open); err != nil || all[len(all)-1].Height != uint32(top) {
		t.Fatalf("%+v, %v", all, err)
	}
	s.f.Target = func(id chainhash.Hash) bool { return id != s.spend.Hash }
	s.at(t, 0)
	s.f.Target = nil
	s.f.Lie(simchain.ZeroFee)
	zero, err := s.f.FeeRate(t.Context(), 1)
	s.f.Lie(simchain.AbsurdFee)
	absurd, err2 := s.f.FeeRate(t.Context(), 1)
	if zero != 0 || absurd <= chain.MaxFeeRate || err != nil || err2 != nil {
		t.Fatal(zero, absurd, err, err2)
	}
	s.struck(t, map[string]int{"lie-hidden-spend": 1, "lie-hidden-tx": 2, "lie-fake-confirmation": 3, "lie-fee-zero": 1, "lie-fee-absurd": 1})
	s.f.Honest()
	s.f.Lie(simchain.OtherTip)
	tips := map[chain.Tip]bool{}
	for range 6 {
		tips[s.tip(t)] = true
	}
	if len(tips) != 4 || s.f.Counts()["lie-other-tip"] != 3 {
		t.Fatalf("%d tips", len(tips))
	}
}

func TestBroadcastLies(t *testing.T) {
	s := newScene(t)
	next := pay{from: []wire.OutPoint{s.spend}, in: 49_500, fee: 500}.tx()
	at := wire.OutPoint{Hash: next.TxHash()}
	s.f.Lie(simchain.RefuseBroadcast)
	refused(t, s.f, next, "min relay fee not met")
	s.f.Reason = "no thanks"
	refused(t, s.f, next, "no thanks")
	s.f.Lie(simchain.SwallowBroadcast)
	send(t, s.f, next)
	if pending(s.c, at) {
		t.Fatal("it was relayed")
	}
	s.f.Lie(simchain.LoseAnswer)
	if err := s.f.Broadcast(t.Context(), next); !errors.Is(err, chain.ErrUnavailable) || !pending(s.c, at) {
		t.Fatalf("%v, relayed %v", err, pending(s.c, at))
	}
	s.struck(t, map[string]int{"lie-broadcast-refused": 2, "lie-broadcast-swallowed": 1, "broadcast-answer-lost": 1})
	s.f.Lie(simchain.SwallowBroadcast)
	send(t, s.f, next) // known: nothing is swallowed
	s.struck(t, map[string]int{"lie-broadcast-refused": 2, "lie-broadcast-swallowed": 1, "broadcast-answer-lost": 1})
}

// TestClones go their own way, and end up the same from the same calls.
func TestClones(t *testing.T) {
	s := newScene(t)
	s.f.Stale(true)
	other := s.c.Clone()
	g := s.f.Clone(other)
	s.c.Mine(nil)
	if other.Height() == s.c.Height() || !pending(other, s.spend) {
		t.Fatal("the clone was mined too")
	}
	other.Mine(nil)
	a, err := s.c.Tip(t.Context())
	b, err2 := other.Tip(t.Context())
	if a != b || err != nil || err2 != nil {
		t.Fatalf("%+v, %+v", a, b)
	}
	g.Honest()
	if rate, err := g.FeeRate(t.Context(), 1); err != nil || rate != script.FeeRatePerVB(1) {
		t.Fatal(rate, err)
	}
	other.SetFeeRate(script.FeeRatePerVB(100))
	if rate, err := g.FeeRate(t.Context(), 1); err != nil || rate != script.FeeRatePerVB(100) {
		t.Fatal(rate, err)
	}
	s.tip(t)
	if s.f.Counts()["backend-stale"] != 1 {
		t.Fatal("the first one is stale still")
	}
}
