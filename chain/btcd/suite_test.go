package btcd_test

import (
	"flag"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/btcd"
	"github.com/spillway/spillway/chain/chaintest"
	"github.com/spillway/spillway/internal/btcdtest"
	"github.com/spillway/spillway/script"
)

func client(t testing.TB, n *btcdtest.Node, change ...func(*btcd.Config)) *btcd.Client {
	t.Helper()
	cfg := btcd.Config{Address: n.RPCAddress(), User: btcdtest.User, Password: btcdtest.Password, CertFile: n.CertFile(),
		Network: &chaincfg.RegressionNetParams}
	for _, f := range change {
		f(&cfg)
	}
	c, err := btcd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// fixture drives a node that is shared by all tests of a suite; each has a client of its own.
func fixture(n *btcdtest.Node, c *btcd.Client, depths []int) chaintest.Fixture {
	return chaintest.Fixture{
		Backend: c, Params: &chaincfg.RegressionNetParams, Depths: depths,
		Bounded: func(t testing.TB, floor, most int64) chain.Backend {
			return client(t, n, func(cfg *btcd.Config) {
				cfg.MinFeeRate, cfg.MaxFeeRate = script.FeeRate(floor), script.FeeRate(most)
			})
		},
		Mine:  func(t testing.TB, blocks int) { n.Mine(blocks) },
		Fund:  func(t testing.TB, pkScript []byte, sat int64) wire.OutPoint { return n.Pay(pkScript, sat) },
		Reorg: func(t testing.TB, r chaintest.Reorg) { n.Reorg(r.Depth, r.Length, r.Drop, r.Mine) },
	}
}

// all plays the suite on both kinds of node with every depth of a reorg, for .ci/full.
var all = flag.Bool("all", false, "play the suite with and without an index, and try every depth of a reorg")

func TestSuite(t *testing.T) {
	depths := map[string][]int{"--txindex=false": {1, 2, 3, 12, 50}}
	if *all {
		depths = map[string][]int{"--txindex=false": nil, "--txindex": nil}
	}
	for arg, depths := range depths {
		t.Run(arg, func(t *testing.T) {
			t.Parallel()
			var args []string
			if arg == "--txindex" {
				args = append(args, arg)
			}
			n := btcdtest.Start(t, args...)
			n.MineCoins(200)
			chaintest.Suite(t, func(t *testing.T) chaintest.Fixture { return fixture(n, client(t, n), depths) })
		})
	}
}

// TestIndex: with an index any transaction is found by its id alone.
func TestIndex(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t, "--txindex")
	n.MineCoins(1)
	a, b := newHolder(t, 7), newHolder(t, 8)
	op := n.Pay(a.script, 70_000)
	spend := a.spend(t, op, 70_000, b.script)
	if err := n.Send(spend); err != nil {
		t.Fatal(err)
	}
	n.Mine(1)
	at := uint32(n.Height())
	n.Mine(20)
	c := client(t, n, func(cfg *btcd.Config) { cfg.Window = 10 })
	if info, err := c.Tx(t.Context(), op.Hash); err != nil || info.Height != at {
		t.Fatalf("%+v, %v", info, err)
	}
	if s, err := c.Spend(t.Context(), op); err != nil || s == nil || s.Txid != spend.TxHash() || s.Height != at {
		t.Fatalf("%+v, %v", s, err)
	}
	if h, err := c.Health(t.Context()); err != nil || !h.Index {
		t.Fatalf("%+v, %v", h, err)
	}
	n.Reorg(21, 22, nil, nil)
	if info, err := c.Tx(t.Context(), op.Hash); err != nil || info.Confirmed {
		t.Fatalf("undone: %+v, %v", info, err)
	}
	n.Mine(1)
	if s, err := c.Spend(t.Context(), op); err != nil || s == nil || s.Height != uint32(n.Height()) {
		t.Fatalf("mined again: %+v, %v", s, err)
	}
}
