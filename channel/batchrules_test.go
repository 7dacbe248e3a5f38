package channel

import (
	"bytes"
	"slices"
	"testing"

	"github.com/spillway/spillway/script"
)

// bothWays makes a seat's channel a duplex one that holds epoch 1, and has sent epoch 2
// where sent says so.
func bothWays(sat uint64, sent bool) func(*Seat) {
	return func(s *Seat) {
		at, id := s.Record.Terms.Outpoint, duplexTerms()
		s.Record.Terms = id
		s.Record.Terms.Outpoint = at
		s.Record.Duplex = &Duplex{Held: Update{Epoch: 1, Amount: sat, Signature: Hex{1}}}
		if sent {
			s.Record.Duplex.Sent = Update{Epoch: 2, Amount: capacity - sat, Signature: Hex{1}}
		}
	}
}

// Each condition of a first settlement of several channels, with a channel that fails just
// that one.
func TestWhoIsNotSettledTogether(t *testing.T) {
	v2unmined := func(s *Seat) { s.Record.Terms.TxVersion, s.View.Funding.Height = 2, 0 }
	going := func(r script.FeeRate) func(*Seat) { return func(s *Seat) { s.View.Rate = r } }
	coins := func(s *Seat) { s.Coins = true }
	own := func(b Broadcast) func(*Seat) { return func(s *Seat) { s.Record.Settlement = &b } }
	record := func(change func(*PayeeRecord)) func(*Seat) { return func(s *Seat) { change(&s.Record) } }
	for _, c := range []struct {
		name  string
		seats []Seat
		want  []string
	}{
		{"settled alone before, nothing is due", []Seat{seat(t, 0, 0, own(Broadcast{Txid: "own", Rate: 1000, Amount: 20_000})), seat(t, 1, 0, own(Broadcast{Txid: "own", Rate: 1000, Amount: 20_000, Batch: []string{"x"}}))}, nil},
		{"settled alone before, at the same rate", []Seat{seat(t, 0, 1000), seat(t, 1, 1000, own(Broadcast{Txid: "own", Rate: 500, Amount: 20_000}))}, []string{"[0] 1000", "[1] 1000"}},
		{"stopped", []Seat{seat(t, 0, 1000), seat(t, 1, 1000, record(func(r *PayeeRecord) { r.Stopped = "x" }))}, []string{"[0] 1000", "[1] 1000"}},
		{"closing", []Seat{seat(t, 0, 1000), seat(t, 1, 1000, record(func(r *PayeeRecord) { r.Phase = Closing }))}, []string{"[0] 1000", "[1] 1000"}},
		{"a close was agreed", []Seat{seat(t, 0, 1000), seat(t, 1, 1000, record(func(r *PayeeRecord) { r.Close = &PayeeClose{} }))}, []string{"[0] 1000", "[1] 1000"}},
		{"duplex at one lock", []Seat{seat(t, 0, 1000, bothWays(20_000, false)), seat(t, 1, 1000, bothWays(20_000, false))}, []string{"[0 1] 1000"}},
		{"duplex, whose payer holds a newer state that is valid", []Seat{seat(t, 0, 1000, bothWays(20_000, true)), seat(t, 1, 1000, bothWays(20_000, false))}, []string{"[0] 1000", "[1] 1000"}},
		{"duplex and one way", []Seat{seat(t, 0, 1000, bothWays(20_000, false)), seat(t, 1, 1000)}, []string{"[0] 1000", "[1] 1000"}},
		{"enough for itself, nothing is due", []Seat{seat(t, 0, 1000), seat(t, 1, 0)}, []string{"[0] 1000"}},
		{"too little for itself, and open", []Seat{seat(t, 0, 1000), seat(t, 1, 0, paying(400), record(func(r *PayeeRecord) { r.Phase = Open }))}, []string{"[0] 1000"}},
		{"too little for itself, duplex", []Seat{seat(t, 0, 1000, bothWays(20_000, false)), seat(t, 1, 0, bothWays(400, false))}, []string{"[0] 1000"}},
		{"too little for themselves, unmined, version 3", []Seat{seat(t, 0, 0, paying(400), func(s *Seat) { s.View.Funding.Height = 0 }), seat(t, 1, 0, paying(450), func(s *Seat) { s.View.Funding.Height = 0 })}, nil},
		{"too little for themselves, unmined, version 2", []Seat{seat(t, 0, 0, paying(400), v2unmined), seat(t, 1, 0, paying(450), v2unmined)}, []string{"[0 1] 1000"}},
		{"too little for itself, not seen", []Seat{seat(t, 0, 1000, v2unmined), seat(t, 1, 0, paying(400), v2unmined, func(s *Seat) { s.View.Funding.Seen = false })}, []string{"[0] 1000"}},
		{"what pays for itself sets the rate", []Seat{seat(t, 0, 0, paying(400), going(5000)), seat(t, 1, 1000)}, []string{"[0 1] 1000"}},
		{"what takes a coin does not", []Seat{seat(t, 0, 5000, paying(400), coins), seat(t, 1, 1000)}, []string{"[0 1] 1000"}},
		{"nor does it join where its part costs more than it pays", []Seat{seat(t, 0, 5000, paying(150), coins), seat(t, 1, 1000)}, []string{"[0] 5000", "[1] 1000"}},
		{"little ones at the going rate", []Seat{seat(t, 0, 0, paying(400), going(1200)), seat(t, 1, 0, paying(450), going(1200))}, []string{"[0 1] 1200"}},
		{"little ones at what is relayed", []Seat{seat(t, 0, 0, paying(400), going(500)), seat(t, 1, 0, paying(450), going(500))}, []string{"[0 1] 1000"}},
		{"a coin, where both together pay no fee", []Seat{seat(t, 0, 1000, paying(320), coins), seat(t, 1, 0, paying(180))}, []string{"[0] 1000"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(Together(c.seats, payout)); !slices.Equal(got, c.want) {
				t.Fatalf("%v, want %v", got, c.want)
			}
		})
	}
}

