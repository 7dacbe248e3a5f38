package channel

import (
	"fmt"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/script"
)

// seat is a channel that is due at its margin, the n-th of its payee.
func seat(t testing.TB, n byte, rate script.FeeRate, change ...func(*Seat)) Seat {
	t.Helper()
	s := Seat{View: at(lastBlock + 1), Rate: rate}
	s.Record = record(paid(20_000), func(r *PayeeRecord) {
		r.Phase, r.Reason = Settling, AtMargin
		r.Terms.Outpoint = Outpoint{Hash: chainhash.Hash{1: n, 2: 1}}
	})
	for _, c := range change {
		c(&s)
	}
	s.Script = s.Record.Terms.built(t)
	return s
}

func kindOf(k script.Construction) func(*Seat) {
	return func(s *Seat) { s.Record.Terms.Construction = k }
}

func paying(sat uint64) func(*Seat) { return func(s *Seat) { s.Record.Paid = sat } }

// batched gives seats a settlement that they share, and says what is in the mempool.
func batched(seats []Seat, rate int64, spend *SpendView) {
	var ids []string
	for _, s := range seats {
		ids = append(ids, s.Record.Terms.ID())
	}
	for i := range seats {
		seats[i].Record.Settlement = &Broadcast{Tx: Hex{9}, Txid: "batch", Rate: rate, Amount: seats[i].Record.Paid, Height: lastBlock + 1, Batch: ids}
		seats[i].View.Spend = spend
	}
}

// told is a plan in words: which seats, and in brackets the rate.
func told(plan []Batch) (words []string) {
	for _, b := range plan {
		of := slices.Clone(b.Seats)
		slices.Sort(of)
		words = append(words, fmt.Sprint(of, int64(b.Rate)))
	}
	slices.Sort(words)
	return words
}

