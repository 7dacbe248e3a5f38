package channel

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/script"
)

func kinds(actions []Action) (s string) {
	for i, a := range actions {
		if i > 0 {
			s += " "
		}
		s += string(a.Kind)
	}
	return s
}

func paid(amount uint64) func(*PayeeRecord) {
	return func(r *PayeeRecord) { r.Paid, r.Signature = amount, Hex{1} }
}

func settlement(rate script.FeeRate, amount uint64, tip uint32) func(*PayeeRecord) {
	return func(r *PayeeRecord) { r.Settlement = saved(Action{Rate: rate}, amount, tip) }
}

func agreed(amount uint64, tip uint32, final Hex) func(*PayeeRecord) {
	return func(r *PayeeRecord) {
		r.Phase, r.Close = Closing, &PayeeClose{Amount: amount, Txid: "close", Height: tip, FinalTx: final}
	}
}

func TestPayeeDue(t *testing.T) {
	settling := func(r *PayeeRecord) { r.Phase = Settling }
	v2 := func(r *PayeeRecord) { r.Terms.TxVersion = 2 }
	unseen := func(depth uint32) View {
		return View{Tip: 200, Rate: perVB, Funding: FundingView{ConflictDepth: depth}}
	}
	deep := at(fundedAt + 5)
	for _, c := range []struct {
		name   string
		record PayeeRecord
		view   View
		phase  Phase
		reason SettlingReason
		do     string
	}{
		{"open and quiet", record(paid(5000)), deep, Open, "", ""},
		{"funding gets deep", record(func(r *PayeeRecord) { r.Phase = Funding }), deep, Open, "", ""},
		{"funding not deep", record(func(r *PayeeRecord) { r.Phase = Funding }), at(200, unconfirmed), Funding, "", ""},
		{"a reorg below the depth keeps the phase", record(), at(200, unconfirmed), Open, "", ""},
		{"T1 gone: sent again", record(func(r *PayeeRecord) { r.FundingTx = Hex{7} }), unseen(0), Open, "", "send-funding"},
		{"T1 gone, not known", record(), unseen(0), Open, "", ""},
		{"T1's input spent, not deep", record(func(r *PayeeRecord) { r.FundingTx = Hex{7} }), unseen(6), Open, "", "send-funding"},
		{"T1's input spent, deep", record(func(r *PayeeRecord) { r.FundingTx = Hex{7} }), unseen(7), Abandoned, "", ""},
		{"last quiet block", record(paid(5000)), at(lastBlock), Open, "", ""},
		{"at the margin", record(paid(5000)), at(lastBlock + 1), Settling, AtMargin, "make-settlement"},
		{"at the margin, nothing paid", record(), at(lastBlock + 1), Open, "", ""},
		{"a foreign spend is seen", record(paid(5000)), at(200, spentBy("refund", 0)), Settling, SpendSeen, "make-settlement"},
		{"a foreign spend is mined", record(paid(5000)), at(200, spentBy("refund", 200)), Settling, SpendSeen, ""},
		{"any spend is buried", record(paid(5000)), at(206, spentBy("x", 200)), Closed, "", ""},
		{"a spend is nearly buried", record(paid(5000), settling), at(205, spentBy("x", 200)), Settling, "", ""},
		{"settling, first", record(paid(5000), settling), deep, Settling, "", "make-settlement"},
		{"settling, saved before", record(paid(5000), settling, settlement(1000, 5000, 105)), deep, Settling, "", "send"},
		{"settling, in the mempool", record(paid(5000), settling, settlement(1000, 5000, 105)), at(105, spentBy("settlement", 0)), Settling, "", ""},
		{"settling, more was paid", record(paid(6000), settling, settlement(1000, 5000, 105)), at(105, spentBy("settlement", 0)), Settling, "", "make-settlement"},
		{"settling, more was paid, and the coin that helped is not lent any more", record(paid(500), settling, settlement(1500, 480, 105)), at(105), Settling, "", "send"},
		{"settling over an unconfirmed T1, version 3", record(paid(5000), settling), at(200, unconfirmed), Settling, "", ""},
		{"version 3, the last block before the margin", record(paid(5000), settling), at(lastBlock, unconfirmed), Settling, "", ""},
		{"version 3, within the margin: a node is asked", record(paid(5000)), at(lastBlock+1, unconfirmed), Settling, AtMargin, "make-settlement"},
		{"settling over an unconfirmed T1, version 2", record(paid(5000), settling, v2), at(200, unconfirmed), Settling, "", "make-settlement"},
		{"settling, not worth a fee", record(paid(330), settling), deep, Settling, "", ""},
		{"closing, waits", record(paid(5000), agreed(5000, 200, nil)), at(202), Closing, "", ""},
		{"closing, sends the close", record(paid(5000), agreed(5000, 200, Hex{9})), at(202), Closing, "", "send"},
		{"closing, unseen for long", record(paid(5000), agreed(5000, 200, nil)), at(203), Closing, CloseUnseen, "make-settlement"},
		{"closing, seen in the mempool", record(paid(5000), agreed(5000, 200, nil)), at(300, spentBy("close", 0)), Closing, "", ""},
		{"closing, stuck in the mempool at the margin", record(paid(5000), agreed(5000, 200, nil)), at(lastBlock+1, spentBy("close", 0)), Closing, CloseUnseen, "make-settlement"},
		{"closing, mined", record(paid(5000), agreed(5000, 200, nil)), at(lastBlock+1, spentBy("close", lastBlock)), Closing, "", ""},
		{"closing, buried", record(paid(5000), agreed(5000, 200, nil)), at(306, spentBy("close", 300)), Closed, "", ""},
		{"closed", record(paid(5000), func(r *PayeeRecord) { r.Phase = Closed }), at(lastBlock + 1), Closed, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, actions := c.record.Due(c.record.Terms.built(t), payout, c.view, policy())
			if next.Phase != c.phase || next.Reason != c.reason || kinds(actions) != c.do {
				t.Fatalf("phase %s, reason %q, actions %q; want %s, %q, %q", next.Phase, next.Reason, kinds(actions), c.phase, c.reason, c.do)
			}
		})
	}
}