// Each condition under which a settlement of several channels is replaced, sent again, or
// given up for one of each.
func TestWhatBecomesOfABatch(t *testing.T) {
	waits := &SpendView{Txid: "batch", Fee: 1_012, VSize: 352}
	two := func(spend *SpendView, change func([]Seat)) []Seat {
		seats := []Seat{seat(t, 0, 0), seat(t, 1, 0)}
		batched(seats, 3000, spend)
		change(seats)
		return seats
	}
	dearer := func(rate int64, height uint32, change func([]Seat)) func([]Seat) {
		return func(s []Seat) {
			for i := range s {
				s[i].Record = s[i].Record.Settles(Broadcast{Tx: Hex{3}, Txid: "dearer", Rate: rate, Amount: 20_000, Height: height, Batch: s[i].Record.Settlement.Batch})
			}
			change(s)
		}
	}
	wants := func(rate script.FeeRate) func([]Seat) { return func(s []Seat) { s[1].Rate = rate } }
	little := func(sat uint64, rate script.FeeRate) func([]Seat) {
		return func(s []Seat) {
			s[0].Rate, s[1].Record.Paid, s[1].Record.Settlement.Amount = rate, sat, sat
		}
	}
	for _, c := range []struct {
		name  string
		seats []Seat
		want  []string
	}{
		{"mined, whatever is asked for", two(&SpendView{Txid: "batch", Height: lastBlock}, wants(5000)), nil},
		{"spent by somebody else, both", two(&SpendView{Txid: "refund"}, func(s []Seat) { s[0].Rate, s[1].Rate = 4000, 5000 }), []string{"[0] 4000", "[1] 5000"}},
		{"gone, and cheaper by now", two(nil, wants(2000)), []string{"[0 1] 3000"}},
		{"gone, at more than one of it could pay alone, whose other was refunded", two(nil, func(s []Seat) {
			for i := range s {
				s[i].Record.Settlement.Rate = 10_000_000
			}
			s[0].View.Rate, s[1].View.Spend = 7000, &SpendView{Txid: "refund", Height: lastBlock}
		}), []string{"[0] 7000"}},
		{"the same, and what waits is its own", two(waits, func(s []Seat) {
			for i := range s {
				s[i].Record.Settlement.Rate = 10_000_000
			}
			s[1].View.Spend = &SpendView{Txid: "refund", Height: lastBlock}
		}), nil},
		{"one is left alone by its rule", two(nil, func(s []Seat) { s[1].View.Spend = &SpendView{Txid: "newer"} }), []string{"[0] 3000"}},
		{"cheaper by now, its fee unknown", two(&SpendView{Txid: "batch"}, wants(2000)), []string{"[0 1] 3000"}},
		{"more was paid, and one is in a hurry", two(waits, func(s []Seat) { s[0].Record.Paid += 900; s[1].Rate = 9000 }), []string{"[0 1] 9000"}},
		{"the newest is not there, in the same block", two(waits, dearer(4000, lastBlock+1, func([]Seat) {})), []string{"[0 1] 0"}},
		{"a block later, in a hurry", two(waits, dearer(4000, lastBlock, wants(19_000))), []string{"[0 1] 19000"}},
		{"a block later, at what outbids a hidden child", two(waits, dearer(4000, lastBlock, func([]Seat) {})), []string{"[0 1] 6665"}},
		{"a block later, that would be less", two(waits, dearer(20_000, lastBlock, func([]Seat) {})), []string{"[0 1] 0"}},
		{"a block later, that is more than there is", two(waits, dearer(4000, lastBlock, func(s []Seat) { s[0].View.Rate = 90_000 })), []string{"[0 1] 0"}},
		{"a block later, in a hurry, and nothing dearer can be paid", two(waits, dearer(4000, lastBlock, func(s []Seat) { s[0].View.Rate, s[0].Rate = 90_000, 5000 })), []string{"[0 1] 0"}},
		{"a child that carries it not far enough", two(&SpendView{Txid: "batch", Fee: 1_056, VSize: 352, ChildFee: 2_000, ChildVSize: 200}, wants(30_000)), []string{"[0 1] 30000"}},
		{"a child that carries it", two(&SpendView{Txid: "batch", Fee: 1_056, VSize: 352, ChildFee: 2_000, ChildVSize: 200}, wants(5_000)), nil},
		{"one that is worth nothing alone is left out", two(waits, little(400, 9000)), []string{"[0] 9000"}},
		{"one below dust stays", two(waits, little(300, 9000)), []string{"[0 1] 9000"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(Together(c.seats, payout)); !slices.Equal(got, c.want) {
				t.Fatalf("%v, want %v", got, c.want)
			}
		})
	}
}

