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