func TestPayerDue(t *testing.T) {
	phase := func(p Phase) func(*PayerRecord) { return func(r *PayerRecord) { r.Phase = p } }
	refund := func(rate int64, tip uint32) func(*PayerRecord) {
		return func(r *PayerRecord) { r.Refund = &Broadcast{Tx: Hex{1}, Txid: "refund", Rate: rate, Height: tip} }
	}
	closes := func(r *PayerRecord) { r.Phase, r.Close = Closing, &PayerClose{Tx: Hex{8}, Txid: "close"} }
	v2 := func(r *PayerRecord) { r.Terms.TxVersion = 2 }
	unseen := func(depth uint32) View {
		return View{Tip: 200, Rate: perVB, Funding: FundingView{ConflictDepth: depth}}
	}
	for _, c := range []struct {
		name   string
		record PayerRecord
		view   View
		phase  Phase
		do     string
	}{
		{"prepared: nothing has left, nothing leaves", bought(phase(Prepared)), unseen(0), Prepared, ""},
		{"funding, T1 not sent yet", bought(phase(Funding), func(r *PayerRecord) { r.FundingSent = false }), unseen(0), Funding, ""},
		{"funding, T1 lost", bought(phase(Funding)), unseen(0), Funding, "send-funding"},
		{"T1 seen and deep", bought(phase(Funding)), at(200), Open, ""},
		{"T1's input spent, deep", bought(phase(Funding)), unseen(7), Abandoned, ""},
		{"T1's input spent, not deep", bought(phase(Funding)), unseen(6), Funding, "send-funding"},
		{"before the expiry", bought(), at(expiry - 1), Open, ""},
		{"at the expiry", bought(), at(expiry), Refunding, "make-refund"},
		{"refund saved", bought(refund(1000, expiry)), at(expiry), Refunding, "send"},
		{"refund in the mempool", bought(refund(1000, expiry)), at(expiry, spentBy("refund", 0)), Refunding, ""},
		{"refund not mined in the next block: dearer", bought(refund(1000, expiry), signed(5000)), at(expiry+1, spentBy("refund", 0)), Refunding, "make-refund"},
		{"nobody has anything against it: not dearer", bought(refund(1000, expiry)), at(expiry+1, spentBy("refund", 0)), Refunding, ""},
		{"dearer than what was signed: not dearer", bought(refund(40_000, expiry), signed(5000)), at(expiry+1, spentBy("refund", 0)), Refunding, ""},
		{"refund mined", bought(refund(1000, expiry), phase(Refunding)), at(expiry+1, spentBy("refund", expiry+1)), Refunding, ""},
		{"refund buried", bought(refund(1000, expiry)), at(expiry+7, spentBy("refund", expiry+1)), Refunded, ""},
		{"the payee's settlement comes first", bought(), at(expiry, spentBy("settlement", 0)), Open, ""},
		{"the payee's settlement is buried", bought(refund(1000, expiry)), at(expiry+7, spentBy("settlement", expiry+1)), Closed, ""},
		{"a close is sent again", bought(closes), at(300), Closing, "send"},
		{"a close is in the mempool", bought(closes), at(300, spentBy("close", 0)), Closing, ""},
		{"a close was never mined: refund", bought(closes), at(expiry), Refunding, "make-refund"},
		{"refund over an unconfirmed T1, version 3", bought(), at(expiry, unconfirmed), Refunding, ""},
		{"refund over an unconfirmed T1, version 2", bought(v2), at(expiry, unconfirmed), Refunding, "make-refund"},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, actions := c.record.Due(c.record.Terms.built(t), c.view, policy())
			if next.Phase != c.phase || kinds(actions) != c.do {
				t.Fatalf("phase %s, actions %q; want %s, %q", next.Phase, kinds(actions), c.phase, c.do)
			}
		})
	}
}

