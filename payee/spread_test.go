package payee_test

import (
	"errors"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/internal/spread"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// Records that are read several at once are those that are read one by one, and one that
// is damaged is told of beside the others.
func TestRecordsAreReadTogether(t *testing.T) {
	p := pairtest.New(t)
	for range 3 {
		p.Open(script.Taproot)
	}
	var read atomic.Int32
	together, err := payee.New(payee.Config{
		Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: p.Chain, Network: "regtest", Payout: p.Payout, Policy: p.Policy,
		Now: p.Now, Rand: noDice{},
		Spread: func(n int, do func(int)) { spread.All(n, func(i int) { read.Add(1); do(i) }) },
	})
	wantNil(t, err)
	want, err := p.Payee.Records(t.Context())
	wantNil(t, err)
	got, err := together.Records(t.Context())
	if err != nil || len(got) != 3 || !reflect.DeepEqual(got, want) || read.Load() != 3 {
		t.Fatalf("%d records, %d of them read together: %v", len(got), read.Load(), err)
	}
	wantNil(t, p.PayeeDisk.Commit(t.Context(), store.Op{Bucket: "payee/channel", Key: "0", Value: []byte("{"), Expect: 0}))
	if targets, err := together.Watched(t.Context()); len(targets) != 3 || !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%d channels are watched: %v", len(targets), err)
	}
	if _, err := together.Records(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a damaged record: %v", err)
	}
}
