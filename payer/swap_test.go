package payer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/watch"
)

// between lets something happen right after a commit, before whoever committed
// gets to do anything else.
type between struct {
	*pairtest.Disk
	then func()
}

func (b *between) Commit(ctx context.Context, ops ...store.Op) error {
	err := b.Disk.Commit(ctx, ops...)
	if then := b.then; err == nil && then != nil {
		b.then = nil
		then()
	}
	return err
}

// on makes another payer's process on the pair's folder, over this store.
func on(t *testing.T, p *pairtest.Pair, s payer.Store) *payer.Payer {
	t.Helper()
	other, err := payer.New(payer.Config{
		Store: s, Keys: p.PayerKeys, Wallet: p.Wallet, Chain: p.Chain, Network: "regtest", Policy: p.Policy, Rand: noDice{},
	})
	wantNil(t, err)
	return other
}

type noDice struct{}

func (noDice) Read([]byte) (int, error) { return 0, errors.New("no randomness is needed here") }

// A watch that saves twice in one turn does not take back what another process on
// the folder saved in between: what that one counted as spent stays spent.
func TestSecondSaveOfATurnKeepsWhatAnotherProcessSaved(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	rec, err := p.Payer.Record(t.Context(), id)
	wantNil(t, err)
	for tip, err := p.Chain.Tip(t.Context()); tip.Height < rec.Terms.Expiry; tip, err = p.Chain.Tip(t.Context()) {
		wantNil(t, err)
		p.Mine(1)
	}
	forgotten := p.Update(id, 3000)
	s := &between{Disk: p.PayerDisk, then: func() { wantNil(t, p.Payer.Resumed(t.Context(), id, forgotten)) }}
	err = (&watch.Watch{Chain: p.Chain, Drivers: []watch.Driver{on(t, p, s)}}).Step(t.Context())
	if err != nil && !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	if rec, err = p.Payer.Record(t.Context(), id); err != nil || rec.Signed != 3000 {
		t.Fatalf("signed %d sat, 3000 sat were saved as spent (%v)", rec.Signed, err)
	}
	wantNil(t, p.StepPayer())
	if rec, err = p.Payer.Record(t.Context(), id); err != nil || rec.Refund == nil || rec.Signed != 3000 {
		t.Fatalf("%+v %v", rec, err)
	}
}

// What is saved is a success, also where the caller goes away right after.
func TestSavedIsASuccess(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	ctx, cancel := context.WithCancel(t.Context())
	s := &between{Disk: p.PayerDisk, then: cancel}
	u, err := on(t, p, s).Pay(ctx, id, payer.Payment{Verified: 2_000_000}, channel.Limits{Budget: 5000})
	if err != nil || u.Amount != 2000 || ctx.Err() == nil {
		t.Fatalf("%d sat, %v", u.Amount, err)
	}
}
