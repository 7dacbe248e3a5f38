package neutrino_test

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	library "github.com/lightninglabs/neutrino"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/chaintest"
	"github.com/spillway/spillway/chain/neutrino"
	"github.com/spillway/spillway/internal/btcdtest"
	"github.com/spillway/spillway/script"
)

// all tries every depth of a reorg, for .ci/full.
var all = flag.Bool("all", false, "try every depth of a reorg")

func TestMain(m *testing.M) {
	library.ConnectionRetryInterval = 50 * time.Millisecond
	os.Exit(m.Run())
}

// node is a peer that a test drives.
type node interface {
	P2PAddress() string
	TipHash() chainhash.Hash
	Height() int64
}

func open(t testing.TB, n node, change ...func(*neutrino.Config)) *neutrino.Client {
	t.Helper()
	cfg := neutrino.Config{Dir: t.TempDir(), Network: &chaincfg.RegressionNetParams, Peers: []string{n.P2PAddress()}, NoVersion3: true,
		Patience: 150 * time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	c, err := neutrino.Open(t.Context(), cfg)
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

// settle waits until the client is where the node is.
func settle(t testing.TB, n node, c chain.Backend) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		tip, err := c.Tip(ctx)
		if err == nil && tip.Hash == n.TipHash() {
			return
		}
		last = err
		select {
		case <-ctx.Done():
			t.Fatalf("the light client is at %+v (%v), the node at %d", tip, last, n.Height())
		case <-tick.C:
		}
	}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	depths := []int{1, 2, 8}
	if *all {
		depths = nil
	}
	n := btcdtest.Start(t)
	n.MineCoins(200)
	c := open(t, n)
	settle(t, n, c)
	chaintest.Suite(t, func(t *testing.T) chaintest.Fixture {
		return chaintest.Fixture{
			Backend: c, Params: &chaincfg.RegressionNetParams, Depths: depths,
			Bounded: func(t testing.TB, floor, most int64) chain.Backend {
				b := open(t, n, func(cfg *neutrino.Config) {
					cfg.MinFeeRate, cfg.MaxFeeRate = script.FeeRate(floor), script.FeeRate(most)
				})
				settle(t, n, b)
				return b
			},
			Settle: func(t testing.TB) { settle(t, n, c) },
			Mine:   func(t testing.TB, blocks int) { n.Mine(blocks) },
			Fund:   func(t testing.TB, pkScript []byte, sat int64) wire.OutPoint { return n.Pay(pkScript, sat) },
			Reorg:  func(t testing.TB, r chaintest.Reorg) { n.Reorg(r.Depth, r.Length, r.Drop, r.Mine) },
		}
	})
}
