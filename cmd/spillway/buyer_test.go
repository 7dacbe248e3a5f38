package main

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
)

// TestFaucetFillsAnotherChannel: a purchase that goes on in a channel that was not planned
// has its coins from the devnet's faucet as well.
func TestFaucetFillsAnotherChannel(t *testing.T) {
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	d, err := a.startDevnet("", "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	a.flags.network, a.flags.data, a.flags.chain = "regtest", t.TempDir(), []string{d.url}
	b, err := a.openBuyer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	pk, err := b.wallet.ReceiveScript(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	outs := []*wire.TxOut{wire.NewTxOut(5000, pk)}
	if _, err := b.wallet.Fund(t.Context(), outs, 1000); !errors.Is(err, wallet.ErrInsufficient) {
		t.Fatalf("an empty wallet: %v", err)
	}
	for range 2 { // the first one's coins are reserved when the second is funded
		if tx, err := (&tapped{purse: b.wallet, buyer: b}).Fund(t.Context(), outs, 1000); err != nil || tx == nil {
			t.Fatalf("%v, %v", tx, err)
		}
	}
	if _, err := (&tapped{purse: broke{}, buyer: b}).Fund(context.Background(), outs, 1000); !errors.Is(err, errBroke) {
		t.Errorf("another error: %v", err)
	}
}

var errBroke = errors.New("broke")

type broke struct{ purse }

func (broke) Fund(context.Context, []*wire.TxOut, script.FeeRate) (*wallet.Funded, error) {
	return nil, errBroke
}
