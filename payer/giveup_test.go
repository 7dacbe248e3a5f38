package payer_test

import (
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// TestPitfall72_GivenUpNeverLeaves: once a channel is given up its coins may be spent
// elsewhere, so neither its opening nor its T1 leaves any more.
func TestPitfall72_GivenUpNeverLeaves(t *testing.T) {
	p := pairtest.New(t)
	id := p.Prepare(p.Offer(), script.Taproot).Terms.ID()
	wantNil(t, p.Payer.Abandon(t.Context(), id))
	sent := len(p.Chain.Sent())
	op, err := p.Payer.Opening(t.Context(), id)
	wantErr(t, err, channel.ErrFinalized)
	if len(op.FundingTx) > 0 || len(op.Update.Signature) > 0 {
		t.Fatalf("an opening leaves: %+v", op)
	}
	wantErr(t, p.Payer.Publish(t.Context(), id), channel.ErrFinalized)
	wantErr(t, p.Payer.Accepted(t.Context(), id), channel.ErrFinalized)
	if r := record(t, p, id); r.FundingSent || r.Accepted || len(p.Chain.Sent()) != sent {
		t.Fatalf("T1 left, or will be counted as left: %+v", r)
	}
}

// An update that could not be saved as spent is not handed out with the error.
func TestPitfall22_UnsavedUpdateIsNotHandedOut(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	p.PayerDisk.FailNext(store.ErrFull)
	u, err := p.Payer.Pay(t.Context(), id, payer.Payment{Verified: 2_000_000}, channel.Limits{Budget: 5000})
	wantErr(t, err, store.ErrFull)
	if u.Amount != 0 || len(u.Signature) > 0 {
		t.Fatalf("%d sat are signed and not saved: %x", u.Amount, u.Signature)
	}
}

// TestPitfall72_CancelledOpening: an opening that left and was never accepted is given up
// before its coins are spent elsewhere. Nothing of it leaves any more; it ends when the
// other spend is buried, and lives again where the payee was faster.
func TestPitfall72_CancelledOpening(t *testing.T) {
	p := pairtest.New(t)
	r := p.Prepare(p.Offer(), script.Taproot)
	id := r.Terms.ID()
	_, err := p.Payer.Cancel(t.Context(), id) // nothing has left: that is for Abandon
	wantErr(t, err, channel.ErrFinalized)
	_, err = p.Payer.Opening(t.Context(), id)
	wantNil(t, err)

	p.PayerDisk.FailNext(store.ErrFull)
	_, err = p.Payer.Cancel(t.Context(), id)
	wantErr(t, err, store.ErrFull)
	for range 2 {
		t1, err := p.Payer.Cancel(t.Context(), id)
		wantNil(t, err)
		if t1 != r.Terms.Outpoint.Hash {
			t.Fatalf("T1 is %s", t1)
		}
		p.RestartPayer()
	}
	refused(t, p, id)
	_, err = p.Wallet.Cancel(t.Context(), r.Terms.Outpoint.Hash, script.FeeRatePerVB(5))
	wantNil(t, err)
	p.Mine(6)
	wantNil(t, p.StepPayer())
	if got := record(t, p, id); got.Phase != channel.Funding {
		t.Fatalf("at depth 6: %s", got.Phase)
	}
	p.Mine(1)
	wantNil(t, p.StepPayer())
	if got := record(t, p, id); got.Phase != channel.Abandoned || got.FundingSent {
		t.Fatalf("%+v", got)
	}
	refused(t, p, id)
}

func refused(t *testing.T, p *pairtest.Pair, id string) {
	t.Helper()
	sent := len(p.Chain.Sent())
	_, err := p.Payer.Opening(t.Context(), id)
	wantErr(t, err, channel.ErrFinalized)
	wantErr(t, p.Payer.Publish(t.Context(), id), channel.ErrFinalized)
	wantErr(t, p.Payer.Accepted(t.Context(), id), channel.ErrFinalized)
	wantErr(t, record(t, p, id).CanBuy(1000), channel.ErrFinalized)
	wantNil(t, p.StepPayer())
	if len(p.Chain.Sent()) != sent {
		t.Fatal("T1 left")
	}
}

// The payee was faster: the channel lives, and its refund brings everything back.
func TestCancelledTooLate(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	id := p.Prepare(o, script.Taproot).Terms.ID()
	op, err := p.Payer.Opening(t.Context(), id)
	wantNil(t, err)
	_, err = p.Payer.Cancel(t.Context(), id)
	wantNil(t, err)
	_, err = p.Payee.Open(t.Context(), o, op) // it held the opening, and uses it after all
	wantNil(t, err)
	_, err = p.Payer.Cancel(t.Context(), id)
	wantErr(t, err, channel.ErrFinalized)
	p.Mine(1)
	wantNil(t, p.StepPayer())
	got, err := p.Payer.Opening(t.Context(), id)
	wantNil(t, err)
	if got.Outpoint != op.Outpoint || got.Update.Signature.String() != op.Update.Signature.String() {
		t.Fatal("another opening than before")
	}
	wantNil(t, p.Payer.Accepted(t.Context(), id))
	p.Mine(60)
	wantNil(t, p.StepPayer())
	p.Mine(7)
	wantNil(t, p.StepPayer())
	if r := record(t, p, id); r.Phase != channel.Refunded {
		t.Fatalf("%+v", r)
	}
}
