package bitcoind_test

import (
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"go.uber.org/goleak"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/chain/chaintest"
	"github.com/spillway/spillway/internal/bitcoindtest"
	"github.com/spillway/spillway/script"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client asks a node with its cookie, as somebody on the same machine does.
func client(t testing.TB, n *bitcoindtest.Node, change ...func(*bitcoind.Config)) *bitcoind.Client {
	t.Helper()
	cfg := bitcoind.Config{URL: n.URL(), Cookie: n.CookieFile(), Network: &chaincfg.RegressionNetParams}
	for _, f := range change {
		f(&cfg)
	}
	c, err := bitcoind.New(cfg)
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
func fixture(n *bitcoindtest.Node, c *bitcoind.Client, depths []int) chaintest.Fixture {
	return chaintest.Fixture{
		Backend: c, Params: &chaincfg.RegressionNetParams, Depths: depths,
		Bounded: func(t testing.TB, floor, most int64) chain.Backend {
			return client(t, n, func(cfg *bitcoind.Config) {
				cfg.MinFeeRate, cfg.MaxFeeRate = script.FeeRate(floor), script.FeeRate(most)
			})
		},
		Mine: func(t testing.TB, blocks int) { n.Mine(blocks) },
		Fund: func(t testing.TB, pkScript []byte, sat int64) wire.OutPoint { return n.Pay(pkScript, sat) },
		Reorg: func(t testing.TB, r chaintest.Reorg) {
			n.Reorg(r.Depth, r.Length, r.Drop, r.Mine)
		},
	}
}

func TestSuite(t *testing.T) {
	some := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20, 50, 99, 100}
	for _, c := range []struct {
		name string
		args []string
	}{
		{"txindex", nil},
		{"no txindex", []string{"-txindex=0"}},
		{"pruned", []string{"-txindex=0", "-prune=1", "-fastprune"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := bitcoindtest.Start(t, c.args...)
			n.MineCoins(300)
			if c.name == "pruned" {
				prune(t, n)
			}
			chaintest.Suite(t, func(t *testing.T) chaintest.Fixture { return fixture(n, client(t, n), some) })
		})
	}
}

// prune has the node forget its oldest blocks, and makes sure that it has.
func prune(t *testing.T, n *bitcoindtest.Node) {
	t.Helper()
	n.Mine(600)
	var last int64
	if err := n.RPC(&last, "pruneblockchain", n.Height()-300); err != nil {
		t.Fatal(err)
	}
	var info struct {
		Pruned bool  `json:"pruned"`
		Height int64 `json:"pruneheight"`
	}
	if err := n.RPC(&info, "getblockchaininfo"); err != nil {
		t.Fatal(err)
	}
	if !info.Pruned || info.Height < 200 {
		t.Fatalf("not pruned: %+v, after %d", info, last)
	}
}