// What miners see in a spend with a child, and what is no figure at all.
func TestCarried(t *testing.T) {
	for _, c := range []struct {
		s    SpendView
		want script.FeeRate
	}{
		{SpendView{Fee: 200, VSize: 200}, 1000},
		{SpendView{Fee: 200, VSize: 200, ChildFee: 800, ChildVSize: 200}, 2500},
		{SpendView{Fee: 200, VSize: 200, ChildFee: 0, ChildVSize: 200}, 1000}, // never less than alone
		{SpendView{Fee: 200, VSize: 200, ChildFee: 800}, 1000},                // it carries nothing
		{SpendView{Fee: 0, VSize: 200, ChildFee: 800, ChildVSize: 200}, 2000},
		{SpendView{Fee: 200, VSize: 200, ChildFee: -1, ChildVSize: 200}, 1000},
		{SpendView{Fee: 200, VSize: 200, ChildFee: MaxSat + 1, ChildVSize: 200}, 1000},
		{SpendView{Fee: -1, VSize: 200, ChildFee: 800, ChildVSize: 200}, 0},
		{SpendView{Fee: MaxSat + 1, VSize: 200, ChildFee: 800, ChildVSize: 200}, 0},
		{SpendView{Fee: 200, VSize: 0, ChildFee: 800, ChildVSize: 200}, 0},
		{SpendView{Fee: 200, VSize: -1, ChildFee: 800, ChildVSize: 200}, 0},
	} {
		if got := c.s.carried(); got != c.want {
			t.Errorf("%+v: %d, want %d", c.s, got, c.want)
		}
	}
}

