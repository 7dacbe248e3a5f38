package simchain_test

import (
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain/chaintest"
	"github.com/spillway/spillway/internal/sim/simchain"
)

func fixture(c *simchain.Chain) chaintest.Fixture {
	return chaintest.Fixture{
		Backend: c, Params: &chaincfg.RegressionNetParams,
		Mine: func(_ testing.TB, blocks int) {
			for range blocks {
				c.Mine(nil)
			}
		},
		Fund: func(t testing.TB, pkScript []byte, sat int64) wire.OutPoint {
			t.Helper()
			op, err := c.Faucet(pkScript, sat)
			if err != nil {
				t.Fatal(err)
			}
			return op
		},
		Reorg: func(t testing.TB, r chaintest.Reorg) {
			t.Helper()
			if _, err := c.ReorgWith(simchain.ReorgOptions{Depth: r.Depth, Length: r.Length, Drop: r.Drop, Mine: r.Mine}); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func TestSuite(t *testing.T) {
	for _, rules := range []simchain.Rules{simchain.Bitcoind, simchain.Embedded} {
		chaintest.Suite(t, func(*testing.T) chaintest.Fixture {
			c := simchain.New()
			c.Rules = rules
			return fixture(c)
		})
	}
}
