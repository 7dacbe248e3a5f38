package devnet_test

import (
	"context"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/chaintest"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/script"
)

// open starts a node that is closed with the test.
func open(t testing.TB, cfg devnet.Config) *devnet.Node {
	t.Helper()
	n, err := devnet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// fixture drives whatever node is the present one.
func fixture(node func() *devnet.Node) chaintest.Fixture {
	return chaintest.Fixture{
		Backend: node(), Params: devnet.Params(),
		Mine: func(t testing.TB, blocks int) {
			t.Helper()
			if _, err := node().Mine(blocks); err != nil {
				t.Fatal(err)
			}
		},
		Fund: func(t testing.TB, pkScript []byte, sat int64) wire.OutPoint {
			t.Helper()
			return fund(t, node(), pkScript, sat)
		},
		Reorg: func(t testing.TB, r chaintest.Reorg) {
			t.Helper()
			_, err := node().ReorgWith(devnet.ReorgOptions{Depth: r.Depth, Length: r.Length, Drop: r.Drop, Mine: r.Mine})
			if err != nil {
				t.Fatal(err)
			}
		},
	}
}

// fund pays from the faucet and finds the one output that does.
func fund(t testing.TB, n *devnet.Node, pkScript []byte, sat int64) wire.OutPoint {
	t.Helper()
	id, err := n.Faucet(t.Context(), pkScript, sat)
	if err != nil {
		t.Fatal(err)
	}
	info, err := n.Tx(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for i, out := range info.Tx.TxOut {
		if string(out.PkScript) == string(pkScript) && out.Value == sat {
			return wire.OutPoint{Hash: id, Index: uint32(i)}
		}
	}
	t.Fatalf("no output of %s pays %d sat", id, sat)
	return wire.OutPoint{}
}

func TestSuite(t *testing.T) {
	chaintest.Suite(t, func(t *testing.T) chaintest.Fixture {
		n := open(t, devnet.Config{})
		return fixture(func() *devnet.Node { return n })
	})
}

// TestSuiteReopened closes the node and opens it from its folder after every step of every test.
func TestSuiteReopened(t *testing.T) {
	chaintest.Suite(t, func(t *testing.T) chaintest.Fixture {
		r := &reopened{cfg: devnet.Config{Dir: t.TempDir()}}
		r.node = open(t, r.cfg)
		f := fixture(func() *devnet.Node { return r.node })
		f.Backend = r
		f.Depths = []int{1, 2, 3, 20, 100}
		f.Settle = func(t testing.TB) {
			t.Helper()
			if err := r.node.Close(); err != nil {
				t.Fatal(err)
			}
			r.node = open(t, r.cfg)
		}
		return f
	})
}

// reopened passes on to the present node.
type reopened struct {
	cfg  devnet.Config
	node *devnet.Node
}

func (r *reopened) Tip(ctx context.Context) (chain.Tip, error) { return r.node.Tip(ctx) }
func (r *reopened) BlockHash(ctx context.Context, height uint32) (chainhash.Hash, error) {
	return r.node.BlockHash(ctx, height)
}
func (r *reopened) Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error) {
	return r.node.Tx(ctx, txid)
}
func (r *reopened) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	return r.node.Spend(ctx, op)
}
func (r *reopened) UTXOs(ctx context.Context, pkScript []byte) ([]chain.UTXO, error) {
	return r.node.UTXOs(ctx, pkScript)
}
func (r *reopened) History(ctx context.Context, pkScript []byte) ([]chain.TxInfo, error) {
	return r.node.History(ctx, pkScript)
}
func (r *reopened) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	return r.node.Broadcast(ctx, tx)
}
func (r *reopened) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	return r.node.FeeRate(ctx, blocks)
}
func (r *reopened) Capabilities() chain.Capabilities { return r.node.Capabilities() }
