package channel

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/script"
)

// brokenRule is the rule that an error names; "" where it is none.
func brokenRule(err error) string {
	var v *ViolationError
	if errors.As(err, &v) && errors.Is(err, ErrInvariant) {
		return v.Rule
	}
	return ""
}

// seller is a payee's record in which everything holds: 5,000 sat paid and charged.
func seller(change ...func(*PayeeRecord)) PayeeRecord {
	r := record(func(r *PayeeRecord) {
		r.Paid, r.Signature, r.Charged, r.FundingTx, r.Digest = 5000, Hex{5}, 5000*sat, Hex{1}, Hex{2}
	})
	for _, c := range change {
		c(&r)
	}
	return r
}

// buyer is a payer's record in which everything holds.
func buyer(change ...func(*PayerRecord)) PayerRecord {
	r := bought(func(r *PayerRecord) { r.Signed, r.Signature, r.Owed = 5000, Hex{5}, 5000*sat })
	for _, c := range change {
		c(&r)
	}
	return r
}

func settledAt(amount uint64, rate int64) *Broadcast {
	return &Broadcast{Tx: Hex{1}, Txid: "s", Rate: rate, Fee: 10, Amount: amount}
}

func closeAt(amount uint64) *PayeeClose {
	return &PayeeClose{Amount: amount, Fee: 10, Tx: Hex{1}, Txid: "c"}
}

// twoWay makes a duplex record of either side: 4,000 sat in epoch 1.
func twoWay(t *Terms) {
	t.Construction, t.Step, t.PayeeRest = script.Duplex, margin, p2tr(0x44)
}

func sellerBothWays(r *PayeeRecord) {
	twoWay(&r.Terms)
	r.Paid, r.Charged, r.Signature = 4000, 4000*sat, Hex{4}
	r.Duplex = &Duplex{Held: Update{Epoch: 1, Amount: 4000, Signature: Hex{4}}}
}

func buyerBothWays(r *PayerRecord) {
	twoWay(&r.Terms)
	r.Signed, r.Owed, r.Signature = 4000, 4000*sat, Hex{4}
	r.Duplex = &Duplex{Sent: Update{Epoch: 1, Amount: 4000, Signature: Hex{4}}}
}