// TestPitfall13_Outbids: a settlement that comes after the refund pays enough to take
// its place in a mempool, also where it was made before at less, and never more
// than is at stake.
func TestPitfall13_Outbids(t *testing.T) {
	for _, c := range []struct{ fee, size int64 }{{138, 138}, {1380, 138}, {138, 1000}, {20_000, 138}} {
		for _, last := range []func(*PayeeRecord){func(*PayeeRecord) {}, settlement(1000, 40_000, expiry-1)} {
			r := record(paid(40_000), last)
			ch := r.Terms.built(t)
			v := at(expiry, spentBy("refund", 0))
			v.Spend.Fee, v.Spend.VSize = c.fee, c.size
			next, actions := r.Due(ch, payout, v, policy())
			if kinds(actions) != "make-settlement" {
				t.Fatalf("%q", kinds(actions))
			}
			size := ch.SettlementVSize(int64(capacity-r.Paid), payout)
			fee, rate := actions[0].Rate.Fee(size), int64(actions[0].Rate)
			if fee < c.fee+size || rate*c.size <= c.fee*1000 || fee > 40_000-330 {
				t.Fatalf("a fee of %d for %d vB against %d for %d", fee, size, c.fee, c.size)
			}
			next.Settlement = saved(actions[0], next.Paid, v.Tip)
			if _, again := next.Due(ch, payout, v, policy()); kinds(again) != "send" {
				t.Fatalf("asked again: %q", kinds(again))
			}
		}
	}
	r := record(paid(5000))
	v := at(expiry, spentBy("refund", 0))
	v.Spend.Fee, v.Spend.VSize = 90_000, 138 // the refund burns more than there is to win
	_, actions := r.Due(r.Terms.built(t), payout, v, policy())
	if len(actions) != 1 || actions[0].Rate != limitOf(r.Terms.built(t), r) {
		t.Fatalf("%+v", actions)
	}
}

// A spend that a reorg takes away is no spend: what is due is due again.
func TestReorgAsksAgain(t *testing.T) {
	r := record(paid(5000), settlement(1000, 5000, lastBlock+1))
	ch := r.Terms.built(t)
	r, actions := r.Due(ch, payout, at(lastBlock+1, spentBy("settlement", lastBlock+1)), policy())
	if r.Phase != Settling || len(actions) > 0 {
		t.Fatalf("mined: %s, %q", r.Phase, kinds(actions))
	}
	r, actions = r.Due(ch, payout, at(lastBlock+1), policy())
	if kinds(actions) != "send" || r.SpentBy != "" {
		t.Fatalf("after the reorg: %q, spent by %q", kinds(actions), r.SpentBy)
	}
}

