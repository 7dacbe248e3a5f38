package channel

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/script"
)

// A restored payee does not race what it signed itself before: it would pay more fee
// for an older amount. A refund it races, and from the margin on anything.
func TestPitfall26_ForgottenCloseIsNotRaced(t *testing.T) {
	r := record(func(r *PayeeRecord) { r.Restored, r.Paid, r.Phase = true, 5000, Open })
	ch, err := r.Terms.Script()
	if err != nil {
		t.Fatal(err)
	}
	margin := r.Terms.Expiry - r.Terms.Margin
	for name, c := range map[string]struct {
		restored bool
		tip      uint32
		lock     uint32
		want     Phase
	}{
		"a close, forgotten":       {true, margin - 10, 0, Open},
		"a settlement, forgotten":  {true, margin - 1, 0, Open},
		"a close, at the margin":   {true, margin, 0, Settling},
		"the refund":               {true, margin - 10, r.Terms.Expiry, Settling},
		"a close, never restored":  {false, margin - 10, 0, Settling},
		"a refund, never restored": {false, margin - 10, r.Terms.Expiry, Settling},
	} {
		at := r
		at.Restored = c.restored
		v := View{Tip: c.tip, Rate: 1000, Funding: FundingView{Seen: true, Height: 1}, Spend: &SpendView{Txid: "x", Lock: c.lock, Fee: 200, VSize: 150}}
		next, actions := at.Due(ch, r.Terms.RestScript, v, DefaultPolicy("regtest"))
		if next.Phase != c.want || (len(actions) > 0) != (c.want == Settling) {
			t.Errorf("%s: phase %s, %v, want %s", name, next.Phase, actions, c.want)
		}
	}
	settling := r
	settling.Phase = Settling
	v := View{Tip: margin - 1, Rate: 1000, Funding: FundingView{Seen: true, Height: 1}, Spend: &SpendView{Txid: "newer", Fee: 200, VSize: 150}}
	if _, actions := settling.Due(ch, r.Terms.RestScript, v, DefaultPolicy("regtest")); len(actions) > 0 {
		t.Errorf("its own newer settlement is raced: %v", actions)
	}
	if d := (PayeeRecord{Restored: true, Terms: Terms{Construction: script.Duplex, Expiry: 100}}); d.signedBefore(View{Spend: &SpendView{}}) {
		t.Error("an older state of a duplex channel is spared")
	}
}

// In an imported channel nothing but the refund is signed. Pitfall 22.
func TestPitfall22_Imported(t *testing.T) {
	r := bought(func(r *PayerRecord) { r.Owed += 2000 })
	if _, _, err := r.Pay(0, Limits{Budget: MaxSat}); err != nil {
		t.Fatal(err)
	}
	r.Imported = true
	_, _, pay := r.Pay(0, Limits{Budget: MaxSat})
	_, _, last := r.PayLast(Limits{Budget: MaxSat})
	for name, err := range map[string]error{"pay": pay, "last": last, "buy": r.CanBuy(1), "close": r.CanClose()} {
		if !errors.Is(err, ErrFinalized) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !r.Void() {
		t.Error("its opening may leave")
	}
	var back PayerRecord
	roundTrip(t, r, &back)
	if !back.Imported {
		t.Error("forgotten when it was saved")
	}
}
