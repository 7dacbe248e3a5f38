package payee_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// A restored store begins an epoch of challenges that it had not before, and its
// channels are marked; a second restore goes on from there. Pitfall 62.
func TestPitfall62_RestoredStore(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	now, before, err := payee.Epochs(t.Context(), p.PayeeDisk)
	if err != nil || now != 0 || len(before) != 0 {
		t.Fatalf("a store that was never restored: %d after %v, %v", now, before, err)
	}
	wantNil(t, payee.Restored(t.Context(), p.PayeeDisk, 7))
	wantNil(t, payee.Restored(t.Context(), p.PayeeDisk, 5))
	for _, bad := range []uint32{0, 5, 7, 1 << 31} {
		wantErr(t, payee.Restored(t.Context(), p.PayeeDisk, bad), payee.ErrEpoch)
	}
	if now, before, err = payee.Epochs(t.Context(), p.PayeeDisk); err != nil || now != 5 || !slices.Equal(before, []uint32{0, 7}) {
		t.Fatalf("epoch %d after %v, %v", now, before, err)
	}
	p.RestartPayee()
	if r, err := p.Payee.Record(t.Context(), id); err != nil || !r.Restored || r.Charged < r.Paid*1000 {
		t.Fatalf("%+v, %v", r, err)
	}
	_, err = p.Buy(id, 1)
	wantErr(t, err, channel.ErrExpiring)
	for _, bad := range []string{"", "{", "[]", `[1,"x"]`} {
		wantNil(t, p.PayeeDisk.Commit(t.Context(), store.Op{Bucket: "payee/meta", Key: "epochs", Value: []byte(bad), Expect: store.Any}))
		_, _, err := payee.Epochs(t.Context(), p.PayeeDisk)
		wantErr(t, err, store.ErrDamaged)
		wantErr(t, payee.Restored(t.Context(), p.PayeeDisk, 9), store.ErrDamaged)
	}
}

// A channel that the backup did not know is taken again, for updates and settlement
// only: its newest payment is not lost, and nothing is delivered, reversed or closed
// together on it. Pitfalls 26 and 62.
func TestPitfall26_ForgottenChannel(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.Duplex} {
		t.Run(string(kind), func(t *testing.T) {
			p := pairtest.New(t)
			p.Kinds = []script.Construction{script.Taproot, script.Multisig, script.Duplex}
			p.RestartPayee()
			old := snapshot(t, p)
			o := p.Offer()
			r := p.Prepare(o, kind)
			if kind == script.Multisig {
				p.SignRefund(o, r)
			}
			id := r.Terms.ID()
			op, err := p.Payer.Opening(t.Context(), id)
			wantNil(t, err)
			_, err = p.Payee.Open(t.Context(), o, op)
			wantNil(t, err)
			wantNil(t, p.Payer.Accepted(t.Context(), id))
			p.Mine(1)
			_, err = p.Buy(id, 0)
			wantNil(t, err)
			old(t)
			_, err = p.Buy(id)
			wantErr(t, err, payee.ErrUnknown)

			got, err := p.Payee.OpenRestored(t.Context(), o, op)
			wantNil(t, err)
			if !got.Record.Restored || got.Record.Place || got.Repeat {
				t.Fatalf("taken as %+v", got.Record)
			}
			again, err := p.Payee.OpenRestored(t.Context(), o, op)
			if err != nil || !again.Repeat {
				t.Fatalf("once more: %+v, %v", again, err)
			}
			_, err = p.Buy(id, 1) // its update is taken
			wantErr(t, err, channel.ErrExpiring)
			rec, err := p.Payee.Record(t.Context(), id)
			wantNil(t, err)
			if rec.Paid != 1000 {
				t.Fatalf("paid %d sat", rec.Paid)
			}
			if kind != script.Multisig {
				c, err := p.Payer.BeginClose(t.Context(), id)
				wantNil(t, err)
				_, err = p.Payee.Close(t.Context(), id, channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]})
				if !errors.Is(err, channel.ErrExpiring) && !errors.Is(err, channel.ErrOwes) {
					t.Fatalf("a close together: %v", err)
				}
			}
			p.Mine(int(rec.Terms.Expiry - rec.Terms.Margin - o.Tip))
			wantNil(t, p.StepPayee())
			if rec, err = p.Payee.Record(t.Context(), id); err != nil || rec.Phase != channel.Settling || rec.Settlement.Amount != 1000 {
				t.Fatalf("phase %s, %+v, %v", rec.Phase, rec.Settlement, err)
			}
		})
	}
}

// What is too late to be settled is not taken, and an opening is held to all else.
func TestForgottenChannelRefused(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	r := p.Prepare(o, script.Taproot)
	op, err := p.Payer.Opening(t.Context(), r.Terms.ID())
	wantNil(t, err)
	bad := op
	bad.Capacity++
	_, err = p.Payee.OpenRestored(t.Context(), o, bad)
	wantErr(t, err, channel.ErrSignature)
	p.Mine(int(o.Expiry - o.Tip))
	sent := len(p.Chain.Sent())
	_, err = p.Payee.OpenRestored(t.Context(), o, op)
	wantErr(t, err, channel.ErrTerms)
	if len(p.Chain.Sent()) != sent {
		t.Error("its funding was broadcast")
	}
}

// snapshot keeps the payee's disk; the function that comes back restores it.
func snapshot(t *testing.T, p *pairtest.Pair) func(*testing.T) {
	t.Helper()
	buckets := []string{"payee/channel", "payee/key", "payee/pool", "payee/charged", "payee/meta"}
	read := func() map[string]map[string][]byte {
		all := map[string]map[string][]byte{}
		for _, b := range buckets {
			entries, err := p.PayeeDisk.List(t.Context(), b, "")
			wantNil(t, err)
			all[b] = map[string][]byte{}
			for _, e := range entries {
				all[b][e.Key] = e.Value
			}
		}
		return all
	}
	old := read()
	return func(t *testing.T) {
		t.Helper()
		var ops []store.Op
		for b, keys := range read() {
			for k := range keys {
				ops = append(ops, store.Op{Bucket: b, Key: k, Value: old[b][k], Expect: store.Any})
			}
		}
		wantNil(t, p.PayeeDisk.Commit(t.Context(), ops...))
		wantNil(t, payee.Restored(t.Context(), p.PayeeDisk, 3))
		p.RestartPayee()
	}
}
