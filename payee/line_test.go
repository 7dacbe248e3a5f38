package payee_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
)

// However a line's units are divided into charges, and whatever is repeated or
// restarted between, it costs ceil(units · price / per) in all.
func TestLineCostsItsCumulativeUnits(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	lines := byte(0)
	sum := uint64(0)
	rapid.Check(t, func(r *rapid.T) {
		lines++
		l := payee.Line{Resource: [32]byte{lines, 1}, Price: rapid.Uint64Range(1, 5000).Draw(r, "price"), Per: rapid.Uint64Range(1, 100).Draw(r, "per")}
		units := uint64(0)
		for range rapid.IntRange(1, 6).Draw(r, "charges") {
			l.Units = rapid.Uint64Range(0, 200).Draw(r, "units")
			if rapid.Bool().Draw(r, "restart") {
				p.RestartPayee()
			}
			before := (units*l.Price + l.Per - 1) / l.Per
			units = max(units, l.Units)
			after := (units*l.Price + l.Per - 1) / l.Per
			u, err := p.Payer.Newest(t.Context(), id)
			if err != nil {
				r.Fatal(err)
			}
			got, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u, Line: &l, Credit: 1e6})
			if err != nil {
				r.Fatal(err)
			}
			sum += after - before
			if got.Fresh != after-before || got.Line != after || got.Charged != sum {
				r.Fatalf("charged %d, the line %d, the channel %d msat; want %d, %d, %d", got.Fresh, got.Line, got.Charged, after-before, after, sum)
			}
			if _, err = p.Payer.Pay(t.Context(), id, payer.Payment{Verified: got.Fresh}, channel.Limits{Budget: channel.MaxSat}); err != nil {
				r.Fatal(err)
			}
		}
	})
}

// A line that began too long ago counts as none, and a try changes nothing.
func TestLineEndsAndTries(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	u, err := p.Payer.Newest(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	l := payee.Line{Resource: [32]byte{1}, Units: 1, Price: 1000, Per: 1}
	q := payee.Request{Channel: id, Update: &u, Line: &l, Try: true}
	commits := len(p.PayeeDisk.Commits())
	got, err := p.Payee.Pay(t.Context(), q)
	if err != nil || got.Fresh != 1000 || got.Charged != 1000 || len(p.PayeeDisk.Commits()) != commits {
		t.Fatalf("a try: %+v, %v, %d commits", got, err, len(p.PayeeDisk.Commits())-commits)
	}
	q.Reserved = p.Credit - 1000 // by others: it counts for whether this is served, and is not charged
	if got, err := p.Payee.Pay(t.Context(), q); err != nil || got.Fresh != 1000 || got.Charged != 1000 || got.Required != 1 {
		t.Fatalf("a try beside others: %+v, %v", got, err)
	}
	q.Reserved = p.Credit - 999
	if _, err := p.Payee.Pay(t.Context(), q); !errors.Is(err, channel.ErrInsufficient) {
		t.Fatalf("with what is reserved: %v", err)
	}
	q.Try = false
	for want := uint64(1000); want <= 2000; want += 1000 {
		for range 2 {
			if got, err = p.Payee.Pay(t.Context(), q); err != nil || got.Charged != want || got.Line != 1000 {
				t.Fatalf("%+v, %v; want %d msat charged", got, err, want)
			}
		}
		p.Wait(time.Hour)
		l.Since = p.Now().Unix() - 60
	}
	l.Units, l.Price, l.Per = 1<<60, 1<<60, 1
	if _, err := p.Payee.Pay(t.Context(), q); !errors.Is(err, channel.ErrOverflow) {
		t.Fatalf("a price without end: %v", err)
	}
}

// What counts as none is forgotten while the channel goes on.
func TestOldLinesAreForgotten(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	for i := range uint16(600) {
		p.Wait(time.Minute)
		l := payee.Line{Resource: [32]byte{byte(i), byte(i >> 8), 9}, Units: 1, Price: 10, Per: 1, Since: p.Now().Unix() - 600}
		if _, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Line: &l, Credit: 1e6}); err != nil {
			t.Fatal(err)
		}
	}
	left, err := p.PayeeDisk.List(t.Context(), "payee/line", id)
	if err != nil || len(left) > 300 {
		t.Fatalf("%d lines are kept, %v", len(left), err)
	}
}
