package payee_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// FuzzStored puts any bytes in the place of what a payee saved, and then asks it for
// everything: nothing is released for a record that was damaged, what it cannot read
// it does not overwrite, and no amount falls.
func FuzzStored(f *testing.F) {
	p := pairtest.New(f)
	id := p.Open(script.Taproot)
	u := p.Update(id, 5000)
	ctx := context.Background()
	if _, err := p.Payee.Pay(ctx, payee.Request{Channel: id, Update: &u, Items: []payee.Item{pairtest.Item(0)}, Credit: p.Credit}); err != nil {
		f.Fatal(err)
	}
	saved := map[string][]byte{}
	places := [][2]string{{"payee/channel", id}, {"payee/pool", "pool"}}
	pages, err := p.PayeeDisk.List(ctx, "payee/charged", "")
	if err != nil || len(pages) != 1 {
		f.Fatalf("%d pages, %v", len(pages), err)
	}
	places = append(places, [2]string{"payee/charged", pages[0].Key})
	for i, at := range places {
		e, err := p.PayeeDisk.Get(ctx, at[0], at[1])
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			f.Fatal(err)
		}
		saved[at[0]] = e.Value
		f.Add(byte(i), []byte{}, uint16(0), byte(0))
		f.Add(byte(i), []byte{}, uint16(100), byte(1))
		f.Add(byte(i), []byte("{}"), uint16(0), byte(0))
		f.Add(byte(i), []byte(`{"places":{"x":{"owed":18446744073709551615}}}`), uint16(0), byte(0))
	}
	newest := p.Update(id, 7000)
	f.Fuzz(func(t *testing.T, which byte, raw []byte, at uint16, flip byte) {
		where := places[int(which)%len(places)]
		if len(raw) == 0 {
			raw = append(raw, saved[where[0]]...)
			if len(raw) > 0 {
				raw[int(at)%len(raw)] ^= flip
			}
		}
		put := func(bucket, key string, value []byte) {
			if err := p.PayeeDisk.Store.Commit(ctx, store.Op{Bucket: bucket, Key: key, Value: value, Expect: store.Any}); err != nil {
				t.Fatal(err)
			}
		}
		put(where[0], where[1], raw)
		defer func() {
			for _, at := range places {
				put(at[0], at[1], saved[at[0]])
			}
		}()
		var record channel.PayeeRecord
		broken := where[0] == "payee/channel" && json.Unmarshal(raw, &record) != nil
		n := len(p.PayeeDisk.Commits())
		before, berr := p.Payee.Record(ctx, id)
		_, err := p.Payee.Pay(ctx, payee.Request{Channel: id, Update: &newest, Items: []payee.Item{pairtest.Item(1)}, Credit: p.Credit})
		_, serr := p.Payee.Status(ctx, id)
		_, rerr := p.Payee.Resume(ctx, id)
		_, _ = p.Payee.Charged(ctx, id, []payee.Item{pairtest.Item(0)})
		if broken && !(errors.Is(err, store.ErrDamaged) && errors.Is(serr, store.ErrDamaged) && errors.Is(rerr, store.ErrDamaged) && errors.Is(berr, store.ErrDamaged)) {
			t.Fatalf("%q: %v, %v, %v, %v", raw, err, serr, rerr, berr)
		}
		if commits := p.PayeeDisk.Commits()[n:]; broken && len(commits) > 0 {
			t.Fatalf("%q: overwritten by %v", raw, commits)
		}
		if after, aerr := p.Payee.Record(ctx, id); berr == nil && aerr == nil && (after.Paid < before.Paid || after.Charged < before.Charged) {
			t.Fatalf("%q: paid %d after %d, charged %d after %d", raw, after.Paid, before.Paid, after.Charged, before.Charged)
		}
		if _, err := p.Payee.Records(ctx); broken != (err != nil) {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}
