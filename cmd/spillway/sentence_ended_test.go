package main

import (
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
)

// TestSentenceSaysWhatWasMined: a channel that is over says what came of it.
func TestSentenceSaysWhatWasMined(t *testing.T) {
	sat := func(n uint64) *uint64 { return &n }
	for _, c := range []struct {
		row  row
		want string
	}{
		{row{Role: "payee", Phase: "closed", Paid: 700, Settled: sat(700)}, "700 sat were paid"},
		{row{Role: "payee", Phase: "closed", Paid: 700}, "700 sat were paid"},
		{row{Role: "payee", Phase: "closed", Paid: 700, Settled: sat(500)}, "200 sat of them are lost"},
		{row{Role: "payee", Phase: "closed", Paid: 700, Settled: sat(900)}, "paid 900 sat, more than the 700 sat"},
		{row{Role: "payer", Phase: "closed", Paid: 700, Settled: sat(500)}, "settled 500 sat of the 700 sat that were signed"},
		{row{Role: "payee", Phase: "refunded", Paid: 700, Settled: sat(0), Closing: "abcd"}, "refund (abcd) is buried; 700 sat that were paid were not settled"},
		{row{Role: "payee", Phase: "refunded", Settled: sat(0)}, "nothing had been paid"},
		{row{Role: "payer", Phase: "refunded", Capacity: 5000, Paid: 700, Settled: sat(0), Closing: "abcd"}, "refund (abcd) is buried and final; all 5000 sat came back"},
	} {
		if said := c.row.sentence(); !strings.Contains(said, c.want) {
			t.Errorf("%q is not in %q", c.want, said)
		}
	}
}

// TestEarningsNameWhatWasLost: what ended in a refund is not earned, wherever it is
// summed up; what was charged last is what was lost.
func TestEarningsNameWhatWasLost(t *testing.T) {
	live := channel.PayeeRecord{Phase: channel.Open, Paid: 7, Charged: 9000}
	live.Terms.Outpoint.Index = 1
	none, some := uint64(0), uint64(3)
	gone := channel.PayeeRecord{Phase: channel.Refunded, Paid: 7, Charged: 9000, Got: &none}
	gone.Terms.Outpoint.Index = 2
	less := channel.PayeeRecord{Phase: channel.Closed, Paid: 7, Charged: 7000, Got: &some}
	less.Terms.Outpoint.Index = 3
	records := []channel.PayeeRecord{live, gone, less}
	all := []payee.Earned{
		{Day: "2026-01-01", Channel: live.Terms.ID(), Resource: "a", Msat: 9000},
		{Day: "2026-01-01", Channel: gone.Terms.ID(), Resource: "a", Msat: 9000},
		{Day: "2026-01-01", Channel: less.Terms.ID(), Resource: "a", Msat: 5000},
		{Day: "2026-01-02", Channel: less.Terms.ID(), Resource: "b", Msat: 2000},
	}
	e := earningsOf(all, records, "day", "")
	if e.Msat != 25_000 || e.Lost != 13_000 || e.Paid != 10 || e.Owed != 2000 {
		t.Errorf("%+v", e)
	}
	if e.Lines[0].Lost != 11_000 || e.Lines[1].Lost != 2000 {
		t.Errorf("by day: %+v", e.Lines)
	}
	for _, l := range earningsOf(all, records, "channel", "").Lines {
		want := map[string]uint64{live.Terms.ID(): 0, gone.Terms.ID(): 9000, less.Terms.ID(): 4000}[l.Channel]
		if l.Lost != want {
			t.Errorf("%+v, want %d msat lost", l, want)
		}
	}
	if s := standingOf(records); s.earned != 7000+2000+3000 {
		t.Errorf("the live view says %d msat", s.earned)
	}
}
