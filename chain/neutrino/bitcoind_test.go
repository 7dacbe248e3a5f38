package neutrino_test

import (
	"net"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain/chaintest"
	"github.com/spillway/spillway/chain/neutrino"
	"github.com/spillway/spillway/internal/bitcoindtest"
)

// corePeer is a bitcoind that serves committed filters.
type corePeer struct {
	*bitcoindtest.Node
	t       testing.TB
	address string
}

func startCorePeer(t testing.TB) *corePeer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &corePeer{t: t, address: l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p.Node = bitcoindtest.Start(t, "-listen=1", "-bind="+p.address, "-blockfilterindex=1", "-peerblockfilters=1")
	return p
}

func (p *corePeer) P2PAddress() string { return p.address }

func (p *corePeer) TipHash() chainhash.Hash {
	hash, err := chainhash.NewHashFromStr(p.BlockHash(p.Height()))
	if err != nil {
		p.t.Fatal(err)
	}
	return *hash
}

// TestBitcoindPeer: a bitcoind that serves committed filters is a peer as good as a btcd, and relays version 3. With
// -args -all the whole suite is played over it.
func TestBitcoindPeer(t *testing.T) {
	t.Parallel()
	n := startCorePeer(t)
	n.MineCoins(20)
	c := open(t, n, func(cfg *neutrino.Config) { cfg.NoVersion3, cfg.Patience = false, 3*time.Second })
	settle(t, n, c)
	a, b := newHolder(t, 7), newHolder(t, 8)
	op := n.Pay(a.script, 70_000)
	n.Mine(1)
	settle(t, n, c)
	coins(t, c, a.script, op)
	tx := a.spendAs(t, 3, op, 70_000, b.script)
	if err := c.Broadcast(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node has it", func() bool { return n.InMempool(tx) })
	n.Mine(1)
	settle(t, n, c)
	if s, err := c.Spend(t.Context(), op); err != nil || s == nil || s.Txid != tx.TxHash() || s.Height != uint32(n.Height()) {
		t.Fatalf("%+v, %v", s, err)
	}
	n.Reorg(2, 3, nil, nil)
	settle(t, n, c)
	coins(t, c, a.script)
	coins(t, c, b.script)
	n.Mine(1)
	settle(t, n, c)
	coins(t, c, b.script, wire.OutPoint{Hash: tx.TxHash()})
	if !*all {
		return
	}
	chaintest.Suite(t, func(t *testing.T) chaintest.Fixture {
		return chaintest.Fixture{
			Backend: c, Params: &chaincfg.RegressionNetParams, Depths: []int{1, 2, 8, 40},
			Settle: func(t testing.TB) { settle(t, n, c) },
			Mine:   func(t testing.TB, blocks int) { n.Mine(blocks) },
			Fund:   func(t testing.TB, pkScript []byte, sat int64) wire.OutPoint { return n.Pay(pkScript, sat) },
			Reorg:  func(t testing.TB, r chaintest.Reorg) { n.Reorg(r.Depth, r.Length, r.Drop, r.Mine) },
		}
	})
}
