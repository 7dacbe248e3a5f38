package payer_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// FuzzStored puts any bytes in the place of what a payer saved, and then has it pay,
// close and take answers: it signs nothing for a record that was damaged, does not
// overwrite what it cannot read, and never signs for less or for more than it may.
func FuzzStored(f *testing.F) {
	p := pairtest.New(f)
	id := p.Open(script.Taproot)
	ctx := context.Background()
	if _, err := p.Payer.Pay(ctx, id, payer.Payment{Verified: pairtest.Price}, channel.Limits{Budget: channel.MaxSat}); err != nil {
		f.Fatal(err)
	}
	e, err := p.PayerDisk.Get(ctx, "payer/channel", id)
	if err != nil {
		f.Fatal(err)
	}
	good := e.Value
	var whole channel.PayerRecord
	if err := json.Unmarshal(good, &whole); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, uint16(0), byte(0), uint64(2000))
	f.Add([]byte{}, uint16(300), byte(1), uint64(1))
	f.Add([]byte("null"), uint16(0), byte(0), uint64(0))
	f.Add([]byte(`{"phase":"open","signed":9}`), uint16(0), byte(0), uint64(1)<<63)
	f.Fuzz(func(t *testing.T, raw []byte, at uint16, flip byte, price uint64) {
		if len(raw) == 0 {
			raw = append(raw, good...)
			raw[int(at)%len(raw)] ^= flip
		}
		put := func(value []byte) {
			if err := p.PayerDisk.Store.Commit(ctx, store.Op{Bucket: "payer/channel", Key: id, Value: value, Expect: store.Any}); err != nil {
				t.Fatal(err)
			}
		}
		put(raw)
		defer put(good)
		var record channel.PayerRecord
		broken := json.Unmarshal(raw, &record) != nil
		n, sent := len(p.PayerDisk.Commits()), len(p.Chain.Sent())
		budget := record.Signed + 3000
		u, err := p.Payer.Pay(ctx, id, payer.Payment{Verified: price}, channel.Limits{Budget: budget})
		_, nerr := p.Payer.Newest(ctx, id)
		_, berr := p.Payer.BeginClose(ctx, id)
		rerr := p.Payer.Resumed(ctx, id, channel.Update{Amount: 49_000, Signature: make([]byte, 65)})
		if broken && !(errors.Is(err, store.ErrDamaged) && errors.Is(nerr, store.ErrDamaged) && errors.Is(berr, store.ErrDamaged) && errors.Is(rerr, store.ErrDamaged)) {
			t.Fatalf("%q: %v, %v, %v, %v", raw, err, nerr, berr, rerr)
		}
		if commits := p.PayerDisk.Commits()[n:]; broken && len(commits) > 0 || len(p.Chain.Sent()) != sent {
			t.Fatalf("%q: overwritten by %v", raw, commits)
		}
		same := reflect.DeepEqual(record.Terms, whole.Terms) // with others no right script can be built in a new process
		if err == nil && (u.Amount < record.Signed || u.Amount > max(budget, record.Signed) || same && record.Terms.CheckAmount(u.Amount) != nil) {
			t.Fatalf("%q: signed %d after %d, the budget is %d", raw, u.Amount, record.Signed, budget)
		}
		want := record.Signed
		if err == nil {
			want = max(want, u.Amount)
		}
		if after, aerr := p.Payer.Record(ctx, id); aerr == nil && after.Signed != want {
			t.Fatalf("%q: a forged update counts: signed %d", raw, after.Signed)
		}
	})
}