// drawPayee is any record and view that the watch may meet.
func drawPayee(t *rapid.T) (PayeeRecord, View) {
	r := record()
	r.Phase = rapid.SampledFrom([]Phase{Funding, Open, Settling, Closing, Closed, Abandoned}).Draw(t, "phase")
	r.Paid = rapid.SampledFrom([]uint64{0, 1, 400, 5000, 50_000, capacity - dustP2TR, capacity}).Draw(t, "paid")
	r.Terms.TxVersion = rapid.Int32Range(2, 3).Draw(t, "version")
	if rapid.Bool().Draw(t, "T1 is known") {
		r.FundingTx = Hex{7}
	}
	if rapid.Bool().Draw(t, "has a settlement") {
		settlement(script.FeeRate(rapid.Int64Range(1, 300_000).Draw(t, "rate")), rapid.SampledFrom([]uint64{r.Paid, r.Paid / 2}).Draw(t, "settled"),
			rapid.Uint32Range(100, expiry+20).Draw(t, "settled at"))(&r)
	}
	if r.Phase == Closing {
		agreed(r.Paid, rapid.Uint32Range(100, expiry).Draw(t, "closed at"), rapid.SampledFrom([]Hex{nil, {9}}).Draw(t, "final"))(&r)
	}
	return r, drawView(t)
}

func drawView(t *rapid.T) View {
	v := View{Tip: rapid.Uint32Range(fundedAt, expiry+30).Draw(t, "tip"), Rate: script.FeeRate(rapid.Int64Range(0, 400_000).Draw(t, "going rate"))}
	v.Funding.Seen = rapid.Bool().Draw(t, "seen")
	if v.Funding.Seen && rapid.Bool().Draw(t, "mined") {
		v.Funding.Height = rapid.Uint32Range(fundedAt, v.Tip).Draw(t, "height")
	} else if !v.Funding.Seen {
		v.Funding.ConflictDepth = rapid.Uint32Range(0, 8).Draw(t, "conflict")
	}
	if rapid.Bool().Draw(t, "spent") {
		v.Spend = &SpendView{Txid: rapid.SampledFrom([]string{"settlement", "close", "refund", "other"}).Draw(t, "by")}
		v.Spend.Fee, v.Spend.VSize = rapid.Int64Range(-1, 100_000).Draw(t, "spend's fee"), rapid.Int64Range(0, 500).Draw(t, "spend's size")
		if rapid.Bool().Draw(t, "spend mined") {
			v.Spend.Height = rapid.Uint32Range(fundedAt, v.Tip).Draw(t, "spend height")
		}
	}
	return v
}

// Due is level triggered: asked again with the same view, before or after its
// actions were saved, it changes nothing and makes nothing anew.
func TestDueIsIdempotent(t *testing.T) {
	payeeCh, payerCh := terms().built(t), terms().built(t)
	rapid.Check(t, func(rt *rapid.T) {
		r, v := drawPayee(rt)
		once, actions := r.Due(payeeCh, payout, v, policy())
		twice, again := once.Due(payeeCh, payout, v, policy())
		same(t, "payee's record", twice, once)
		same(t, "payee's actions", again, actions)
		for _, a := range actions {
			if a.Kind != MakeSettlement {
				continue
			}
			once.Settlement = saved(a, once.Paid, v.Tip)
			if _, after := once.Due(payeeCh, payout, v, policy()); kinds(after) == kinds(actions) && len(actions) == 1 && after[0].Kind == MakeSettlement {
				rt.Fatalf("made twice in one view: %+v", after)
			}
		}
		b := bought()
		b.Phase = rapid.SampledFrom([]Phase{Prepared, Funding, Open, Settling, Closing, Refunding, Refunded}).Draw(rt, "payer's phase")
		if rapid.Bool().Draw(rt, "has a refund") {
			b.Refund = &Broadcast{Tx: Hex{1}, Txid: "refund", Rate: rapid.Int64Range(1, 900_000).Draw(rt, "refund rate"), Height: rapid.Uint32Range(expiry, expiry+20).Draw(rt, "refund tip")}
		}
		first, do := b.Due(payerCh, v, policy())
		second, redo := first.Due(payerCh, v, policy())
		same(t, "payer's record", second, first)
		same(t, "payer's actions", redo, do)
	})
}