// TestPitfall63_WhoIsSettledTogether (and 48, 49): each rule of a first settlement of
// several channels, and what is settled alone.
func TestPitfall63_WhoIsSettledTogether(t *testing.T) {
	version2 := func(s *Seat) { s.Record.Terms.TxVersion = 2 }
	noBlock := func(s *Seat) { s.Record.Terms.TxVersion, s.View.Funding.Height = 2, 0 }
	expired := func(s *Seat) { s.View.Tip = expiry }
	for _, c := range []struct {
		name  string
		seats []Seat
		want  []string
	}{
		{"one", []Seat{seat(t, 0, 1000)}, []string{"[0] 1000"}},
		{"two alike", []Seat{seat(t, 0, 1000), seat(t, 1, 1000)}, []string{"[0 1] 1000"}},
		{"three kinds", []Seat{seat(t, 0, 1000), seat(t, 1, 1000, kindOf(script.Multisig)), seat(t, 2, 1000, kindOf(script.MultisigP2SH))}, []string{"[0 1 2] 1000"}},
		{"another version", []Seat{seat(t, 0, 1000), seat(t, 1, 1000, version2), seat(t, 2, 1000)}, []string{"[0 2] 1000", "[1] 1000"}},
		{"a second P2SH rest", []Seat{seat(t, 0, 1000, kindOf(script.MultisigP2SH)), seat(t, 1, 1000, kindOf(script.MultisigP2SH)), seat(t, 2, 1000)},
			[]string{"[0 2] 1000", "[1] 1000"}},
		{"a second P2SH channel, without a rest", []Seat{seat(t, 0, 1000, kindOf(script.MultisigP2SH)), seat(t, 1, 1000, kindOf(script.MultisigP2SH), paying(capacity))},
			[]string{"[0 1] 1000"}},
		{"at its expiry", []Seat{seat(t, 0, 1000, expired), seat(t, 1, 1000, expired), seat(t, 2, 1000)}, []string{"[0] 1000", "[1] 1000", "[2] 1000"}},
		{"a close was signed", []Seat{seat(t, 0, 1000), seat(t, 1, 1000, func(s *Seat) { s.Record.Phase, s.Record.Close = Closing, &PayeeClose{} }), seat(t, 2, 1000)},
			[]string{"[0 2] 1000", "[1] 1000"}},
		{"a close may have been signed before a restore", []Seat{seat(t, 0, 1000), seat(t, 1, 1000, func(s *Seat) { s.Record.Restored = true })}, []string{"[0] 1000", "[1] 1000"}},
		{"its output is spent already", []Seat{seat(t, 0, 1000), seat(t, 1, 1000), seat(t, 2, 1000, func(s *Seat) { s.View.Spend = &SpendView{Txid: "refund"} })},
			[]string{"[0 1] 1000", "[2] 1000"}},
		{"one settled alone before stays so", []Seat{seat(t, 0, 1000), seat(t, 1, 3000, func(s *Seat) { s.Record.Settlement = &Broadcast{Txid: "own", Rate: 1000, Amount: 20_000} }), seat(t, 2, 1000)},
			[]string{"[0 2] 1000", "[1] 3000"}},
		{"an unconfirmed funding is not mixed with others", []Seat{seat(t, 0, 1000, version2), seat(t, 1, 1000, noBlock), seat(t, 2, 1000, version2)}, []string{"[0 2] 1000", "[1] 1000"}},
		{"one in a hurry pays for itself", []Seat{seat(t, 0, 1000), seat(t, 1, 9000), seat(t, 2, 1000)}, []string{"[0 2] 1000", "[1] 9000"}},
		{"a little dearer is cheaper together", []Seat{seat(t, 0, 1000), seat(t, 1, 1300)}, []string{"[0 1] 1300"}},
		{"not above its own stake", []Seat{seat(t, 0, 1000, paying(590)), seat(t, 1, 1300)}, []string{"[0] 1000", "[1] 1300"}},
		{"too little for itself", []Seat{seat(t, 0, 1000), seat(t, 1, 0, paying(400))}, []string{"[0 1] 1000"}},
		{"too little for its part", []Seat{seat(t, 0, 1000), seat(t, 1, 0, paying(150))}, []string{"[0] 1000"}},
		{"little ones together", []Seat{seat(t, 0, 0, paying(400)), seat(t, 1, 0, paying(450))}, []string{"[0 1] 1000"}},
		{"little ones below dust", []Seat{seat(t, 0, 0, paying(200)), seat(t, 1, 0, paying(200))}, nil},
		{"nothing is due", []Seat{seat(t, 0, 0), seat(t, 1, 0, func(s *Seat) { s.Record.Phase = Open })}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(Together(c.seats, payout)); !slices.Equal(got, c.want) {
				t.Fatalf("%v, want %v", got, c.want)
			}
		})
	}
}

// At most 10,000 vB, and 1,000 while a funding is in no block.
func TestBatchSizes(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		change func(*Seat)
		sizes  []int
	}{
		{"taproot", 100, func(*Seat) {}, []int{65, 35}},
		{"unconfirmed", 8, func(s *Seat) { s.Record.Terms.TxVersion, s.View.Funding.Height = 2, 0 }, []int{6, 2}},
	} {
		var seats []Seat
		for i := range c.n {
			seats = append(seats, seat(t, byte(i), 1000, c.change))
		}
		plan := Together(seats, payout)
		var sizes []int
		for _, b := range plan {
			sizes = append(sizes, len(b.Seats))
		}
		if !slices.Equal(sizes, c.sizes) {
			t.Errorf("%s: batches of %v, want %v", c.name, sizes, c.sizes)
		}
	}
}

