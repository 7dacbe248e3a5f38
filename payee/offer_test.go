package payee_test

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// counted is a chain that counts what it is asked.
type counted struct {
	payee.Chain
	asked int
	down  error
}

func (c *counted) Tip(ctx context.Context) (chain.Tip, error) {
	c.asked++
	if c.down != nil {
		return chain.Tip{}, c.down
	}
	return c.Chain.Tip(ctx)
}

func (c *counted) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	c.asked++
	return c.Chain.FeeRate(ctx, blocks)
}

// Unpaid requests do not go through to the backend one by one: one look serves the
// offers of some seconds, each with its own key. A look that failed is not kept.
func TestOffersShareALook(t *testing.T) {
	p := pairtest.New(t)
	c := &counted{Chain: p.Chain}
	now := time.Unix(1_700_000_000, 0)
	of := func(network string) *payee.Payee {
		d, err := payee.New(payee.Config{
			Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: c, Network: network, Payout: p.Payout, Policy: p.Policy,
			Now: func() time.Time { return now }, Rand: rand.Reader,
		})
		wantNil(t, err)
		return d
	}
	d := of("signet")
	c.down = errors.New("down")
	_, err := d.Offer(t.Context(), payee.Price{Chunk: 1000, Least: 1000, Total: 1000})
	wantErr(t, err, c.down)
	c.down, c.asked = nil, 0
	keys := map[string]bool{}
	for range 50 {
		o, err := d.Offer(t.Context(), payee.Price{Chunk: 1000, Least: 1000, Total: 1000})
		wantNil(t, err)
		keys[o.PayeeKey.String()] = true
	}
	if c.asked != 2 || len(keys) != 50 {
		t.Errorf("the chain was asked %d times for %d keys", c.asked, len(keys))
	}
	before, err := d.Offer(t.Context(), payee.Price{})
	wantNil(t, err)
	p.Mine(1)
	now = now.Add(6 * time.Second)
	after, err := d.Offer(t.Context(), payee.Price{})
	wantNil(t, err)
	if after.Tip != before.Tip+1 || after.Expiry != before.Expiry+1 || c.asked != 4 {
		t.Errorf("tip %d, then %d; asked %d times", before.Tip, after.Tip, c.asked)
	}
	c.asked = 0
	r := of("regtest")
	for range 3 {
		_, err := r.Offer(t.Context(), payee.Price{})
		wantNil(t, err)
	}
	if c.asked != 6 {
		t.Errorf("on regtest the chain was asked %d times", c.asked)
	}
}

// TestPitfall32_NotWorthClosing: no channel is opened that could not pay its own
// settlement, at the stress rate or at the rate of the day where that is higher; and one
// whose rates rose later is settled at what it can pay, by itself or with others.
func TestPitfall32_NotWorthClosing(t *testing.T) {
	p := pairtest.New(t)
	calm := p.Offer()
	p.Chain.SetFeeRate(3 * p.Policy.StressRate)
	dear := p.Offer()
	if dear.MinimumCharge < 3*(calm.MinDeposit-660)-660 || dear.MinDeposit < dear.MinimumCharge+330 || calm.MinDeposit < calm.MinimumCharge+330 {
		t.Fatalf("deposits from %d sat and %d sat, for minimum charges of %d sat and %d sat", calm.MinDeposit, dear.MinDeposit, calm.MinimumCharge, dear.MinimumCharge)
	}
	p.Chain.SetFeeRate(script.FeeRatePerVB(1))
	ids := due(t, p, 3_000, script.Taproot)
	p.Chain.SetFeeRate(script.FeeRatePerVB(1_000))
	wantNil(t, p.StepPayee())
	r := recordOf(t, p, ids[0])
	if tx := spender(t, p, ids[0]); tx == nil || r.Settlement.Fee < 3_000-332 || r.Settlement.Fee > 3_000-330 {
		t.Fatalf("settled as %+v", r.Settlement)
	}
}
