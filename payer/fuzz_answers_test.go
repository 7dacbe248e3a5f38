package payer_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// FuzzPayeeAnswers gives a payer a refund's signature, a settlement and an update in
// any bytes: it takes the true ones, and with any bit of them changed it takes
// nothing, saves nothing and sends nothing.
func FuzzPayeeAnswers(f *testing.F) {
	p := pairtest.New(f)
	ctx := context.Background()
	must := func(err error) {
		f.Helper()
		if err != nil {
			f.Fatal(err)
		}
	}
	id := p.Open(script.Multisig)
	_, err := p.Payer.Pay(ctx, id, payer.Payment{Verified: 5_000_000}, channel.Limits{Budget: channel.MaxSat})
	must(err)
	u, err := p.Payer.Newest(ctx, id)
	must(err)
	o := p.Offer()
	waiting := p.Prepare(o, script.Multisig)
	request, err := p.Payer.RefundRequest(ctx, waiting.Terms.ID())
	must(err)
	sig, err := p.Payee.Prepare(ctx, o, pairtest.Terms(waiting), request)
	must(err)
	b, err := p.Payee.Settle(ctx, id, &u, true)
	must(err)
	first, err := json.Marshal(u)
	must(err)
	truth := [][]byte{sig, b.Tx, first}
	saved := map[string][]byte{}
	for _, key := range []string{id, waiting.Terms.ID()} {
		e, err := p.PayerDisk.Get(ctx, "payer/channel", key)
		must(err)
		saved[key] = e.Value
	}
	for i := range truth {
		f.Add(byte(i), []byte{}, uint16(0), byte(0))
		f.Add(byte(i), []byte{}, uint16(20), byte(1))
		f.Add(byte(i), []byte{}, uint16(100), byte(0x80))
		f.Add(byte(i), []byte{0x30}, uint16(0), byte(0))
	}
	f.Fuzz(func(t *testing.T, which byte, raw []byte, at uint16, flip byte) {
		kind := int(which) % len(truth)
		honest := len(raw) == 0 && flip == 0 || string(raw) == string(truth[kind])
		if len(raw) == 0 {
			raw = append(raw, truth[kind]...)
			raw[int(at)%len(raw)] ^= flip
		}
		n, sent := len(p.PayerDisk.Commits()), len(p.Chain.Sent())
		var err error
		switch kind {
		case 0:
			err = p.Payer.TakeRefundSignature(ctx, waiting.Terms.ID(), raw)
		case 1:
			_, err = p.Payer.TakeSettlement(ctx, id, raw)
		default:
			var got channel.Update
			if json.Unmarshal(raw, &got) != nil {
				return
			}
			err = p.Payer.Resumed(ctx, id, got)
			honest = got.Amount <= u.Amount // what is not above what it knows has no effect
		}
		if honest != (err == nil) {
			t.Fatalf("%d: %x: honest %t, %v", kind, raw, honest, err)
		}
		if !honest && (len(p.PayerDisk.Commits()) != n || len(p.Chain.Sent()) != sent) {
			t.Fatalf("%d: %x was refused with %v, and something was saved or sent", kind, raw, err)
		}
		for key, value := range saved {
			if err := p.PayerDisk.Store.Commit(ctx, store.Op{Bucket: "payer/channel", Key: key, Value: value, Expect: store.Any}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