// A child that is not seen is only budgeted for where a dearer settlement of ours has not
// taken the place of one of ours a block after it was sent.
func TestBudgetedForAHiddenChild(t *testing.T) {
	of := func(change func(*PayeeRecord, *View)) (PayeeRecord, View) {
		r := record(paid(5000), settlement(1000, 5000, 105), func(r *PayeeRecord) { r.Phase = Settling })
		r = r.Settles(Broadcast{Tx: Hex{1}, Txid: "newest", Rate: 3000, Amount: 5000, Height: 105})
		v := at(106, func(v *View) { v.Spend = &SpendView{Txid: "settlement", Fee: 200, VSize: 200} }, rate(2000))
		change(&r, &v)
		return r, v
	}
	for _, c := range []struct {
		name   string
		change func(*PayeeRecord, *View)
		child  int64 // sat; 0: none is budgeted for
	}{
		{"it is there", func(*PayeeRecord, *View) {}, 2000},
		{"at the least rate", func(_ *PayeeRecord, v *View) { v.Rate = 300 }, 1000},
		{"a dearer one is seen", func(_ *PayeeRecord, v *View) { v.Spend.ChildFee = 7000 }, 7000},
		{"nothing spends it", func(_ *PayeeRecord, v *View) { v.Spend = nil }, 0},
		{"nothing was made", func(r *PayeeRecord, _ *View) { r.Settlement = nil }, 0},
		{"it is mined", func(_ *PayeeRecord, v *View) { v.Spend.Height = 106 }, 0},
		{"the newest is there", func(_ *PayeeRecord, v *View) { v.Spend.Txid = "newest" }, 0},
		{"somebody else's", func(_ *PayeeRecord, v *View) { v.Spend.Txid = "refund" }, 0},
		{"in the same block", func(_ *PayeeRecord, v *View) { v.Tip = 105 }, 0},
		{"the newest is no dearer", func(_ *PayeeRecord, v *View) { v.Spend.Fee = 600 }, 0},
	} {
		r, v := of(c.change)
		got, hidden := r.budgeted(v)
		if hidden != (c.child > 0) || hidden && got.Spend.ChildFee != c.child || !hidden && got.Spend != v.Spend {
			t.Errorf("%s: %t, %+v", c.name, hidden, got.Spend)
		}
	}
}

// A newer amount that was refused while an older one stood in a block is sent again where
// a reorg took that block away, also where nothing dearer can be made: a hidden child of
// the older one is feared then, and the stake does not pay for evicting it.
func TestNewestIsSentWhereNothingDearerCanBe(t *testing.T) {
	r := record(paid(5000), settlement(1000, 4000, 104), func(r *PayeeRecord) { r.Phase = Settling })
	r = r.Settles(Broadcast{Tx: Hex{1}, Txid: "newest", Rate: 3000, Amount: 5000, Height: 104})
	v := at(106, func(v *View) { v.Spend = &SpendView{Txid: "settlement", Fee: 200, VSize: 200} }, rate(4500))
	_, actions := r.Due(r.Terms.built(t), payout, v, policy())
	if kinds(actions) != "send" || !bytes.Equal(actions[0].Tx, r.Settlement.Tx) {
		t.Fatalf("%+v", actions)
	}
	v.Spend.Txid = "newest"
	if _, actions := r.Due(r.Terms.built(t), payout, v, policy()); kinds(actions) == "send" {
		t.Fatalf("what waits already is sent again: %+v", actions)
	}
}

