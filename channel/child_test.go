package channel

import (
	"testing"

	"github.com/spillway/spillway/script"
)

// TestPitfall33_ChildOfThePayers: a replacement pays for a child that the payer hung on
// its rest, up to what is at stake; a child that pays well is no obstacle but help; one
// that is not seen is taken for 1,000 vB at the going rate, a block later.
func TestPitfall33_ChildOfThePayers(t *testing.T) {
	ch := terms().built(t)
	size := ch.SettlementVSize(int64(capacity-6000), payout)
	waits := func(fee, childFee, childSize int64) func(*View) {
		return func(v *View) {
			v.Spend = &SpendView{Txid: "settlement", Fee: fee, VSize: size, ChildFee: childFee, ChildVSize: childSize}
		}
	}
	before := func(r *PayeeRecord) {
		*r = r.Settles(Broadcast{Tx: Hex{1}, Txid: "newest", Rate: 3000, Amount: r.Paid, Height: 105})
	}
	for _, c := range []struct {
		name  string
		paid  uint64
		last  func(*PayeeRecord)
		view  View
		do    string
		least int64 // sat, the fee
	}{
		{"no child", 6000, func(*PayeeRecord) {}, at(105, waits(size, 0, 0)), "make-settlement", 2 * size},
		{"a cheap child", 6000, func(*PayeeRecord) {}, at(105, waits(size, 1000, 1000)), "make-settlement", 2*size + 1000},
		{"a child dearer than what is at stake", 6000, func(*PayeeRecord) {}, at(105, waits(size, 50_000, 50_000)), "", 0},
		{"nothing more was paid, the rate is high enough", 5000, func(*PayeeRecord) {}, at(105, waits(size, 1000, 1000)), "", 0},
		{"the going rate rose, the child is cheap", 5000, func(*PayeeRecord) {}, at(105, waits(size, 1000, 1000), rate(2000)), "make-settlement", 2*size + 1000},
		{"the going rate rose, the child pays it", 5000, func(*PayeeRecord) {}, at(105, waits(size, 4000, 1000), rate(2000)), "", 0},
		{"not in its place, in the same block", 5000, before, at(105, waits(size, 0, 0)), "send", 0},
		{"not in its place a block later: there is a child that is not seen", 5000, before, at(106, waits(size, 0, 0), rate(2000)), "make-settlement", 2*size + 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(paid(c.paid), settlement(1000, 5000, 105), func(r *PayeeRecord) { r.Phase = Settling })
			c.last(&r)
			next, actions := r.Due(ch, payout, c.view, policy())
			if kinds(actions) != c.do {
				t.Fatalf("%q, want %q", kinds(actions), c.do)
			}
			if c.least == 0 {
				return
			}
			if fee := actions[0].Rate.Fee(size); fee < c.least || fee > c.least+size/50+10 {
				t.Fatalf("a fee of %d sat, want %d", fee, c.least)
			}
			next = next.Settles(Broadcast{Tx: Hex{2}, Txid: "made", Rate: int64(actions[0].Rate), Amount: next.Paid, Height: c.view.Tip})
			if _, again := next.Due(ch, payout, c.view, policy()); kinds(again) != "send" {
				t.Fatalf("asked again: %q", kinds(again))
			}
		})
	}
}

// A batch is replaced with the children counted once, and left to a child that carries it.
func TestBatchWithAChild(t *testing.T) {
	seats := []Seat{seat(t, 0, 4000), seat(t, 1, 0)}
	batched(seats, 1000, &SpendView{Txid: "batch", Fee: 356, VSize: 356, ChildFee: 1000, ChildVSize: 1000})
	plan := Together(seats, payout)
	if len(plan) != 1 || plan[0].Rate.Fee(356) < 356+1000+356 {
		t.Fatalf("%+v", plan)
	}
	batched(seats, 1000, &SpendView{Txid: "batch", Fee: 356, VSize: 356, ChildFee: 9000, ChildVSize: 1000})
	if plan := Together(seats, payout); len(plan) > 0 {
		t.Fatalf("%+v", plan)
	}
	batched(seats, 1000, &SpendView{Txid: "batch", Fee: 356, VSize: 356})
	seats[0].Rate = 0
	for i := range seats { // a replacement was made, and a block later it is not there
		seats[i].Record = seats[i].Record.Settles(Broadcast{Tx: Hex{3}, Txid: "dearer", Rate: 2000, Amount: 20_000, Height: lastBlock, Batch: seats[i].Record.Settlement.Batch})
	}
	if plan := Together(seats, payout); len(plan) != 1 || plan[0].Rate.Fee(356) < 356+1000+356 {
		t.Fatalf("%+v", plan)
	}
}

func rate(r script.FeeRate) func(*View) { return func(v *View) { v.Rate = r } }
