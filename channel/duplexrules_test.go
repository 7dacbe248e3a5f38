package channel

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/script"
)

// A duplex offer whose step is below the margin, or no step at all, makes no channel.
func TestDuplexStepOfAnOffer(t *testing.T) {
	for step, want := range map[uint32]error{margin: nil, margin + 1: nil, margin - 1: ErrTerms, 0: ErrTerms, expiry - 1: nil, expiry: ErrTerms} {
		o := offer(func(o *Offer) {
			o.Constructions = append(o.Constructions, script.Duplex)
			o.Step, o.PayeeRest = step, p2tr(0x55)
		})
		op, _ := opening(t, func(op *Opening) { op.Construction = script.Duplex })
		if _, _, err := o.Terms(op, policy()); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("a step of %d with a margin of %d: %v", step, margin, err)
		}
	}
}

// More is paid in one's own epoch only while the other side would still take it: a margin
// before the lock of the epoch before.
func TestDuplexPaysInTime(t *testing.T) {
	b := newBoth(t)
	b.goods(20_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	b.goods(1_000_000)
	edge := uint32(expiry - margin) // of epoch 1
	if _, due, err := b.side[script.Payer].Pay(edge-1, anyAmount); err != nil || !due {
		t.Fatalf("a block before the edge: %v, %v", due, err)
	}
	if next, due, err := b.side[script.Payer].Pay(edge, anyAmount); !errors.Is(err, ErrExpiring) || due || next.Sent.Amount != 20_000 {
		t.Fatalf("at the edge: %v, %v, %d sat", due, err, next.Sent.Amount)
	}
}

// How many epochs a channel of a length has, as docs/protocol.md lists them.
func TestDuplexEpochsOfALength(t *testing.T) {
	const h0 = 100_000
	for blocks, want := range map[uint32]uint32{36: 0, 37: 1, 72: 1, 144: 3, 288: 7, 432: 11, 1008: 27, 2016: 55} {
		x := duplexTerms(func(x *Terms) { x.Expiry = h0 })
		if got := x.Epochs(h0 - blocks); got != want {
			t.Errorf("%d blocks: %d epochs, want %d", blocks, got, want)
		}
		l := Ladder{Terms: x, Side: script.Payer, Top: 100, Held: Rung{Number: 100}}
		states := uint32(0)
		for {
			next, _, err := l.Propose(1_000+uint64(states), h0-blocks)
			if err != nil {
				break
			}
			states++
			l.Held = next.Sent
		}
		if states != want {
			t.Errorf("%d blocks: %d states of a ladder, want %d", blocks, states, want)
		}
	}
}

// What is older is answered as soon as it is seen, also before the deadline, where the step
// is longer than the margin.
func TestDuplexOlderIsAnswered(t *testing.T) {
	b := newBoth(t, func(x *Terms) { x.Step = 2 * margin })
	b.goods(20_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	r := b.side[script.Payee]
	lock, _ := r.Terms.Lock(1)
	seen := func(lock uint32, leaves int64) func(*View) {
		return func(v *View) { v.Spend = &SpendView{Txid: "older", Lock: lock, Fee: 200, VSize: 200, Leaves: leaves} }
	}
	for name, c := range map[string]struct {
		v      View
		reason SettlingReason
	}{
		"less in the same epoch": {at(lock, seen(lock, 19_999)), SpendSeen},
		"as much":                {at(lock, seen(lock, 20_000)), ""},
		"the refund":             {at(expiry, seen(expiry, 0)), SpendSeen},
		"nothing, at the lock":   {at(lock), ""},
	} {
		next, actions := r.Due(b.ch, payout, c.v, policy())
		if next.Reason != c.reason || (len(actions) > 0) != (c.reason != "") {
			t.Errorf("%s: %q, %v", name, next.Reason, actions)
		}
	}
}

// A close that both agreed to and nobody mines disarms the deadline of neither side: from
// there on each settles what it holds in its place.
func TestDuplexAgreedCloseAtTheDeadline(t *testing.T) {
	b := newBoth(t)
	for i, msat := range []int64{20_000_000, -8_000_000} {
		b.goods(msat)
		wantNil(t, b.pay(SenderOf(uint32(i+1)), 200, anyAmount))
	}
	payer := bought().with(b.side[script.Payer])
	payer.Terms, payer.Phase = b.side[script.Payer].Terms, Closing
	payer.Close = &PayerClose{Tx: Hex{1}, Txid: "close"}
	payee := record().with(b.side[script.Payee])
	payee.Terms, payee.Phase = b.side[script.Payee].Terms, Closing
	payee.Close = &PayeeClose{Txid: "close", Height: expiry} // not "unseen" for long
	waits := func(v *View) { v.Spend = &SpendView{Txid: "close", Fee: 111, VSize: 111, Leaves: 12_000} }
	for _, c := range []struct {
		name  string
		epoch uint32
		due   func(v View) []Action
	}{
		{"payer", 2, func(v View) []Action { _, a := payer.Due(b.ch, v, policy()); return a }},
		{"payee", 1, func(v View) []Action { _, a := payee.Due(b.ch, payout, v, policy()); return a }},
	} {
		before, _ := payer.Terms.Lock(c.epoch - 1)
		if got := c.due(at(before-margin-1, waits)); len(got) > 0 {
			t.Errorf("the %s, before its deadline: %v", c.name, got)
		}
		if got := c.due(at(before-margin, waits)); len(got) != 1 || got[0].Kind != MakeSettlement {
			t.Errorf("the %s, at its deadline: %v", c.name, got)
		}
	}
}

// A payer whose debt uses up the payee's credit pays it by a reversal of any size; a smaller
// debt waits until it is worth a settlement.
func TestDuplexPayerReversesAtTheCredit(t *testing.T) {
	b := newBoth(t)
	for i, msat := range []int64{20_000_000, -8_000_000} {
		b.goods(msat)
		wantNil(t, b.pay(SenderOf(uint32(i+1)), 200, anyAmount))
	}
	r := bought().with(b.side[script.Payer])
	r.Terms, r.Phase = b.side[script.Payer].Terms, Open // credit 1,000 sat, minimum charge 2,000 sat
	for owed, epoch := range map[uint64]uint32{chunk - 1000: 2, chunk: 3, 2*chunk - 1000: 3} {
		r.Owed = 12_000_000 + owed
		next, err := r.PayState(0, 200, free)
		wantNil(t, err)
		if got := next.duplex().Newest(); got.Epoch != epoch || epoch == 3 && got.Amount != 12_000+owed/1000 {
			t.Errorf("owing %d msat the payer is at (%d, %d sat)", owed, got.Epoch, got.Amount)
		}
	}
}

// Each side's rest has the dust limit of its own script.
func TestDuplexDustOfEachSide(t *testing.T) {
	wpkh := append(Hex{0x00, 0x14}, make(Hex, 20)...)
	x := duplexTerms(func(x *Terms) { x.PayeeRest = wpkh }) // 294 sat; the payer's is 330
	for _, c := range []struct {
		epoch uint32
		rest  uint64
		want  error
	}{{1, 329, ErrAmountExceeds}, {1, 330, nil}, {2, 293, ErrAmountExceeds}, {2, 294, nil}, {1, 0, nil}, {2, 0, nil}} {
		if _, err := x.State(c.epoch, capacity-c.rest); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("a rest of %d sat in epoch %d: %v", c.rest, c.epoch, err)
		}
	}
}

// Nothing is delivered that dust would keep from being paid.
func TestPitfall71_DuplexUnpayable(t *testing.T) {
	b := newBoth(t)
	b.goods(99_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	for price, want := range map[uint64]error{670_000: nil, 671_000: ErrAmountExceeds, 999_000: ErrAmountExceeds, 1_000_000: nil} {
		if _, err := b.side[script.Payee].Charge(script.Payee, price, chunk, at(200)); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%d msat: %v", price, err)
		}
	}
}

// A ladder ends at state 1: there is no state below it.
func TestPitfall56_LadderEnds(t *testing.T) {
	for number, want := range map[uint32]error{2: nil, 1: ErrTerms} {
		l := Ladder{Terms: duplexTerms(func(x *Terms) { x.Step, x.Expiry = 40, 9_000 }), Side: script.Payer, Top: 100, Held: Rung{Number: number, Share: 5_000}}
		if _, _, err := l.Propose(6_000, 200); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("after state %d: %v", number, err)
		}
	}
}

// No close is agreed while the payer counts less than was charged: something never arrived.
func TestDuplexCloseAtOneLedger(t *testing.T) {
	b := newBoth(t)
	b.goods(20_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	r := record().with(b.side[script.Payee])
	r.Terms, r.Phase = b.side[script.Payee].Terms, Open
	for ledger, want := range map[uint64]error{20_000_000: nil, 19_999_001: nil, 19_999_000: ErrOwes, 0: ErrOwes, 20_001_000: nil} {
		q := CloseRequest{Update: r.Duplex.Held, PayerNonce: Hex{1}, Ledger: &ledger}
		next, _, err := r.BeginClose(b.ch, q, payout, at(200))
		if !errors.Is(err, want) || (want == nil) != (err == nil) || (err == nil) != (next.Phase == Closing) {
			t.Errorf("the payer counts %d msat: %v, phase %s", ledger, err, next.Phase)
		}
	}
}
