package channel

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// leaving is an unconfirmed spend that is not known here and leaves the payee so much.
func leaving(sat, fee int64) func(*View) {
	return func(v *View) { v.Spend = &SpendView{Txid: "elsewhere", Fee: fee, VSize: 200, Leaves: sat} }
}

// What leaves the payee as much as its own settlement, or more, was completed by
// somebody who settles for it, and is not raced: not by a payee that knows less, and not
// by one that knows as much, as long as the fee is no lower than it has to be by now.
func TestNewerSettlementIsNotOutbid(t *testing.T) {
	for _, c := range []struct {
		name   string
		paid   uint64
		view   View
		phase  Phase
		reason SettlingReason
		do     string
	}{
		{"newer, long before the margin", 5000, at(200, leaving(9000, 400)), Open, "", ""},
		{"newer, cheap", 5000, at(200, leaving(9000, 20)), Open, "", ""},
		{"newer, within the margin", 5000, at(lastBlock+5, leaving(9000, 400)), Settling, AtMargin, ""},
		{"newer, the expiry is near and it waits at a low fee", 5000, at(expiry-lastBlocks, leaving(9000, 20)), Settling, AtMargin, "make-settlement"},
		{"newer, the expiry is near and its fee is that of the day", 5000, at(expiry-lastBlocks, leaving(9000, 400)), Settling, AtMargin, ""},
		{"as new, long before the margin", 5000, at(200, leaving(5000, 400)), Open, "", ""},
		{"as new, within the margin, too low", 5000, at(lastBlock+5, leaving(5000, 20)), Settling, AtMargin, "make-settlement"},
		{"as new, its fee has to rise by now", 5000, at(expiry-lastBlocks-1, leaving(5000, 400)), Settling, AtMargin, "make-settlement"},
		{"older by a satoshi", 5000, at(200, leaving(4999, 400)), Settling, SpendSeen, "make-settlement"},
		{"nothing is known of it", 5000, at(200, spentBy("x", 0)), Settling, SpendSeen, "make-settlement"},
		{"a refund", 5000, at(expiry, leaving(9000, 400), func(v *View) { v.Spend.Lock = expiry }), Settling, SpendSeen, "make-settlement"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(paid(c.paid))
			next, actions := r.Due(r.Terms.built(t), payout, c.view, policy())
			if next.Phase != c.phase || next.Reason != c.reason || kinds(actions) != c.do {
				t.Fatalf("phase %s, reason %q, actions %q; want %s, %q, %q", next.Phase, next.Reason, kinds(actions), c.phase, c.reason, c.do)
			}
		})
	}
}

// Every settlement that was made is known for the amount that it pays, the newest and
// those that were replaced; only what pays the newest amount pays all.
func TestKnowsItsSettlements(t *testing.T) {
	r := record(paid(1000), func(r *PayeeRecord) { r.Phase = Settling })
	for i := range maxMade + 20 {
		if i%10 == 0 {
			r.Paid += 10
		}
		r = r.Settles(Broadcast{Txid: fmt.Sprint(i), Amount: r.Paid, Rate: int64(1000 + i)})
	}
	if len(r.Made) != maxMade {
		t.Fatalf("%d are remembered", len(r.Made))
	}
	for i := range maxMade + 20 {
		amount, ok := r.made(fmt.Sprint(i))
		if i < 19 {
			if ok {
				t.Fatalf("settlement %d is still known", i)
			}
			continue
		}
		if want := uint64(1000 + 10*(i/10+1)); !ok || amount != want || r.PaidBy(fmt.Sprint(i)) != (amount == r.Paid) {
			t.Fatalf("settlement %d pays %d sat (%t), want %d", i, amount, ok, want)
		}
	}
	if again := r.Settles(*r.Settlement); len(again.Made) != maxMade {
		t.Fatal("the same settlement was replaced by itself")
	}
	// One that was replaced may be what is mined: it is no foreign spend.
	cheaper := record(paid(5000), settlement(1000, 5000, 200)).Settles(Broadcast{Txid: "dearer", Amount: 5000, Rate: 3000})
	next, actions := cheaper.Due(cheaper.Terms.built(t), payout, at(201, spentBy("settlement", 201)), policy())
	if next.Phase != Open || next.Reason != "" || len(actions) > 0 {
		t.Fatalf("phase %s, %q, %q", next.Phase, next.Reason, kinds(actions))
	}
}

// Whatever is in the mempool: a payee makes nothing that pays it less than what would
// be mined without it.
func TestNeverOutbidsWhatLeavesMore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r, v := drawPayee(rt)
		if v.Spend == nil || v.Spend.Height > 0 || v.Tip+lastBlocks >= expiry {
			return
		}
		v.Spend.Leaves = rapid.Int64Range(1, int64(capacity)).Draw(rt, "leaves")
		_, actions := r.Due(r.Terms.built(t), payout, v, policy())
		for _, a := range actions {
			if a.Kind == MakeSettlement && uint64(v.Spend.Leaves) > r.Paid && !r.own(v.Spend.Txid) {
				rt.Fatalf("%d sat outbid %d sat: %+v", r.Paid, v.Spend.Leaves, v.Spend)
			}
		}
	})
}
