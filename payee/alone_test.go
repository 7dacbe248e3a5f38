package payee_test

import (
	"context"
	"errors"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// moody counts the questions for channels, and fails commits where it is told to.
type moody struct {
	payee.Store
	asked int
	fail  error
	saves bool // what fails is saved all the same
}

func (m *moody) Get(ctx context.Context, bucket, key string) (store.Entry, error) {
	if bucket == "payee/channel" {
		m.asked++
	}
	return m.Store.Get(ctx, bucket, key)
}

func (m *moody) Commit(ctx context.Context, ops ...store.Op) error {
	if m.fail == nil {
		return m.Store.Commit(ctx, ops...)
	}
	if m.saves {
		return errors.Join(m.fail, m.Store.Commit(ctx, ops...))
	}
	return m.fail
}

// A driver that is alone asks for a channel's record once; after a save that failed it
// asks again, whatever became of that save; and what another has written after all is
// a conflict that charges nothing.
func TestAlone(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	disk := &moody{Store: p.PayeeDisk}
	open := func() *payee.Payee {
		drv, err := payee.New(payee.Config{
			Store: disk, Keys: p.PayeeKeys, Chain: p.Chain, Network: "regtest", Payout: p.Payout, Policy: p.Policy,
			Dearest: func() uint64 { return price }, Now: p.Now, Rand: noDice{}, Alone: true,
		})
		wantNil(t, err)
		return drv
	}
	other := p.Payee
	p.Payee = open()
	for chunk := range uint64(4) {
		_, err := p.Buy(id, chunk)
		wantNil(t, err)
	}
	if disk.asked != 1 {
		t.Fatalf("the record was asked for %d times", disk.asked)
	}
	charged := func() uint64 {
		r, err := p.Payee.Record(t.Context(), id)
		wantNil(t, err)
		stored, err := open().Record(t.Context(), id)
		wantNil(t, err)
		if r.Charged != stored.Charged || r.Paid != stored.Paid {
			t.Fatalf("charged %d msat, the store says %d msat", r.Charged, stored.Charged)
		}
		return r.Charged
	}
	before, broken := charged(), errors.New("broken")
	for _, disk.saves = range []bool{false, true} {
		disk.fail = broken
		_, err := p.Buy(id, 4)
		wantErr(t, err, broken)
		disk.fail = nil
		if now := charged(); (now > before) != disk.saves {
			t.Fatalf("charged %d msat after %d msat", now, before)
		}
	}
	_, err := p.Payer.Pay(t.Context(), id, payer.Payment{Verified: price}, channel.Limits{Budget: channel.MaxSat}) // it arrives after all
	wantNil(t, err)
	before = charged()
	mine := p.Payee
	p.Payee = other
	_, err = p.Buy(id, 5)
	wantNil(t, err)
	p.Payee = mine
	_, err = p.Buy(id, 6)
	wantErr(t, err, store.ErrConflict)
	if now := charged(); now != before+price {
		t.Fatalf("charged %d msat after %d msat", now, before)
	}
	_, err = p.Buy(id, 6)
	wantNil(t, err)
}
