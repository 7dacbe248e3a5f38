package payee_test

import (
	"sync/atomic"
	"testing"
	"time"

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

// However often somebody asks on a channel that waits for its confirmations, the backend
// is asked once a second; with the next block, or a second later, anew.
func TestWaitingChannelsCostTheBackendLittle(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	r := p.Prepare(o, script.Taproot)
	op, err := p.Payer.Opening(t.Context(), r.Terms.ID())
	wantNil(t, err)
	drv, err := payee.New(payee.Config{
		Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: p.Chain, Network: "signet", Payout: p.Payout, Policy: p.Policy,
		Now: p.Now, Rand: noDice{}, StaleTip: -1,
	})
	wantNil(t, err)
	got, err := drv.Open(t.Context(), o, op)
	wantNil(t, err)
	if got.Depth != 0 {
		t.Fatalf("depth %d", got.Depth)
	}
	id, before := r.Terms.ID(), p.Chain.Asked()
	for range 10_000 {
		_, err := drv.Resume(t.Context(), id)
		wantNil(t, err)
	}
	if n := p.Chain.Asked() - before; n != 0 {
		t.Fatalf("10,000 requests within a second cost %d questions", n)
	}
	p.Wait(time.Second)
	_, err = drv.Resume(t.Context(), id)
	wantNil(t, err)
	if p.Chain.Asked() == before {
		t.Fatal("a second later nothing is asked")
	}
	p.Mine(1)
	seen, err := drv.Resume(t.Context(), id)
	wantNil(t, err)
	if seen.Depth != 1 {
		t.Fatalf("depth %d after a block", seen.Depth)
	}
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