// Each way in which a payee's record can be wrong by itself has its name.
func TestPayeeRecordUnsound(t *testing.T) {
	for name, r := range map[string]PayeeRecord{"one way": seller(), "both ways": seller(sellerBothWays), "closing": seller(func(r *PayeeRecord) {
		r.Phase, r.Close = Closing, closeAt(5000)
	}), "settling": seller(func(r *PayeeRecord) { r.Phase, r.Settlement = Settling, settledAt(4000, 1000) })} {
		if err := r.Sound(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	both := func(more func(*PayeeRecord)) func(*PayeeRecord) {
		return func(r *PayeeRecord) { sellerBothWays(r); more(r) }
	}
	for _, row := range []struct {
		name, rule string
		change     func(*PayeeRecord)
	}{
		{"no capacity", "capacity", func(r *PayeeRecord) { r.Terms.Capacity = 0 }},
		{"more than there is", "capacity", func(r *PayeeRecord) { r.Terms.Capacity = MaxSat + 1 }},
		{"no expiry", "time", func(r *PayeeRecord) { r.Terms.Expiry = 0 }},
		{"an expiry in seconds", "time", func(r *PayeeRecord) { r.Terms.Expiry = 500_000_000 }},
		{"all margin", "time", func(r *PayeeRecord) { r.Terms.Margin = r.Terms.Expiry }},
		{"one key", "keys", func(r *PayeeRecord) { r.Terms.PayerKey = r.Terms.PayeeKey; r.Terms.PayerKey[0] ^= 1 }},
		{"no phase", "phase", func(r *PayeeRecord) { r.Phase = Refunding }},
		{"paid above the capacity", "capacity", func(r *PayeeRecord) { r.Paid = capacity + 1 }},
		{"paid into the forbidden rest", "payable", func(r *PayeeRecord) { r.Paid = capacity - 1 }},
		{"charged above the capacity", "payable", func(r *PayeeRecord) { r.Charged = capacity*sat + 1 }},
		{"charged into the forbidden rest", "payable", func(r *PayeeRecord) { r.Charged = (capacity - 100) * sat }},
		{"charged out of range", "payable", func(r *PayeeRecord) { r.Charged = MaxSat*1000 + 1 }},
		{"paid without a half-signature", "signature", func(r *PayeeRecord) { r.Signature = nil }},
		{"closing without a close", "close", func(r *PayeeRecord) { r.Phase = Closing }},
		{"open with a close", "close", func(r *PayeeRecord) { r.Close = closeAt(5000) }},
		{"a close at another amount", "close", func(r *PayeeRecord) { r.Phase, r.Close = Closing, closeAt(4000) }},
		{"a close while something is owed", "close", func(r *PayeeRecord) { r.Phase, r.Close, r.Charged = Closing, closeAt(5000), 5001*sat }},
		{"a close with a negative fee", "close", func(r *PayeeRecord) { r.Phase, r.Close = Closing, closeAt(5000); r.Close.Fee = -1 }},
		{"a settlement above what is paid", "settlement", func(r *PayeeRecord) { r.Phase, r.Settlement = Settling, settledAt(5001, 1000) }},
		{"a settlement without a rate", "settlement", func(r *PayeeRecord) { r.Phase, r.Settlement = Settling, settledAt(5000, 0) }},
		{"duplex without states", "duplex", both(func(r *PayeeRecord) { r.Duplex = nil })},
		{"states of another kind", "duplex", func(r *PayeeRecord) { r.Duplex = &Duplex{} }},
		{"another share", "duplex", both(func(r *PayeeRecord) { r.Paid = 3999 })},
		{"a step below the margin", "step", both(func(r *PayeeRecord) { r.Terms.Step = margin - 1 })},
		{"held in an own epoch", "epoch", both(func(r *PayeeRecord) { r.Duplex.Held.Epoch = 2 })},
		{"sent in the other's epoch", "epoch", both(func(r *PayeeRecord) { r.Duplex.Sent = Update{Epoch: 3, Amount: 1, Signature: Hex{1}} })},
		{"an epoch that there is not", "epoch", both(func(r *PayeeRecord) { r.Duplex.Held.Epoch = 1001 })},
		{"a state without a half-signature", "signature", both(func(r *PayeeRecord) { r.Duplex.Held.Signature = nil })},
		{"a ledger above the capacity", "payable", both(func(r *PayeeRecord) { r.Charged = capacity*sat + 1 })},
	} {
		r := seller(row.change)
		if got := brokenRule(r.Sound()); got != row.rule {
			t.Errorf("%s: %q, want %q", row.name, got, row.rule)
		}
	}
}

// Each way in which a payer's record can be wrong by itself has its name.
func TestPayerRecordUnsound(t *testing.T) {
	for name, r := range map[string]PayerRecord{"one way": buyer(), "both ways": buyer(buyerBothWays)} {
		if err := r.Sound(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, row := range []struct {
		name, rule string
		change     func(*PayerRecord)
	}{
		{"no capacity", "capacity", func(r *PayerRecord) { r.Terms.Capacity = 0 }},
		{"no phase", "phase", func(r *PayerRecord) { r.Phase = "nowhere" }},
		{"signed above the capacity", "capacity", func(r *PayerRecord) { r.Signed = capacity + 1 }},
		{"signed into the forbidden rest", "dust", func(r *PayerRecord) { r.Signed = capacity - 1 }},
		{"a ledger out of range", "ledger", func(r *PayerRecord) { r.Owed = MaxSat*1000 + 1 }},
		{"signed without a half-signature", "signature", func(r *PayerRecord) { r.Signature = nil }},
		{"prepared and sent", "phase", func(r *PayerRecord) { r.Phase = Prepared }},
		{"multisig without a refund", "refund", func(r *PayerRecord) { r.Terms.Construction = script.Multisig }},
		{"closing without a close", "close", func(r *PayerRecord) { r.Phase = Closing }},
		{"a refund without a rate", "refund", func(r *PayerRecord) { r.Phase, r.Refund = Refunding, settledAt(0, 0) }},
		{"duplex without states", "duplex", func(r *PayerRecord) { buyerBothWays(r); r.Duplex = nil }},
		{"another share", "duplex", func(r *PayerRecord) { buyerBothWays(r); r.Signed = 4001 }},
		{"sent in the other's epoch", "epoch", func(r *PayerRecord) { buyerBothWays(r); r.Duplex.Sent.Epoch = 2 }},
		{"held without a half-signature", "signature", func(r *PayerRecord) {
			buyerBothWays(r)
			r.Duplex.Held = Update{Epoch: 2, Amount: 1}
		}},
	} {
		r := buyer(row.change)
		if got := brokenRule(r.Sound()); got != row.rule {
			t.Errorf("%s: %q, want %q", row.name, got, row.rule)
		}
	}
}

// Each step that no payee's record may take has its name.
func TestPayeeStepsViolate(t *testing.T) {
	charge := &Step{Charges: true, Credit: chunk, View: at(500)}
	closing := func(r *PayeeRecord) { r.Phase, r.Close = Closing, closeAt(5000) }
	settling := func(r *PayeeRecord) { r.Phase, r.Settlement = Settling, settledAt(5000, 2000) }
	stopped := func(r *PayeeRecord) { r.Stopped = "why" }
	for _, row := range []struct {
		name, rule string
		old        func(*PayeeRecord)
		change     func(*PayeeRecord)
		step       *Step
	}{
		{"another capacity", "terms", nil, func(r *PayeeRecord) { r.Terms.Capacity++ }, nil},
		{"another expiry", "terms", nil, func(r *PayeeRecord) { r.Terms.Expiry++ }, nil},
		{"another rest", "terms", nil, func(r *PayeeRecord) { r.Terms.RestScript = p2tr(0x55) }, nil},
		{"back to funding", "phase", nil, func(r *PayeeRecord) { r.Phase = Funding }, nil},
		{"reopened", "phase", closing, func(r *PayeeRecord) { r.Phase = Open }, nil},
		{"closed is final", "phase", func(r *PayeeRecord) { r.Phase = Closed }, func(r *PayeeRecord) { r.Phase = Settling }, nil},
		{"paid falls", "paid-fell", nil, func(r *PayeeRecord) { r.Paid, r.Signature = 4999, Hex{4} }, nil},
		{"charged falls", "charged-fell", nil, func(r *PayeeRecord) { r.Charged-- }, nil},
		{"two half-signatures for one amount", "signature", nil, func(r *PayeeRecord) { r.Signature = Hex{6} }, nil},
		{"paid rises on an old half-signature", "signature", nil, func(r *PayeeRecord) { r.Paid++ }, nil},
		{"paid after the close", "final", closing, func(r *PayeeRecord) { r.Paid, r.Signature = 6000, Hex{6} }, nil},
		{"another dearest chunk", "record", func(r *PayeeRecord) { r.MaxPrice = 2 }, func(r *PayeeRecord) { r.MaxPrice = 1 }, nil},
		{"another opening", "record", nil, func(r *PayeeRecord) { r.Digest = Hex{3} }, nil},
		{"the restore forgotten", "restored", func(r *PayeeRecord) { r.Restored = true }, func(r *PayeeRecord) { r.Restored = false }, nil},
		{"another funding", "funding", nil, func(r *PayeeRecord) { r.FundingTx = Hex{9} }, nil},
		{"another close", "close", closing, func(r *PayeeRecord) { r.Close = closeAt(5000); r.Close.Txid = "d" }, nil},
		{"the close forgotten", "close", closing, func(r *PayeeRecord) { r.Close = nil }, nil},
		{"the completed close forgotten", "close", func(r *PayeeRecord) { closing(r); r.Close.FinalTx = Hex{1} }, func(r *PayeeRecord) { r.Close = closeAt(5000) }, nil},
		{"a close after a restore", "close", func(r *PayeeRecord) { r.Restored = true }, closing, nil},
		{"the settlement forgotten", "settlement", settling, func(r *PayeeRecord) { r.Settlement = nil }, nil},
		{"a settlement of an open channel", "settlement", nil, func(r *PayeeRecord) { r.Settlement = settledAt(5000, 1000) }, nil},
		{"a lower rate", "rate-fell", settling, func(r *PayeeRecord) { r.Settlement = settledAt(5000, 1999); r.Settlement.Txid = "t" }, nil},
		{"a lower rate of another batch", "rate-fell", func(r *PayeeRecord) { settling(r); r.Settlement.Batch = []string{"a", "b"} }, func(r *PayeeRecord) {
			r.Settlement = settledAt(5000, 1999)
			r.Settlement.Txid, r.Settlement.Batch = "t", []string{"a", "b"}
		}, nil},
		{"a lower settlement after a batch", "rate-fell", func(r *PayeeRecord) { settling(r); r.Settlement.Batch = []string{"a", "b"} }, func(r *PayeeRecord) { r.Settlement = settledAt(4999, 1999); r.Settlement.Txid = "t" }, nil},
		{"a lower settlement", "rate-fell", settling, func(r *PayeeRecord) { r.Settlement = settledAt(4999, 3000); r.Settlement.Txid = "t" }, nil},
		{"charged by what does not charge", "charge", nil, func(r *PayeeRecord) { r.Charged += chunk }, nil},
		{"charged in settling", "charge", func(r *PayeeRecord) { r.Phase = Settling }, func(r *PayeeRecord) { r.Charged += chunk }, charge},
		{"charged after a restore", "charge", func(r *PayeeRecord) { r.Restored = true }, func(r *PayeeRecord) { r.Charged += chunk }, charge},
		{"charged within the margin", "charge", nil, func(r *PayeeRecord) { r.Charged += chunk }, &Step{Charges: true, Credit: chunk, View: at(lastBlock + 1)}},
		{"charged while spent", "charge", nil, func(r *PayeeRecord) { r.Charged += chunk }, &Step{Charges: true, View: at(500, spentBy("x", 0))}},
		{"charged over an unconfirmed funding", "charge", nil, func(r *PayeeRecord) { r.Charged += chunk }, &Step{Charges: true, View: at(500, unconfirmed)}},
		{"beyond the credit", "credit", nil, func(r *PayeeRecord) { r.Charged += chunk + 1 }, charge},
		{"a newcomer without a place", "pool", func(r *PayeeRecord) { r.NewcomerAbove, r.Terms.MinimumCharge = 0, 5000 }, func(r *PayeeRecord) { r.Charged, r.MaxPrice = r.Charged+chunk, chunk }, charge},
		{"paid into a stopped channel", "stopped", stopped, func(r *PayeeRecord) { r.Paid, r.Signature = 6000, Hex{6} }, nil},
		{"charged on a stopped channel", "stopped", stopped, func(r *PayeeRecord) { r.Charged += chunk }, charge},
		{"a close of a stopped channel", "stopped", stopped, closing, nil},
		{"gone on with", "stopped", stopped, func(r *PayeeRecord) { r.Stopped = "" }, nil},
		{"an older state held", "epoch", sellerBothWays, func(r *PayeeRecord) { r.Duplex = &Duplex{Held: Update{Epoch: 1, Amount: 3999, Signature: Hex{3}}} }, nil},
		{"another state of the same amount", "epoch", sellerBothWays, func(r *PayeeRecord) { r.Duplex = &Duplex{Held: Update{Epoch: 1, Amount: 4000, Signature: Hex{3}}} }, nil},
		{"asked back what was returned", "back-fell", func(r *PayeeRecord) { sellerBothWays(r); r.Duplex.Back = 5 }, sellerBothWays, nil},
		{"the states gone", "duplex", sellerBothWays, func(r *PayeeRecord) { r.Duplex = nil }, nil},
	} {
		old := seller()
		if row.old != nil {
			row.old(&old)
		}
		next := old
		row.change(&next)
		if row.step == nil {
			row.step = &Step{}
		}
		if got := brokenRule(next.Follows(&old, row.step)); got != row.rule {
			t.Errorf("%s: %q, want %q", row.name, got, row.rule)
		}
	}
}

// Each step that no payer's record may take has its name.
func TestPayerStepsViolate(t *testing.T) {
	refunding := func(r *PayerRecord) { r.Phase, r.Refund = Refunding, settledAt(0, 2000) }
	stopped := func(r *PayerRecord) { r.Stopped = "why" }
	for _, row := range []struct {
		name, rule string
		old        func(*PayerRecord)
		change     func(*PayerRecord)
	}{
		{"another outpoint", "terms", nil, func(r *PayerRecord) { r.Terms.Outpoint.Index++ }},
		{"back to prepared", "phase", nil, func(r *PayerRecord) { r.Phase = Prepared }},
		{"refunded is final", "phase", func(r *PayerRecord) { r.Phase = Refunded }, func(r *PayerRecord) { r.Phase = Open }},
		{"another key", "record", nil, func(r *PayerRecord) { r.KeyIndex++ }},
		{"a refund elsewhere", "record", nil, func(r *PayerRecord) { r.RefundScript = p2tr(0x66) }},
		{"another funding", "funding", nil, func(r *PayerRecord) { r.FundingTx = Hex{2} }},
		{"what left forgotten", "record", nil, func(r *PayerRecord) { r.FundingSent = false }},
		{"the refund's signature gone", "refund", func(r *PayerRecord) { r.RefundSig = Hex{1} }, func(r *PayerRecord) { r.RefundSig = nil }},
		{"signed falls", "signed-fell", nil, func(r *PayerRecord) { r.Signed, r.Signature = 4000, Hex{4} }},
		{"the ledger falls", "ledger-fell", nil, func(r *PayerRecord) { r.Owed-- }},
		{"two half-signatures for one amount", "signature", nil, func(r *PayerRecord) { r.Signature = Hex{6} }},
		{"signed rises on an old half-signature", "signature", nil, func(r *PayerRecord) { r.Signed++ }},
		{"signed when it is over", "final", func(r *PayerRecord) { r.Phase = Closed }, func(r *PayerRecord) { r.Signed, r.Signature = 6000, Hex{6} }},
		{"signed in an imported one", "imported", func(r *PayerRecord) { r.Imported = true }, func(r *PayerRecord) { r.Signed, r.Signature = 6000, Hex{6} }},
		{"the close forgotten", "close", func(r *PayerRecord) { r.Phase, r.Close = Closing, &PayerClose{Txid: "a"} }, func(r *PayerRecord) { r.Close = nil }},
		{"another close", "close", func(r *PayerRecord) { r.Phase, r.Close = Closing, &PayerClose{Txid: "a"} }, func(r *PayerRecord) { r.Close = &PayerClose{Txid: "b"} }},
		{"the refund forgotten", "refund", refunding, func(r *PayerRecord) { r.Refund = nil }},
		{"another refund", "refund", refunding, func(r *PayerRecord) { r.Refund = settledAt(0, 3000); r.Refund.Txid = "t" }},
		{"a refund at a lower rate", "rate-fell", refunding, func(r *PayerRecord) { r.Refund = settledAt(0, 1999) }},
		{"signed in a stopped channel", "stopped", stopped, func(r *PayerRecord) { r.Signed, r.Signature = 6000, Hex{6} }},
		{"verified in a stopped channel", "stopped", stopped, func(r *PayerRecord) { r.Owed++ }},
		{"gone on with", "stopped", stopped, func(r *PayerRecord) { r.Stopped = "" }},
		{"an older state sent", "epoch", buyerBothWays, func(r *PayerRecord) { r.Duplex = &Duplex{Sent: Update{Epoch: 1, Amount: 3999, Signature: Hex{3}}} }},
		{"the states gone", "duplex", buyerBothWays, func(r *PayerRecord) { r.Duplex = nil }},
	} {
		old := buyer()
		if row.old != nil {
			row.old(&old)
		}
		next := old
		row.change(&next)
		if got := brokenRule(next.Follows(&old)); got != row.rule {
			t.Errorf("%s: %q, want %q", row.name, got, row.rule)
		}
	}
}

// What a payer may not sign, for each reason.
func TestMaySign(t *testing.T) {
	lim := Limits{Budget: 50_000, Prepay: 1000}
	for _, row := range []struct {
		name, rule string
		change     func(*PayerRecord)
	}{
		{"what is owed", "", func(r *PayerRecord) { r.Owed, r.Signed = 6000*sat, 6000 }},
		{"what is due ahead", "", func(r *PayerRecord) { r.Signed = 6000 }},
		{"more ahead than allowed", "agreed", func(r *PayerRecord) { r.Signed = 6001 }},
		{"above the budget", "budget", func(r *PayerRecord) { r.Owed, r.Signed = 50_001*sat, 50_001 }},
		{"the same again", "signature", func(*PayerRecord) {}},
		{"less than before", "signed-fell", func(r *PayerRecord) { r.Signed = 4000 }},
		{"a channel that was given up", "void", func(r *PayerRecord) { r.GivenUp, r.FundingSent, r.Signed = true, false, 5500 }},
	} {
		old := buyer()
		if row.rule == "void" {
			old.FundingSent = false
		}
		next := old
		row.change(&next)
		next.Signature = nil
		if got := brokenRule(next.MaySign(&old, lim)); got != row.rule {
			t.Errorf("%s: %q, want %q", row.name, got, row.rule)
		}
	}
	old := buyer(buyerBothWays)
	for _, row := range []struct {
		name, rule string
		owed, sent uint64
		epoch      uint32
	}{
		{"what is owed", "", 5000 * sat, 5000, 1}, {"ahead", "", 4000 * sat, 5000, 1}, {"more ahead", "agreed", 4000 * sat, 5001, 1},
		{"the same again", "signed-fell", 4000 * sat, 4000, 1}, {"above the budget", "budget", 60_000 * sat, 60_000, 1},
	} {
		next := old
		next.Owed = row.owed
		next.Duplex = &Duplex{Sent: Update{Epoch: row.epoch, Amount: row.sent}}
		got := next.MaySign(&old, lim)
		if row.name == "the same again" {
			next.Duplex.Sent.Signature = old.Duplex.Sent.Signature
			got = next.MaySign(&old, lim)
		}
		if rule := brokenRule(got); rule != row.rule {
			t.Errorf("both ways, %s: %q, want %q", row.name, rule, row.rule)
		}
	}
}

// What the payee of a duplex channel may not sign, for each reason.
func TestPayeeMaySign(t *testing.T) {
	old := seller(sellerBothWays)
	old.Charged = 3000 * sat // 1,000 sat are to go back
	state := func(epoch uint32, amount uint64) *Duplex {
		return &Duplex{Held: old.Duplex.Held, Sent: Update{Epoch: epoch, Amount: amount}}
	}
	for _, row := range []struct {
		name, rule string
		old        func(*PayeeRecord)
		state      *Duplex
	}{
		{"what it owes", "", nil, state(2, capacity-3000)},
		{"more than it owes", "agreed", nil, state(2, capacity-2999)},
		{"in the payer's epoch", "epoch", nil, state(3, capacity-3000)},
		{"once more", "signed-fell", func(r *PayeeRecord) {
			r.Duplex = &Duplex{Held: r.Duplex.Held, Sent: Update{Epoch: 2, Amount: capacity - 3000}}
		}, state(2, capacity-3000)},
		{"in a closed channel", "final", func(r *PayeeRecord) { r.Phase = Closed }, state(2, capacity-3000)},
	} {
		was := old
		if row.old != nil {
			row.old(&was)
		}
		next := was
		next.Duplex = row.state
		if got := brokenRule(next.MaySign(&was)); got != row.rule {
			t.Errorf("%s: %q, want %q", row.name, got, row.rule)
		}
	}
	one := seller()
	if got := brokenRule(one.MaySign(&one)); got != "duplex" {
		t.Errorf("a payee signs in a channel that goes one way: %q", got)
	}
}

// What is saved for the first time.
func TestBegins(t *testing.T) {
	fresh := seller(func(r *PayeeRecord) { r.Phase, r.Paid, r.Charged = Funding, 0, 0 })
	wantNil(t, fresh.Begins())
	for rule, change := range map[string]func(*PayeeRecord){
		"phase":     func(r *PayeeRecord) { r.Phase = Settling },
		"record":    func(r *PayeeRecord) { r.Charged = 1 },
		"signature": func(r *PayeeRecord) { r.Signature = nil },
		"keys":      func(r *PayeeRecord) { r.Terms.PayerKey = r.Terms.PayeeKey },
	} {
		r := fresh
		change(&r)
		if got := brokenRule(r.Begins()); got != rule {
			t.Errorf("a payee's: %q, want %q", got, rule)
		}
	}
	mine := buyer(func(r *PayerRecord) { r.Phase, r.Signed, r.Owed, r.FundingSent = Prepared, 0, 0, false })
	wantNil(t, mine.Begins())
	for rule, change := range map[string]func(*PayerRecord){
		"phase":    func(r *PayerRecord) { r.Phase = Open },
		"record":   func(r *PayerRecord) { r.FundingTx = nil },
		"capacity": func(r *PayerRecord) { r.Terms.Capacity = 0 },
	} {
		r := mine
		change(&r)
		if got := brokenRule(r.Begins()); got != rule {
			t.Errorf("a payer's: %q, want %q", got, rule)
		}
	}
}

// The pool holds whatever newcomers owe, also where less is on sale than there was.
func TestPoolUnsound(t *testing.T) {
	pool := func(size uint64, places ...Place) Pool {
		p := Pool{Size: size, Places: map[string]Place{}}
		for i, place := range places {
			p.Places[string(rune('a'+i))] = place
		}
		return p
	}
	wantNil(t, pool(10, Place{Reserved: 5, Owed: 5}, Place{Reserved: 5}).Sound(Pool{}))
	old := pool(20, Place{Reserved: 10, Owed: 10}, Place{Reserved: 10})
	wantNil(t, pool(10, Place{Reserved: 10, Owed: 10}, Place{Reserved: 10}).Sound(old))
	for name, p := range map[string]Pool{
		"more than the pool":   pool(10, Place{Reserved: 6}, Place{Reserved: 5}),
		"more than the place":  pool(10, Place{Reserved: 1, Owed: 2}),
		"more than there was":  pool(10, Place{Reserved: 11}, Place{Reserved: 10}),
		"a debt without place": pool(10, Place{Owed: 11}),
	} {
		if got := brokenRule(p.Sound(pool(10, Place{Reserved: 1, Owed: 1}))); got != "pool" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// The words of a stop say what it means for the money, and it counts as an end.
func TestStoppedError(t *testing.T) {
	r, s := buyer(func(r *PayerRecord) { r.Stopped = "signed-fell: …" }), seller(func(r *PayeeRecord) { r.Stopped = "credit: …" })
	for _, err := range []error{r.Stop(), s.Stop()} {
		if !errors.Is(err, ErrStopped) || !errors.Is(err, ErrFinalized) {
			t.Errorf("%v", err)
		}
	}
	wantErr(t, r.CanBuy(1), ErrStopped)
	if !r.Void() || r.Stop().MayAct(SendFunding) || !r.Stop().MayAct(MakeRefund) || !s.Stop().MayAct(MakeSettlement) {
		t.Error("what a stopped channel may still do")
	}
	if r, s := buyer(), seller(); r.Stop() != nil || s.Stop() != nil || !r.Stop().MayAct(SendFunding) {
		t.Error("a channel is stopped without a reason")
	}
}

// All checks of a payment on a payee's side, and of one on a payer's.
func BenchmarkInvariants(b *testing.B) {
	old := seller()
	next := seller(func(r *PayeeRecord) { r.Paid, r.Signature, r.Charged = 6000, Hex{6}, 7000*sat })
	step := &Step{Charges: true, Credit: chunk, View: at(500)}
	b.Run("payee", func(b *testing.B) {
		for b.Loop() {
			if err := errors.Join(old.Sound(), next.Sound(), next.Follows(&old, step)); err != nil {
				b.Fatal(err)
			}
		}
	})
	was := buyer()
	now := buyer(func(r *PayerRecord) { r.Owed, r.Signed, r.Signature = 6000*sat, 6000, nil })
	signed := now
	signed.Signature = Hex{6}
	b.Run("payer", func(b *testing.B) {
		for b.Loop() {
			if err := errors.Join(was.Sound(), now.MaySign(&was, free), signed.Sound(), signed.Follows(&was)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
