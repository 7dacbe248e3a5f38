package payee_test

import (
	"sync/atomic"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// counting counts how often a key is derived.
type counting struct {
	*keys.Keyring
	n atomic.Int32
}

func (c *counting) PayeeChannelKey(nonce [16]byte) (*btcec.PrivateKey, error) {
	c.n.Add(1)
	return c.Keyring.PayeeChannelKey(nonce)
}

// A channel's MAC key is derived once, and each channel has its own.
func TestMACKeysAreDerivedOnce(t *testing.T) {
	p := pairtest.New(t)
	ids := []string{p.Open(script.Taproot), p.Open(script.Multisig)}
	k := &counting{Keyring: p.PayeeKeys}
	drv, err := payee.New(payee.Config{
		Store: p.PayeeDisk, Keys: k, Chain: p.Chain, Network: "regtest", Payout: p.Payout, Policy: p.Policy,
		Now: p.Now, Rand: noDice{},
	})
	wantNil(t, err)
	before := k.n.Load()
	for range 5 {
		for _, id := range ids {
			got, err := drv.MACKey(t.Context(), id)
			wantNil(t, err)
			want, err := p.Payer.MACKey(t.Context(), id)
			wantNil(t, err)
			if got != want {
				t.Fatal("the two ends have different keys")
			}
		}
	}
	if n := k.n.Load() - before; n != 2 {
		t.Fatalf("two channels' keys were derived %d times", n)
	}
}
