package esplora_test

import (
	"net/http/httptest"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
	"go.uber.org/goleak"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/chaintest"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/script"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve puts a devnet behind HTTP.
func serve(t testing.TB, cfg devnet.Config) (*devnet.Node, *httptest.Server) {
	t.Helper()
	n, err := devnet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(n.Handler())
	t.Cleanup(func() {
		s.Close()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, s
}

func client(t testing.TB, url string) *esplora.Client {
	t.Helper()
	c, err := esplora.New(esplora.Config{URL: url, Network: devnet.Params()})
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

func TestSuite(t *testing.T) {
	chaintest.Suite(t, func(t *testing.T) chaintest.Fixture {
		n, s := serve(t, devnet.Config{})
		c := client(t, s.URL)
		return chaintest.Fixture{
			Backend: c, Params: devnet.Params(),
			Bounded: func(t testing.TB, floor, most int64) chain.Backend {
				b, err := esplora.New(esplora.Config{URL: s.URL, Network: devnet.Params(), MinFeeRate: script.FeeRate(floor), MaxFeeRate: script.FeeRate(most)})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := b.Close(); err != nil {
						t.Error(err)
					}
				})
				return b
			},
			Mine: func(t testing.TB, blocks int) {
				t.Helper()
				if err := c.Mine(t.Context(), blocks); err != nil {
					t.Fatal(err)
				}
			},
			Fund: func(t testing.TB, pkScript []byte, sat int64) wire.OutPoint {
				t.Helper()
				id, err := c.Faucet(t.Context(), pkScript, sat)
				if err != nil {
					t.Fatal(err)
				}
				info, err := c.Tx(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				for i, out := range info.Tx.TxOut {
					if string(out.PkScript) == string(pkScript) {
						return wire.OutPoint{Hash: id, Index: uint32(i)}
					}
				}
				t.Fatalf("%s does not pay", id)
				return wire.OutPoint{}
			},
			Reorg: func(t testing.TB, r chaintest.Reorg) {
				t.Helper()
				o := devnet.ReorgOptions{Depth: r.Depth, Length: r.Length, Drop: r.Drop, Mine: r.Mine}
				if _, err := n.ReorgWith(o); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