// TestPitfall48_EvictedBatch: what becomes of a settlement of several channels: left
// alone, sent again, replaced as a whole, without those who could evict it, and, once
// one of them is spent elsewhere, each alone at no lower rate.
func TestPitfall48_EvictedBatch(t *testing.T) {
	waits := &SpendView{Txid: "batch", Fee: 1_518, VSize: 506}
	three := func(spend *SpendView, change func([]Seat)) []Seat {
		seats := []Seat{seat(t, 0, 0), seat(t, 1, 0), seat(t, 2, 0)}
		batched(seats, 3000, spend)
		change(seats)
		return seats
	}
	for _, c := range []struct {
		name  string
		seats []Seat
		want  []string
	}{
		{"it waits", three(waits, func([]Seat) {}), nil},
		{"it is mined", three(&SpendView{Txid: "batch", Height: lastBlock}, func([]Seat) {}), nil},
		{"it is gone", three(nil, func([]Seat) {}), []string{"[0 1 2] 0"}},
		{"it is gone, and dearer by now", three(nil, func(s []Seat) { s[1].Rate = 5000 }), []string{"[0 1 2] 5000"}},
		{"it is gone at an expiry", three(nil, func(s []Seat) { s[1].View.Tip = expiry }), []string{"[0] 3000", "[1] 3000", "[2] 3000"}},
		{"one is spent elsewhere", three(nil, func(s []Seat) { s[1].View.Spend, s[1].Rate = &SpendView{Txid: "refund", Lock: expiry}, 20_000 }),
			[]string{"[0] 3000", "[1] 20000", "[2] 3000"}},
		{"one is mined elsewhere", three(nil, func(s []Seat) { s[1].View.Spend = &SpendView{Txid: "refund", Height: lastBlock} }), []string{"[0] 3000", "[2] 3000"}},
		{"one cannot be looked at", three(nil, func([]Seat) {})[:2], []string{"[0] 3000", "[1] 3000"}},
		{"one has too little for that rate alone", three(nil, func(s []Seat) {
			s[1].View.Spend, s[1].Rate = &SpendView{Txid: "refund", Lock: expiry}, 20_000
			s[2].Record.Paid = 600
		}), []string{"[0] 3000", "[1] 20000", "[2] 1000"}}, // it begins again at the going rate
		{"one has to be mined sooner", three(waits, func(s []Seat) { s[2].Rate = 7000 }), []string{"[0 1 2] 7000"}},
		{"the fee has to pay for both", three(&SpendView{Txid: "batch", Fee: 9_000, VSize: 3000}, func(s []Seat) { s[2].Rate = 4000 }), []string{"[0 1 2] 18785"}},
		{"at an expiry it is replaced without that one", three(waits, func(s []Seat) { s[0].View.Tip, s[2].Rate = expiry, 7000 }),
			[]string{"[0] 3000", "[1 2] 7000"}},
		{"without one whose stake is too small", three(waits, func(s []Seat) { s[0].Record.Paid, s[0].Record.Settlement.Amount, s[2].Rate = 1200, 1200, 7000 }),
			[]string{"[0] 3000", "[1 2] 7000"}},
		{"it stays whole where the others cannot pay for it", three(&SpendView{Txid: "batch", Fee: 41_000, VSize: 506}, func(s []Seat) { s[0].View.Tip, s[2].Rate = expiry, 7000 }),
			[]string{"[0 1 2] 82026"}},
		{"a little more was paid", three(waits, func(s []Seat) { s[0].Record.Paid += 500 }), nil},
		{"much more was paid", three(waits, func(s []Seat) { s[0].Record.Paid += 300; s[1].Record.Paid += 300 }), []string{"[0 1 2] 4000"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(Together(c.seats, payout)); !slices.Equal(got, c.want) {
				t.Fatalf("%v, want %v", got, c.want)
			}
		})
	}
}

// Due leaves it to Together whether a settlement that others share is replaced.
func TestDueOfABatch(t *testing.T) {
	seats := []Seat{seat(t, 0, 0), seat(t, 1, 0)}
	batched(seats, 1000, &SpendView{Txid: "batch", Fee: 400, VSize: 360})
	r := seats[0].Record
	r.Paid += 5000
	if _, actions := r.Due(seats[0].Script, payout, seats[0].View, policy()); len(actions) > 0 || !r.Shared(seats[0].View) {
		t.Fatalf("%+v", actions)
	}
	seats[0].View.Rate = 3000
	if _, actions := r.Due(seats[0].Script, payout, seats[0].View, policy()); kinds(actions) != "make-settlement" {
		t.Fatalf("%+v", actions)
	}
}

