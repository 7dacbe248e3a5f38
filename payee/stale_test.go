package payee_test

import (
	"errors"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// TestPitfall37_TipStandsStill: a backend that answers and shows no new block hides
// the margin. Nothing is delivered on its word; what is paid is taken, and once
// blocks come again all goes on.
func TestPitfall37_TipStandsStill(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	var err error
	p.Payee, err = payee.New(payee.Config{
		Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: p.Chain, Network: "regtest", Payout: p.Payout, Policy: p.Policy,
		Dearest: func() uint64 { return price }, Now: p.Now, Rand: noDice{}, StaleTip: 5 * time.Hour,
	})
	wantNil(t, err)
	_, err = p.Buy(id, 0)
	wantNil(t, err)
	p.Wait(6 * time.Hour)
	_, err = p.Buy(id, 1)
	wantErr(t, err, payee.ErrStale)
	if r, err := p.Payee.Record(t.Context(), id); err != nil || r.Paid != 1000 || r.Charged != price {
		t.Fatalf("paid %d sat, charged %d msat, %v", r.Paid, r.Charged, err)
	}
	wantNil(t, p.StepPayee()) // the watch does its duty with what it is shown
	p.Mine(1)
	_, err = p.Buy(id, 1)
	wantNil(t, err)
	p.Wait(6 * time.Hour)
	for network, want := range map[string]error{"mainnet": payee.ErrStale, "regtest": nil} { // by default
		p.Payee, err = payee.New(payee.Config{
			Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: p.Chain, Network: network, Payout: p.Payout, Policy: p.Policy, Now: p.Now, Rand: noDice{},
		})
		wantNil(t, err)
		if _, err = p.Buy(id, 0); !errors.Is(err, want) {
			t.Fatalf("%s: %v", network, err)
		}
	}
}

type noDice struct{}

func (noDice) Read([]byte) (int, error) { return 0, errors.New("no randomness is needed here") }
