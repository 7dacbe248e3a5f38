package channel

import (
	"testing"

	"pgregory.net/rapid"
)

func owing(msat uint64) func(*PayerRecord) { return func(r *PayerRecord) { r.Owed = msat } }

func TestPayerPay(t *testing.T) {
	for _, c := range []struct {
		name   string
		signed uint64
		owed   uint64 // msat
		ahead  uint64 // msat
		lim    Limits
		amount uint64
		want   error
	}{
		{"nothing owed", 0, 0, 0, free, 0, nil},
		{"one chunk", 0, chunk, 0, free, 1000, nil},
		{"rounded up once", 0, chunk + 1, 0, free, 1001, nil},
		{"signed before", 1000, chunk, 0, free, 1000, nil},
		{"signed more before", 5000, chunk, 0, free, 5000, nil},
		{"ahead without leave", 0, chunk, chunk, free, 0, ErrPrepay},
		{"ahead by what is allowed", 0, chunk, chunk, Limits{Budget: MaxSat, Prepay: 1000}, 2000, nil},
		{"ahead by one more", 0, chunk, chunk + 1, Limits{Budget: MaxSat, Prepay: 1000}, 0, ErrPrepay},
		{"ahead, but covered by what was signed", 2000, chunk, chunk, free, 2000, nil},
		{"the budget", 0, chunk, 0, Limits{Budget: 1000}, 1000, nil},
		{"above the budget", 0, chunk + 1, 0, Limits{Budget: 1000}, 0, ErrBudget},
		{"above the capacity", 0, capacity*sat + 1, 0, free, 0, ErrAmountExceeds},
		{"above the capacity, with consent", 0, capacity*sat + 1, 0, Limits{Budget: MaxSat, Consent: true}, 0, ErrAmountExceeds},
		{"the whole capacity", 0, capacity * sat, 0, free, capacity, nil},
		{"a forbidden rest", 0, (capacity - 1) * sat, 0, free, 0, ErrAmountExceeds},
		{"a forbidden rest, with consent", 0, (capacity - 1) * sat, 0, Limits{Budget: MaxSat, Consent: true}, capacity, nil},
		{"with consent, above the budget", 0, (capacity - 1) * sat, 0, Limits{Budget: capacity - 1, Consent: true}, 0, ErrBudget},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bought(owing(c.owed), func(r *PayerRecord) { r.Signed = c.signed })
			next, amount, err := r.Pay(c.ahead, c.lim)
			if c.want != nil {
				wantErr(t, err, c.want)
				same(t, "record", next, r)
				return
			}
			wantNil(t, err)
			if amount != c.amount || next.Signed != c.amount {
				t.Fatalf("signs %d, record %d; want %d", amount, next.Signed, c.amount)
			}
			if amount > c.signed && len(next.Signature) > 0 {
				t.Fatal("the old signature stands for the new amount")
			}
			if amount == c.signed && len(next.Signature) == 0 {
				t.Fatal("the signature was dropped without need")
			}
			if next.Owed != c.owed {
				t.Fatalf("the ledger became %d", next.Owed)
			}
		})
	}
}