// Whoever is in a batch: nobody is there twice, all of a batch fit, nobody who is due is
// left out of a first settlement, nobody pays more than alone, and the rate of nobody's
// next settlement falls.
func TestBatchesHold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var seats []Seat
		for i := range rapid.IntRange(1, 12).Draw(rt, "seats") {
			rate := script.FeeRate(rapid.SampledFrom([]int64{0, 1000, 1000, 1200, 5000}).Draw(rt, "rate"))
			seats = append(seats, seat(t, byte(i), rate, kindOf(rapid.SampledFrom([]script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH}).Draw(rt, "kind")),
				paying(rapid.SampledFrom([]uint64{200, 700, 5000, capacity}).Draw(rt, "paid")), func(s *Seat) {
					s.Record.Terms.TxVersion = rapid.Int32Range(2, 3).Draw(rt, "version")
					s.View.Tip = rapid.SampledFrom([]uint32{lastBlock + 1, expiry}).Draw(rt, "tip")
				}))
			if _, most := seats[i].alone(payout); rate > most {
				seats[i].Rate = 0
			}
		}
		if n := rapid.IntRange(0, len(seats)).Draw(rt, "in a batch"); n > 1 {
			for i := range seats[:n] {
				seats[i].Record.Terms.TxVersion, seats[i].Record.Terms.Construction = 3, script.Taproot
				seats[i].Script = seats[i].Record.Terms.built(t)
			}
			batched(seats[:n], 2000, rapid.SampledFrom([]*SpendView{nil, {Txid: "batch", Fee: 3000, VSize: 1500}, {Txid: "x"}}).Draw(rt, "spend"))
		}
		in := map[int]bool{}
		for _, b := range Together(seats, payout) {
			for _, i := range b.Seats {
				if in[i] {
					rt.Fatalf("seat %d twice", i)
				}
				in[i] = true
				last := seats[i].Record.Settlement
				_, most := seats[i].alone(payout)
				again := len(b.Seats) == 1 && seats[i].View.Spend == nil && last != nil && script.FeeRate(last.Rate) > most
				if b.Rate > 0 && last != nil && b.Rate < script.FeeRate(last.Rate) && !again {
					rt.Fatalf("seat %d at %d after %d", i, b.Rate, last.Rate)
				}
				if again && (b.Rate > most || b.Rate < minStep) {
					rt.Fatalf("seat %d begins again at %d of %d", i, b.Rate, most)
				}
				if len(b.Seats) > 1 && last == nil && seats[i].evictable() {
					rt.Fatalf("seat %d can evict the others", i)
				}
			}
			size, err := script.BatchVSize(claims(seats, b.Seats), payout, 0)
			if err != nil || size > maxBatch || b.Rate.Fee(size) > stake(seats, b.Seats) {
				rt.Fatalf("%d vB at %d: %v", size, b.Rate, err)
			}
		}
		for i, s := range seats {
			if s.Rate > 0 && s.Record.Settlement == nil && !in[i] {
				rt.Fatalf("seat %d is due and left out", i)
			}
		}
	})
}

// The shares of a fee add up to it.
func TestShares(t *testing.T) {
	seats := []Seat{seat(t, 0, 1000), seat(t, 1, 1000, kindOf(script.MultisigP2SH)), seat(t, 2, 1000, paying(capacity))}
	for _, fee := range []int64{0, 1, 700, 999_983} {
		var sum int64
		for _, share := range Shares(seats, fee, payout) {
			sum += share
		}
		if sum != fee {
			t.Errorf("%d of %d sat", sum, fee)
		}
	}
}
