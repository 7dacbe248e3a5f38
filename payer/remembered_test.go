package payer_test

import (
	"context"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// reading counts the reads of a store.
type reading struct {
	*pairtest.Disk
	n int
}

func (r *reading) Get(ctx context.Context, bucket, key string) (store.Entry, error) {
	r.n++
	return r.Disk.Get(ctx, bucket, key)
}

// Whoever pays again and again reads its record once. Where another process has paid in
// between, what is stored decides: nothing is signed twice, and nothing is lost.
func TestPaidWithoutReading(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	disk := &reading{Disk: p.PayerDisk}
	one, other := on(t, p, disk), on(t, p, p.PayerDisk)
	pay := func(by *payer.Payer, msat uint64) channel.Update {
		t.Helper()
		u, err := by.Pay(t.Context(), id, payer.Payment{Verified: msat}, channel.Limits{Budget: channel.MaxSat})
		wantNil(t, err)
		wantNil(t, verify(t, p, id, u))
		return u
	}
	before := pay(one, 1_000_000).Amount
	disk.n = 0
	for i := range uint64(5) {
		if u := pay(one, 1_000_000); u.Amount != before+(i+1)*1000 {
			t.Fatalf("%d sat were signed after %d", u.Amount, before)
		}
	}
	if disk.n != 0 {
		t.Errorf("the record was read %d times", disk.n)
	}
	theirs := pay(other, 7_000_000)
	if u := pay(one, 1_000_000); u.Amount != theirs.Amount+1000 || disk.n == 0 {
		t.Errorf("%d sat were signed after another process's %d, with %d reads", u.Amount, theirs.Amount, disk.n)
	}
	// a limit that only what is remembered would keep, or only what is stored
	last := pay(other, 1_000_000)
	if _, err := one.Pay(t.Context(), id, payer.Payment{Verified: 1_000_000}, channel.Limits{Budget: last.Amount}); err == nil {
		t.Error("more than the budget was signed")
	}
	r, err := other.Record(t.Context(), id)
	wantNil(t, err)
	if r.Signed != last.Amount {
		t.Errorf("%d sat are signed by the record, %d by the newest update", r.Signed, last.Amount)
	}
}