// TestPitfall67_MinimumChargeLast ◆: the minimum charge is a floor on the total, due
// with the last update only; it is no charge, and later purchases use it up.
func TestPitfall67_MinimumChargeLast(t *testing.T) {
	r := bought()
	for i := uint64(1); i <= 2; i++ { // 500 sat each, F is 2000
		var err error
		r, err = r.Verified(500 * sat)
		wantNil(t, err)
		next, amount, err := r.Pay(0, free)
		wantNil(t, err)
		if amount != 500*i {
			t.Fatalf("asked for early: %d sat for %d chunks", amount, i)
		}
		r = next
	}
	last, amount, err := r.PayLast(free)
	wantNil(t, err)
	if amount != 2000 || last.Signed != 2000 {
		t.Fatalf("the last update is %d sat, F is 2000", amount)
	}
	if last.Owed != 1000*sat {
		t.Fatalf("the minimum charge was booked as a fee: the ledger is %d msat", last.Owed)
	}
	again, amount, err := last.PayLast(free) // repeated after a crash: the same
	wantNil(t, err)
	if amount != 2000 || again.Signed != 2000 {
		t.Fatalf("a repeat signs %d", amount)
	}
	// The next purchase uses it up before anything more is signed.
	more, err := last.Verified(chunk)
	wantNil(t, err)
	more, amount, err = more.Pay(0, free)
	wantNil(t, err)
	if amount != 2000 {
		t.Fatalf("after a chunk of 1000 sat on 1000 unused ones the payer signs %d", amount)
	}
	if more, err = more.Verified(1); err != nil {
		t.Fatal(err)
	}
	if _, amount, err = more.Pay(0, free); err != nil || amount != 2001 {
		t.Fatalf("%d, %v", amount, err)
	}
	// The payee's side: charged does not change with it, and it can be delivered on.
	p := record(func(p *PayeeRecord) { p.Charged, p.Paid = 1000*sat, 1000 })
	out := p.Pay(Payment{Update: &Update{Amount: 2000}}, at(200), Pool{})
	wantNil(t, out.Refusal)
	if out.Record.Charged != 1000*sat {
		t.Fatalf("charged %d msat", out.Record.Charged)
	}
}

// The last update is the largest of what was signed, what is owed, and F, but F
// never takes it above capacity − dust, nor anything above the budget.
func TestPayLast(t *testing.T) {
	for _, c := range []struct {
		name                      string
		signed, owed, f, capacity uint64 // sat, msat, sat, sat
		budget                    uint64
		amount                    uint64
		want                      error
	}{
		{"F", 0, 1, 2000, capacity, MaxSat, 2000, nil},
		{"owed is more", 0, 3000 * sat, 2000, capacity, MaxSat, 3000, nil},
		{"signed is more", 4000, 3000 * sat, 2000, capacity, MaxSat, 4000, nil},
		{"F is more than capacity − dust", 0, 100 * sat, 5000, 2000, MaxSat, 1670, nil},
		{"the capacity is below dust", 0, 0, 5000, 300, MaxSat, 0, nil},
		{"owed is the capacity", 0, 2000 * sat, 5000, 2000, MaxSat, 2000, nil},
		{"above the budget", 0, 1, 2000, capacity, 1999, 0, ErrBudget},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bought(owing(c.owed), func(r *PayerRecord) {
				r.Signed, r.Terms.MinimumCharge, r.Terms.Capacity = c.signed, c.f, c.capacity
			})
			_, amount, err := r.PayLast(Limits{Budget: c.budget})
			if c.want != nil {
				wantErr(t, err, c.want)
				return
			}
			wantNil(t, err)
			if amount != c.amount {
				t.Fatalf("%d, want %d", amount, c.amount)
			}
			if amount > 0 {
				wantNil(t, r.Terms.CheckAmount(amount))
			}
		})
	}
}

// TestPitfall59_NothingAtOpening: an honest payer signs nothing before it has
// received something, whatever the payee asks for, unless it was allowed to.
func TestPitfall59_NothingAtOpening(t *testing.T) {
	r := bought(func(r *PayerRecord) { r.Phase, r.Terms.MinimumCharge = Funding, 10_542 })
	if _, amount, err := r.Pay(0, free); err != nil || amount != 0 {
		t.Fatalf("%d sat, %v", amount, err)
	}
	for _, ahead := range []uint64{1, chunk, 10_542 * sat} {
		_, _, err := r.Pay(ahead, free)
		wantErr(t, err, ErrPrepay)
	}
	// And a payee gives nothing for a fresh channel but a place in the pool.
	p := newcomer(1)
	wantErr(t, p.Pay(ask(chunk), at(200), Pool{}).Refusal, ErrInsufficient)
}

