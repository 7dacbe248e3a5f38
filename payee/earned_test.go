package payee_test

import (
	"testing"
	"time"

	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// What is earned is what was charged, to the msat, by day, channel and file: a chunk
// that was charged before adds nothing, nor does a refusal.
func TestEarningsAreWhatWasCharged(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	u := p.Update(id, 10_000)
	if _, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u}); err != nil {
		t.Fatal(err)
	}
	charge := func(name string, items ...payee.Item) payee.Receipt {
		got, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Items: items, Credit: p.Credit, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	other := pairtest.Item(0)
	other.Resource[0]++
	charge("a.bin", pairtest.Item(0), pairtest.Item(1))
	charge("a.bin", pairtest.Item(1), pairtest.Item(2))
	charge("a.bin", pairtest.Item(2))
	last := charge("b.bin", other)
	if _, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Items: []payee.Item{{Resource: other.Resource, Chunk: 9, Price: 9_000_000}}, Credit: p.Credit}); err == nil {
		t.Fatal("a chunk beyond what is paid was charged")
	}
	all, err := payee.Earnings(t.Context(), p.PayeeDisk, "")
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	sum := uint64(0)
	for _, e := range all {
		sum += e.Msat
		if _, err := time.Parse("2006-01-02", e.Day); err != nil || e.Channel != id {
			t.Errorf("%+v: %v", e, err)
		}
		if want := map[string]uint64{"a.bin": 3, "b.bin": 1}[e.Name]; e.Chunks != want {
			t.Errorf("%s: %d chunks, want %d", e.Name, e.Chunks, want)
		}
	}
	if sum != last.Charged {
		t.Errorf("%d msat earned, %d msat charged", sum, last.Charged)
	}
	for _, commit := range p.PayeeDisk.Commits() {
		earned, charged := 0, 0
		for _, op := range commit {
			switch op.Bucket {
			case "payee/earned":
				earned++
			case "payee/charged":
				charged++
			}
		}
		if earned != charged {
			t.Errorf("a commit with %d earnings and %d charges", earned, charged)
		}
	}
	if none, err := payee.Earnings(t.Context(), p.PayeeDisk, "9999-01-01"); err != nil || len(none) != 0 {
		t.Errorf("since the end of days: %v, %v", none, err)
	}
}
