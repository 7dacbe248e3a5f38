package payer_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
)

// legacy is somebody's wallet that spends a P2PKH coin, whose signature anybody can
// change, and with it the id of T1.
type legacy struct{ *wallet.Wallet }

func (l legacy) Fund(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) (*wallet.Funded, error) {
	f, err := l.Wallet.Fund(ctx, outputs, rate)
	if err == nil {
		pkh := append(append([]byte{0x76, 0xa9, 0x14}, bytes.Repeat([]byte{7}, 20)...), 0x88, 0xac)
		f.Prevouts[f.Tx.TxIn[0].PreviousOutPoint].PkScript = pkh
	}
	return f, err
}

// TestPitfall01_DriverChecksTheWallet: whatever the wallet gives, no channel is made on a
// T1 that can be malleated, and its coins are free again.
func TestPitfall01_DriverChecksTheWallet(t *testing.T) {
	p := pairtest.New(t)
	drv, err := payer.New(payer.Config{
		Store: p.PayerDisk, Keys: p.PayerKeys, Wallet: legacy{p.Wallet}, Chain: p.Chain, Network: "regtest", Policy: p.Policy, Rand: noDice{},
	})
	wantNil(t, err)
	_, err = drv.Prepare(t.Context(), payer.OpenRequest{Offer: p.Offer(), Construction: script.Taproot, Capacity: pairtest.Capacity})
	wantErr(t, err, channel.ErrTerms)
	wantErr(t, err, script.ErrNotSegwit)
	if held, err := p.Wallet.Reservations(t.Context()); err != nil || len(held) > 0 {
		t.Fatalf("%v, %v", held, err)
	}
	if records, err := drv.Records(t.Context()); err != nil || len(records) > 0 {
		t.Fatalf("%v, %v", records, err)
	}
}