// TestPitfall22_SignedIsSpent: what was ever signed counts as spent, whether or
// not the answer came; a later amount is never lower.
func TestPitfall22_SignedIsSpent(t *testing.T) {
	r := bought(owing(5000 * sat))
	r, amount, err := r.Pay(0, free)
	wantNil(t, err)
	r = r.SetSignature([]byte{5})
	if amount != 5000 || r.Refundable() != capacity-5000 {
		t.Fatalf("%d, refundable %d", amount, r.Refundable())
	}
	for _, owed := range []uint64{0, 1, 4999 * sat, 5000 * sat} {
		lost := r
		lost.Owed = owed
		next, amount, err := lost.Pay(0, free)
		wantNil(t, err)
		if amount != 5000 || next.Signed != 5000 || next.Signature.String() != "05" {
			t.Fatalf("after 5000 sat it signed %d", amount)
		}
	}
	if r.Unpaid() != 0 {
		t.Fatalf("unpaid %d", r.Unpaid())
	}
}

// TestPitfall26_Resumed: a payer with lost or old state takes the payee's newest
// update when it is its own signature, and counts it as spent.
func TestPitfall26_Resumed(t *testing.T) {
	r := bought(owing(1000*sat), func(r *PayerRecord) { r.Signed = 1000 })
	ch := r.Terms.built(t)
	next, changed, err := r.Resumed(ch, half(t, r.Terms, 7000))
	wantNil(t, err)
	if !changed || next.Signed != 7000 || next.Owed != 7000*sat {
		t.Fatalf("%+v", next)
	}
	forged := half(t, r.Terms, 7000)
	forged.Amount = 8000
	if next, changed, err = r.Resumed(ch, forged); changed || err == nil {
		t.Fatal("a forged update was taken")
	}
	wantErr(t, err, ErrSignature)
	same(t, "record", next, r)
	_, _, err = r.Resumed(ch, Update{Amount: capacity + 1})
	wantErr(t, err, ErrAmountExceeds)
	if next, changed, err = r.Resumed(ch, Update{Amount: 900}); changed || err != nil {
		t.Fatalf("an older update: %v", err)
	}
	same(t, "record", next, r)
}

// TestPitfall08_NothingLeavesPrepared: in phase prepared nothing is sent, asked for
// or signed; T1 is sent again only once it may have left.
func TestPitfall08_NothingLeavesPrepared(t *testing.T) {
	r := bought(func(r *PayerRecord) { r.Phase, r.FundingSent = Prepared, false })
	ch := r.Terms.built(t)
	for _, v := range []View{{Tip: 200}, at(200), at(expiry + 5), {Tip: 200, Funding: FundingView{ConflictDepth: 9}}} {
		next, actions := r.Due(ch, v, policy())
		if len(actions) > 0 {
			t.Fatalf("%q", kinds(actions))
		}
		same(t, "record", next, r)
	}
	owing := r
	owing.Owed = chunk
	_, _, err := owing.Pay(0, free)
	wantErr(t, err, ErrFinalized)
	wantErr(t, r.CanBuy(chunk), ErrFinalized)
}

func TestPayerPhases(t *testing.T) {
	for phase, ok := range map[Phase]bool{
		Prepared: false, Funding: true, Open: true, Settling: true, Closing: false, Refunding: false, Closed: false, Refunded: false, Abandoned: false,
	} {
		r := bought(owing(chunk), func(r *PayerRecord) { r.Phase = phase })
		if _, _, err := r.Pay(0, free); (err == nil) != ok {
			t.Errorf("paying in phase %s: %v", phase, err)
		}
		buys := phase == Funding || phase == Open
		if err := r.CanBuy(chunk); (err == nil) != buys {
			t.Errorf("buying in phase %s: %v", phase, err)
		}
	}
}

// The payer asks for nothing that it could not pay: CanBuy holds exactly where
// paying for it afterwards would.
func TestCanBuyProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := bought(owing(rapid.Uint64Range(0, capacity*sat).Draw(rt, "owed")))
		if CeilSat(r.Owed) <= r.Terms.Payable(capacity-1) {
			r.Signed = rapid.Uint64Range(0, CeilSat(r.Owed)).Draw(rt, "signed")
		}
		price := rapid.Uint64Range(1, 5*chunk).Draw(rt, "price")
		err := r.CanBuy(price)
		after, verr := r.Verified(price)
		wantNil(t, verr)
		if _, _, perr := after.Pay(0, free); (err == nil) != (perr == nil) {
			rt.Fatalf("CanBuy says %v, paying %v", err, perr)
		}
	})
}
