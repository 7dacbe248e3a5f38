package main

import (
	"context"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/watch"
)

// forgetful is a node that says yes to a transaction and loses it.
type forgetful struct {
	chain.Backend
	lose bool
}

func (f *forgetful) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if f.lose {
		return nil
	}
	return f.Backend.Broadcast(ctx, tx)
}

// Pitfall 27, the wallet's share: what the wallet has sent is sent again by the
// watch until the chain has it.
func TestPitfall27_PaymentsAreRebroadcast(t *testing.T) {
	ctx := t.Context()
	node, err := devnet.New(devnet.Config{MineOnTx: true})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	words := "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
	ring, err := keys.FromMnemonic(words, &chaincfg.RegressionNetParams)
	if err != nil {
		t.Fatal(err)
	}
	c := &forgetful{Backend: node}
	w, err := wallet.New(ctx, wallet.Config{Keys: ring, Chain: c, Store: memory.New(), Params: &chaincfg.RegressionNetParams})
	if err != nil {
		t.Fatal(err)
	}
	pk, err := w.ReceiveScript(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Faucet(ctx, pk, 100_000); err != nil {
		t.Fatal(err)
	}
	c.lose = true
	sent, err := w.Send(ctx, pk, 50_000, script.FeeRatePerVB(1))
	if err != nil {
		t.Fatal(err)
	}
	r := &role{wallet: w}
	look := func() error {
		if err := r.step(ctx, &watch.Watch{Chain: c}); err != nil {
			t.Fatal(err)
		}
		_, err := node.Tx(ctx, sent.Tx.TxHash())
		return err
	}
	if look() == nil {
		t.Fatal("the node has what it lost")
	}
	c.lose = false
	if err := look(); err != nil {
		t.Fatalf("it was not sent again: %v", err)
	}
}