// TestPitfall35_RatesNeverFall (and 30): from one broadcast to the next the rate never falls,
// a replacement pays at least 1 sat/vB more, the fee stays within the stake, and
// the whole stake is reached in time where nothing less gets mined.
func TestPitfall35_RatesNeverFall(t *testing.T) {
	ch := terms().built(t)
	rapid.Check(t, func(rt *rapid.T) {
		r := record(paid(rapid.Uint64Range(600, capacity/2).Draw(rt, "paid")), func(r *PayeeRecord) { r.Phase = Settling })
		prev, prevAmount := script.FeeRate(0), uint64(0)
		for tip := lastBlock - 5; tip < expiry+20; tip++ {
			if rapid.IntRange(0, 4).Draw(rt, "pays") == 0 {
				r.Paid += rapid.Uint64Range(1, 2000).Draw(rt, "more")
			}
			v := at(tip)
			v.Rate = script.FeeRate(rapid.Int64Range(1000, 60_000).Draw(rt, "going rate"))
			var actions []Action
			r, actions = r.Due(ch, payout, v, policy())
			for _, a := range actions {
				if a.Kind != MakeSettlement {
					continue
				}
				if a.Rate < prev || a.Rate < prev+1000 && a.Rate != limitOf(ch, r) || a.Rate == prev && prevAmount == r.Paid {
					rt.Fatalf("height %d: %v after %v", tip, a.Rate, prev)
				}
				size := ch.SettlementVSize(int64(capacity-r.Paid), payout)
				if fee := a.Rate.Fee(size); fee > int64(r.Paid)-int64(dustP2TR) {
					rt.Fatalf("a fee of %d sat for %d sat", fee, r.Paid)
				}
				prev, prevAmount, r.Settlement = a.Rate, r.Paid, saved(a, r.Paid, tip)
			}
		}
		if prev == 0 {
			rt.Fatal("never settled")
		}
	})
}

// TestPitfall34_Climbs: outside the margin the same settlement is sent again. Within it
// the rate stands while it could still reach what is at stake in time, and then
// rises with every block; R + 2 blocks before the expiry it is there.
func TestPitfall34_Climbs(t *testing.T) {
	r := record(paid(50_000), func(r *PayeeRecord) { r.Phase = Settling })
	ch := r.Terms.built(t)
	limit := limitOf(ch, r)
	var last script.FeeRate
	var began uint32
	for tip := uint32(200); tip < expiry; tip++ {
		next, actions := r.Due(ch, payout, at(tip), policy())
		switch kinds(actions) {
		case "make-settlement":
			rate := actions[0].Rate
			if tip > 200 && (rate < last+1000 && rate != limit || rate > max(last+1000, last*5/4)) {
				t.Fatalf("height %d: %v after %v", tip, rate, last)
			}
			if tip > 200 && began == 0 {
				began = tip
			}
			last = rate
			next.Settlement = saved(actions[0], r.Paid, tip)
		case "send":
			if began > 0 && last != limit {
				t.Fatalf("height %d: %v again, the stake allows %v", tip, last, limit)
			}
		default:
			t.Fatalf("height %d: %q", tip, kinds(actions))
		}
		if tip == expiry-lastBlocks && last != limit {
			t.Fatalf("height %d: %v, the stake allows %v", tip, last, limit)
		}
		r = next
	}
	if blocks := expiry - lastBlocks - began; began <= lastBlock || blocks > 24 || blocks < 10 {
		t.Fatalf("the rate rises from height %d on, for %d blocks", began, blocks)
	}
}

func limitOf(ch *script.Channel, r PayeeRecord) script.FeeRate {
	return stakeRate(int64(r.Paid)-int64(dustP2TR), ch.SettlementVSize(int64(r.Terms.Capacity-r.Paid), payout))
}

func signed(sat uint64) func(*PayerRecord) { return func(r *PayerRecord) { r.Signed = sat } }
