package payee_test

import (
	"context"
	"crypto/rand"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// TestPitfall06_CapOfPending: so many channels may wait for their confirmations and
// no more; one whose T1 is deep enough is taken all the same, and blocks make room.
func TestPitfall06_CapOfPending(t *testing.T) {
	p := pairtest.New(t)
	_, payout, err := p.PayeeKeys.WalletKey(false, 0)
	wantNil(t, err)
	start := func() {
		t.Helper()
		p.Payee, err = payee.New(payee.Config{
			Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: p.Chain, Network: "regtest", Payout: payout, Policy: p.Policy,
			MaxPending: 1, Now: p.Now, Rand: rand.Reader,
		})
		wantNil(t, err)
	}
	start()
	offer := func() (channel.Offer, channel.Opening) {
		t.Helper()
		o := p.Offer()
		r := p.Prepare(o, script.Taproot)
		op, err := p.Payer.Opening(context.Background(), r.Terms.ID())
		wantNil(t, err)
		return o, op
	}
	o1, op1 := offer()
	_, err = p.Payee.Open(t.Context(), o1, op1)
	wantNil(t, err)
	o2, op2 := offer()
	for range 2 {
		_, err = p.Payee.Open(t.Context(), o2, op2)
		wantErr(t, err, payee.ErrBusy)
		start() // the next process counts what is stored
	}
	_, err = p.Payee.Open(t.Context(), o1, op1) // a repeat needs no place
	wantNil(t, err)
	p.Mine(1) // T1 of the second is out, and confirms too
	got, err := p.Payee.Open(t.Context(), o2, op2)
	wantNil(t, err)
	if got.Record.Phase != channel.Open {
		t.Fatalf("phase %s", got.Record.Phase)
	}
	wantNil(t, p.StepPayee())
	o3, op3 := offer()
	if got, err = p.Payee.Open(t.Context(), o3, op3); err != nil || got.Record.Phase != channel.Funding {
		t.Fatalf("phase %s, %v", got.Record.Phase, err)
	}
}
