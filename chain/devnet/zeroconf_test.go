package devnet_test

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
)

// TestPitfall07_ZeroConfFunding: a funding that is seen in the mempool is gone after a replacement, after a block
// with another spend, and after a reorg with one; a backend then says that it knows nothing of it, nor of what was
// built on it, and names what spends the input instead.
func TestPitfall07_ZeroConfFunding(t *testing.T) {
	for what, steal := range map[string]func(*testing.T, *devnet.Node, *wire.MsgTx){
		"replaced in the mempool": func(t *testing.T, n *devnet.Node, theft *wire.MsgTx) {
			if err := n.Broadcast(t.Context(), theft); err != nil {
				t.Fatal(err)
			}
		},
		"mined otherwise": func(t *testing.T, n *devnet.Node, theft *wire.MsgTx) {
			if _, err := n.MineBlock(theft); err != nil {
				t.Fatal(err)
			}
		},
		"undone by a reorg": func(t *testing.T, n *devnet.Node, theft *wire.MsgTx) {
			mine(t, n, 1)
			if _, err := n.ReorgWith(devnet.ReorgOptions{Depth: 1, Length: 2, Mine: []*wire.MsgTx{theft}}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			n := open(t, devnet.Config{})
			k, from := key(t, 1)
			k2, channel := key(t, 2)
			coin := fund(t, n, from, 100_000)
			mine(t, n, 1)
			funding := pay(t, coin, 100_000, k, from, channel, 500)
			settlement := pay(t, wire.OutPoint{Hash: funding.TxHash()}, 99_500, k2, channel, anyoneElse(), 500)
			for _, tx := range []*wire.MsgTx{funding, settlement} {
				if err := n.Broadcast(t.Context(), tx); err != nil {
					t.Fatal(err)
				}
			}
			theft := pay(t, coin, 100_000, k, from, anyoneElse(), 20_000)
			steal(t, n, theft)
			for _, tx := range []*wire.MsgTx{funding, settlement} {
				if _, err := n.Tx(t.Context(), tx.TxHash()); !errors.Is(err, chain.ErrNotFound) {
					t.Errorf("%s is still known: %v", tx.TxHash(), err)
				}
				if err := n.Broadcast(t.Context(), tx); !errors.Is(err, chain.ErrRejected) {
					t.Errorf("%s is taken again: %v", tx.TxHash(), err)
				}
			}
			if s, err := n.Spend(t.Context(), coin); err != nil || s == nil || s.Txid != theft.TxHash() {
				t.Errorf("the coin is spent by %+v: %v", s, err)
			}
			if u, err := n.UTXOs(t.Context(), channel); err != nil || len(u) > 0 {
				t.Errorf("the channel still holds %+v: %v", u, err)
			}
		})
	}
}
