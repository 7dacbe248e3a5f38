package forward

import (
	"crypto/rand"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
)

// A payment that is decided twice, because something else was saved meanwhile, is counted
// once: what is spent is what was signed, whatever was asked how often.
func TestBudgetCountsARetriedPaymentOnce(t *testing.T) {
	x := pairtest.New(t)
	asked := 0
	budgets, err := NewBudgets(1000, []Allow{{Host: "*"}}, nil, nil)
	must(t, err)
	mine, err := payer.New(payer.Config{
		Store: x.PayerDisk, Keys: x.PayerKeys, Wallet: x.Wallet, Chain: x.Chain, Network: "regtest", Policy: x.Policy, Rand: rand.Reader,
		Spend: func(r channel.PayerRecord, more uint64) error {
			asked++
			r.Origin = "http://shop.example/"
			return budgets.Spend(r, more)
		},
	})
	must(t, err)
	id := x.Open(script.Taproot)
	pay := func(p *payer.Payer, msat uint64) uint64 {
		u, err := p.Pay(t.Context(), id, payer.Payment{Verified: msat}, channel.Limits{Budget: channel.MaxSat})
		must(t, err)
		return u.Amount
	}
	pay(mine, 10_000)
	for range 3 { // another process of the folder pays in between, and what is known here is old
		pay(x.Payer, 5_000)
		before := asked
		signed := pay(mine, 10_000)
		if asked-before != 2 {
			t.Fatalf("asked %d times: this shows nothing", asked-before)
		}
		if got := budgets.Status().Spent; got != signed {
			t.Errorf("%d sat are signed, the budget counts %d", signed, got)
		}
	}
}
