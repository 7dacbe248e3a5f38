package btcd_test

import (
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

func TestSuite(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		depths []int
	}{
		{"txindex", []string{"--txindex"}, []int{1, 2, 3, 5, 8, 20, 100}},
		{"no txindex", nil, []int{1, 2, 3, 4, 6, 12, 50}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := btcdtest.Start(t, c.args...)
			n.MineCoins(200)
			chaintest.Suite(t, func(t *testing.T) chaintest.Fixture { return fixture(n, client(t, n), c.depths) })
		})
	}
}
