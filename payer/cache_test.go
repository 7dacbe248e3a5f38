package payer_test

import (
	"sync/atomic"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
)

// counting counts how often a key is derived.
type counting struct {
	*keys.Keyring
	n atomic.Int32
}

func (c *counting) PayerChannelKey(index uint32) (*btcec.PrivateKey, error) {
	c.n.Add(1)
	return c.Keyring.PayerChannelKey(index)
}

// A channel's key is derived once, however much is paid; two channels that are paid in
// turn, at once, are each signed for with their own key and scripts.
func TestKeysAreDerivedOnce(t *testing.T) {
	p := pairtest.New(t)
	ids := []string{p.Open(script.Taproot), p.Open(script.Multisig)}
	k := &counting{Keyring: p.PayerKeys}
	drv, err := payer.New(payer.Config{
		Store: p.PayerDisk, Keys: k, Wallet: p.Wallet, Chain: p.Chain, Network: "regtest", Policy: p.Policy, Rand: noDice{},
	})
	wantNil(t, err)
	for _, id := range ids {
		_, err := drv.MACKey(t.Context(), id)
		wantNil(t, err)
	}
	done := make(chan error)
	for _, id := range ids {
		go func() {
			for range 10 {
				u, err := drv.Pay(t.Context(), id, payer.Payment{Verified: 1_000_000}, channel.Limits{Budget: channel.MaxSat})
				if err == nil {
					err = verify(t, p, id, u)
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range ids {
		wantNil(t, <-done)
	}
	if n := k.n.Load(); n != 2 {
		t.Fatalf("two channels' keys were derived %d times", n)
	}
}

// verify checks an update with scripts that are built anew.
func verify(t *testing.T, p *pairtest.Pair, id string, u channel.Update) error {
	r, err := p.Payee.Record(t.Context(), id)
	if err != nil {
		return err
	}
	ch, err := r.Terms.Script()
	if err != nil {
		return err
	}
	return r.Terms.VerifyUpdate(ch, u)
}