// What takes the place of a settlement of ours pays for all that is evicted, up to a limit.
func TestReplacing(t *testing.T) {
	r := record(paid(5000), settlement(1000, 5000, 105))
	older := r.Settles(Broadcast{Tx: Hex{1}, Txid: "newest", Rate: 3000, Amount: 6000, Height: 105})
	older.Paid = 6000
	waits := &SpendView{Txid: "settlement", Fee: 200, VSize: 200, ChildFee: 800, ChildVSize: 200}
	for _, c := range []struct {
		name        string
		r           PayeeRecord
		spend       *SpendView
		rate, limit script.FeeRate
		want        script.FeeRate
		ok          bool
	}{
		{"nothing is there", r, nil, 1500, 9000, 1500, true},
		{"mined", r, &SpendView{Txid: "settlement", Height: 105, Fee: 200, VSize: 200, ChildFee: 9000, ChildVSize: 100}, 1500, 9000, 1500, true},
		{"somebody else's", r, &SpendView{Txid: "refund", Fee: 200, VSize: 200, ChildFee: 9000, ChildVSize: 100}, 1500, 9000, 1500, true},
		{"a child carries it", r, waits, 2500, 9000, 2500, false},
		{"not far enough", r, waits, 2501, 9000, 5996, true},
		{"it pays that by itself", r, &SpendView{Txid: "settlement", Fee: 600, VSize: 200}, 2000, 9000, 3996, true},
		{"an older amount is not carried", older, waits, 2000, 9000, 5996, true},
		{"dear enough", r, waits, 8000, 9000, 8000, true},
		{"up to the limit", r, waits, 3000, 5996, 5996, true},
		{"above it", r, waits, 3000, 5995, 5996, false},
	} {
		got, ok := c.r.replacing(at(106, func(v *View) { v.Spend = c.spend }), 200, c.rate, c.limit)
		if got != c.want || ok != c.ok {
			t.Errorf("%s: %d, %t", c.name, got, ok)
		}
	}
}

// Settlements that were replaced are remembered, each once, the newest apart.
func TestMadeIsKept(t *testing.T) {
	r := record(paid(5000))
	made := func(txid string, amount uint64) {
		r = r.Settles(Broadcast{Tx: Hex{1}, Txid: txid, Rate: 1, Amount: amount})
	}
	made("a", 5000)
	made("a", 5000) // the same again
	if len(r.Made) != 0 {
		t.Fatalf("%+v", r.Made)
	}
	made("b", 5000)
	made("a", 5000) // and back
	if len(r.Made) != 1 || r.Made[0].Txid != "b" {
		t.Fatalf("%+v", r.Made)
	}
	made("b", 5000)
	made("a", 5000)
	if len(r.Made) != 1 || r.Made[0].Txid != "b" {
		t.Fatalf("%+v", r.Made)
	}
	r.Made[0].Amount = 4000
	r.Close = &PayeeClose{Txid: "close"}
	for txid, want := range map[string]bool{"a": true, "b": false, "close": true, "c": false, "": false} {
		if r.own(txid) != want {
			t.Errorf("%q is own: %t", txid, !want)
		}
	}
	if r = record(); r.own("") { // nothing was paid, nothing made
		t.Error("what nobody made pays what nobody paid")
	}
}

// What a foreign spend leaves the payee counts only where the payee signed the whole of it.
func TestLeaves(t *testing.T) {
	good := SpendView{Txid: "rung", Fee: 200, VSize: 200, Leaves: 5000}
	for _, c := range []struct {
		name   string
		change func(*PayeeRecord, *SpendView)
		ok     bool
	}{
		{"a rung", func(*PayeeRecord, *SpendView) {}, true},
		{"mined", func(_ *PayeeRecord, s *SpendView) { s.Height = 200 }, false},
		{"locked", func(_ *PayeeRecord, s *SpendView) { s.Lock = 1 }, false},
		{"not known", func(_ *PayeeRecord, s *SpendView) { s.Leaves = 0 }, false},
		{"less than nothing", func(_ *PayeeRecord, s *SpendView) { s.Leaves = -1 }, false},
		{"duplex", func(r *PayeeRecord, _ *SpendView) { r.Duplex = &Duplex{} }, false},
		{"our own", func(_ *PayeeRecord, s *SpendView) { s.Txid = "settlement" }, false},
	} {
		r, s := record(paid(5000), settlement(1000, 5000, 105)), good
		c.change(&r, &s)
		if _, ok := r.leaves(&s); ok != c.ok {
			t.Errorf("%s: %t", c.name, ok)
		}
		if r.covers(&s) != c.ok {
			t.Errorf("%s covers: %t", c.name, !c.ok)
		}
	}
	r := record(paid(5001))
	if r.covers(&good) || r.covers(nil) {
		t.Error("less than was paid covers it")
	}
}
