package channel

import (
	"errors"
	"testing"
)

func TestPay(t *testing.T) {
	for _, c := range []struct {
		name                 string
		paid, charged        uint64
		pay                  Payment
		view                 View
		want                 error
		wantPaid, wantCharge uint64
	}{
		{"first chunk on credit", 0, 0, ask(chunk), at(200), nil, 0, chunk},
		{"credit used up", 0, chunk, ask(chunk), at(200), ErrInsufficient, 0, chunk},
		{"one msat above the credit", 0, 1, ask(chunk), at(200), ErrInsufficient, 0, 1},
		{"paid with the request", 0, chunk, ask(chunk, 1000), at(200), nil, 1000, 2 * chunk},
		{"paid ahead", 2000, 0, ask(2 * chunk), at(200), nil, 2000, 2 * chunk},
		{"an update that is too small still counts", 0, chunk, ask(chunk, 999), at(200), ErrInsufficient, 999, chunk},
		{"charged before: free", 0, chunk, ask(0), at(200), nil, 0, chunk},
		{"charged before, over credit: free", 0, 9 * chunk, ask(0), at(200), nil, 0, 9 * chunk},
		{"a price above credit and paid", 0, 0, ask(chunk + 1), at(200), ErrInsufficient, 0, 0},
		{"last tip", 0, 0, ask(chunk), at(lastBlock), nil, 0, chunk},
		{"at the margin", 0, 0, ask(chunk), at(lastBlock + 1), ErrExpiring, 0, 0},
		{"charged before, at the margin", 0, chunk, ask(0), at(lastBlock + 1), ErrExpiring, 0, chunk},
		{"output being spent", 0, 0, ask(chunk), at(200, spentBy("x", 0)), ErrExpiring, 0, 0},
		{"T1 not seen", 0, 0, ask(chunk), View{Tip: 200}, ErrUnconfirmed, 0, 0},
		{"T1 unconfirmed", 0, 0, ask(chunk), at(200, unconfirmed), ErrUnconfirmed, 0, 0},
		{"something free over an unconfirmed T1", 0, 0, ask(0), at(200, unconfirmed), ErrUnconfirmed, 0, 0},
		{"payment alone", 0, chunk, Payment{Update: &Update{Amount: 7}}, at(200), nil, 7, chunk},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(func(r *PayeeRecord) { r.Paid, r.Charged = c.paid, c.charged })
			out := r.Pay(c.pay, c.view, Pool{})
			if !errors.Is(out.Refusal, c.want) {
				t.Fatalf("refusal %v, want %v", out.Refusal, c.want)
			}
			if out.Record.Paid != c.wantPaid || out.Record.Charged != c.wantCharge {
				t.Fatalf("paid %d, charged %d; want %d, %d", out.Record.Paid, out.Record.Charged, c.wantPaid, c.wantCharge)
			}
			if changed := c.wantPaid != c.paid || c.wantCharge != c.charged; changed && !out.RecordChanged {
				t.Fatal("a change is not reported for saving")
			}
			if r.Paid != c.paid || r.Charged != c.charged {
				t.Fatal("the rule changed its argument")
			}
		})
	}
}

// The refusal for want of money names the amount that would be enough, and
// exactly that amount is.
func TestInsufficientNamesWhatIsEnough(t *testing.T) {
	for _, charged := range []uint64{chunk, chunk + 1, 3*chunk + 500, 7 * chunk} {
		r := record(func(r *PayeeRecord) { r.Charged, r.Paid = charged, charged/1000-1000 })
		out := r.Pay(ask(chunk), at(200), Pool{})
		var e *InsufficientError
		if !errors.As(out.Refusal, &e) {
			t.Fatalf("refusal %v", out.Refusal)
		}
		if out := r.Pay(ask(chunk, e.Required-1), at(200), Pool{}); !errors.Is(out.Refusal, ErrInsufficient) {
			t.Errorf("charged %d: one less than %d sat was enough: %v", charged, e.Required, out.Refusal)
		}
		wantNil(t, r.Pay(ask(chunk, e.Required), at(200), Pool{}).Refusal)
	}
}

// TestPitfall53_OneStep ◆: check, charge and update are one step. Two requests
// that are each within the credit are not within it together; a refused request
// charges nothing, and nothing is ever uncharged.
func TestPitfall53_OneStep(t *testing.T) {
	r := record()
	first := r.Pay(ask(chunk), at(200), Pool{})
	wantNil(t, first.Refusal)
	if !first.RecordChanged || first.Record.Charged != chunk {
		t.Fatal("released before it was charged")
	}
	second := first.Record.Pay(ask(chunk), at(200), Pool{})
	wantErr(t, second.Refusal, ErrInsufficient)
	same(t, "record after a refusal", second.Record, first.Record)
	third := second.Record.Pay(ask(chunk, 1000), at(200), Pool{})
	wantNil(t, third.Refusal)
	if third.Record.Charged != 2*chunk || third.Record.Paid != 1000 {
		t.Fatalf("charged %d, paid %d", third.Record.Charged, third.Record.Paid)
	}
	half := record().Pay(ask(chunk/2), at(200), Pool{}).Record // 1.5 chunks on a credit of one
	wantErr(t, half.Pay(ask(chunk), at(200), Pool{}).Refusal, ErrInsufficient)
}

// TestPitfall71_Unpayable ◆: what the capacity or the forbidden rest does not
// allow to be paid is not delivered and not charged, whatever the credit.
func TestPitfall71_Unpayable(t *testing.T) {
	for _, c := range []struct {
		name          string
		paid, charged uint64 // sat
		price         uint64 // sat
		ok            bool
	}{
		{"up to capacity − dust", 98_670, 98_670, 1000, true},
		{"one above it", 98_671, 98_671, 1000, false},
		{"into the forbidden rest", 98_700, 98_700, 1000, false},
		{"one below the capacity", 98_999, 98_999, 1000, false},
		{"exactly the capacity", 99_000, 99_000, 1000, true},
		{"above the capacity", 99_001, 99_001, 1000, false},
		{"paid up to the capacity already", 100_000, 99_000, 1000, true},
		{"all used up", 100_000, 100_000, 1000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(func(r *PayeeRecord) { r.Paid, r.Charged, r.Terms.Credit = c.paid, c.charged*sat, MaxSat })
			out := r.Pay(ask(c.price*sat), at(200), Pool{})
			if c.ok {
				wantNil(t, out.Refusal)
				if out.Record.Paid < CeilSat(out.Record.Charged) {
					wantNil(t, r.Terms.CheckAmount(CeilSat(out.Record.Charged))) // it can be paid
				}
				return
			}
			wantErr(t, out.Refusal, ErrAmountExceeds)
			same(t, "record", out.Record, r)
		})
	}
	// A fraction of a satoshi counts whole.
	r := record(func(r *PayeeRecord) { r.Charged, r.Paid = (capacity-dustP2TR)*sat, capacity-dustP2TR })
	wantErr(t, r.Pay(ask(1), at(200), Pool{}).Refusal, ErrAmountExceeds)
	// The update that comes with such a request is taken all the same.
	out := r.Pay(ask(1, capacity), at(200), Pool{})
	wantNil(t, out.Refusal)
	if r = record(); !errors.Is(r.Pay(ask(capacity*sat+1, 500), at(200), Pool{}).Refusal, ErrAmountExceeds) {
		t.Fatal("a chunk above the capacity was delivered")
	}
	if got := r.Pay(ask(capacity*sat+1, 500), at(200), Pool{}); got.Record.Paid != 500 || !got.RecordChanged {
		t.Fatalf("the update was lost with the refusal: %+v", got)
	}
}

// TestPitfall20_Cumulative ◆: amounts are cumulative. A lower one is stale, an equal
// one a repeat; both succeed without effect.
func TestPitfall20_Cumulative(t *testing.T) {
	r := record(func(r *PayeeRecord) { r.Paid, r.Signature = 500, Hex{5} })
	for _, amount := range []uint64{0, 1, 499, 500} {
		next, changed, err := r.Update(Update{Amount: amount, Signature: Hex{9}})
		wantNil(t, err)
		if changed {
			t.Errorf("%d sat changed a record at 500 sat", amount)
		}
		same(t, "record", next, r)
		out := r.Pay(ask(chunk, amount), at(200), Pool{})
		wantNil(t, out.Refusal)
		if out.Raised || out.Record.Paid != 500 || out.Record.Signature.String() != "05" {
			t.Errorf("%d sat: %+v", amount, out)
		}
	}
	next, changed, err := r.Update(Update{Amount: 501, Signature: Hex{6}})
	wantNil(t, err)
	if !changed || next.Paid != 501 || next.Signature.String() != "06" {
		t.Fatalf("%+v", next)
	}
}

// TestPitfall60_RoundedOnce: the ledger is in msat and rounded up once, not for
// each chunk; an update that does not rise is no error.
func TestPitfall60_RoundedOnce(t *testing.T) {
	r, b := record(), bought()
	const price = 300 // msat; rounding each chunk would make 10 sat of it
	for i := range 10 {
		if r.Owed()+price > r.Terms.Credit {
			t.Fatal("credit")
		}
		out := r.Pay(ask(price), at(200), Pool{})
		wantNil(t, out.Refusal)
		r = out.Record
		next, err := b.Verified(price)
		wantNil(t, err)
		next, amount, err := next.Pay(0, free)
		wantNil(t, err)
		if want := CeilSat(uint64(i+1) * price); amount != want {
			t.Fatalf("after %d chunks the payer signs %d sat, want %d", i+1, amount, want)
		}
		b = next
		r, _, err = r.Update(Update{Amount: amount})
		wantNil(t, err)
	}
	if r.Paid != 3 || r.Charged != 3000 || b.Signed != 3 {
		t.Fatalf("paid %d sat for %d msat", r.Paid, r.Charged)
	}
}

// TestPitfall58_UpdatesInsideTheMargin ◆: what was delivered can be paid at any time
// before the end: at the margin, while settling, after the expiry.
func TestPitfall58_UpdatesInsideTheMargin(t *testing.T) {
	for _, phase := range []Phase{Funding, Open, Settling} {
		for _, tip := range []uint32{200, lastBlock + 1, expiry - 1, expiry, expiry + 10} {
			r := record(func(r *PayeeRecord) { r.Phase, r.Charged = phase, chunk })
			out := r.Pay(Payment{Update: &Update{Amount: 1000, Signature: Hex{1}}}, at(tip), Pool{})
			wantNil(t, out.Refusal)
			if out.Record.Paid != 1000 || !out.RecordChanged {
				t.Errorf("%s at %d: the update was not taken", phase, tip)
			}
			withChunk := r.Pay(ask(chunk, 1000), at(tip), Pool{})
			if withChunk.Record.Paid != 1000 || !withChunk.RecordChanged {
				t.Errorf("%s at %d: the update was lost with a refused delivery (%v)", phase, tip, withChunk.Refusal)
			}
		}
	}
}

// TestPitfall65_UnconfirmedIsNoMoney ◆: until the funding is deep enough, and again
// when a reorg takes that away, updates count as zero.
func TestPitfall65_UnconfirmedIsNoMoney(t *testing.T) {
	deep := record(func(r *PayeeRecord) { r.Terms.Confirmations, r.Paid = 3, 50_000 })
	for tip, ok := range map[uint32]bool{fundedAt: false, fundedAt + 1: false, fundedAt + 2: true} {
		out := deep.Pay(ask(chunk), at(tip), Pool{Size: MaxSat})
		if (out.Refusal == nil) != ok {
			t.Errorf("at depth %d: %v", tip-fundedAt+1, out.Refusal)
		}
		var e *UnconfirmedError
		if !ok && (!errors.As(out.Refusal, &e) || e.Have != tip-fundedAt+1 || e.Want != 3) {
			t.Errorf("at depth %d: %v", tip-fundedAt+1, out.Refusal)
		}
		if out.Record.Phase != Open {
			t.Errorf("the phase became %s", out.Record.Phase)
		}
	}
	// With a zero-conf limit charged stays within it, whatever was signed.
	zero := record(func(r *PayeeRecord) { r.Terms.ZeroConf, r.Paid, r.Phase = 2*chunk, 90_000, Funding })
	zero.Terms.Credit = 10 * chunk
	pool := Pool{Size: 100 * chunk}
	v := at(200, unconfirmed)
	for i, ok := range []bool{true, true, false} {
		out := zero.Pay(ask(chunk), v, pool)
		if ok != (out.Refusal == nil) {
			t.Fatalf("chunk %d before the confirmation: %v", i, out.Refusal)
		}
		zero, pool = out.Record, out.Pool
		if zero.Charged > zero.Terms.ZeroConf {
			t.Fatalf("charged %d msat with a limit of %d", zero.Charged, zero.Terms.ZeroConf)
		}
		pool = grow(pool, zero.Terms.ID(), 10*chunk)
	}
}

// grow makes a place larger, so that a test meets another limit first.
func grow(p Pool, id string, msat uint64) Pool {
	p = p.At(200, clock)
	place := p.Places[id]
	place.Reserved, place.Active = msat, clock
	p.Places[id] = place
	return p
}

// A channel below the wanted depth uses the pool: what it gets before the
// confirmation is bounded for all such channels together.
func TestZeroConfStaysInThePool(t *testing.T) {
	pool := Pool{Size: 2 * chunk}
	delivered := 0
	for i := range 5 {
		r := record(func(r *PayeeRecord) {
			r.Terms.Outpoint.Index, r.Terms.ZeroConf, r.Phase, r.Paid = uint32(i), chunk, Funding, 50_000
		})
		out := r.Pay(ask(chunk), at(200, unconfirmed), pool)
		if out.Refusal == nil {
			delivered++
			pool = out.Pool
		}
		if pool.Taken() > pool.Size {
			t.Fatalf("%d msat of a pool of %d", pool.Taken(), pool.Size)
		}
	}
	if delivered != 2 {
		t.Fatalf("%d chunks for unconfirmed money, the pool has 2", delivered)
	}
}

// TestPitfall62_Restored: a channel from before a restore takes updates and
// delivers nothing, closes nothing, and is settled.
func TestPitfall62_Restored(t *testing.T) {
	r := record(func(r *PayeeRecord) { r.Restored, r.Paid, r.Charged = true, 500, 500*sat })
	out := r.Pay(ask(chunk, 2000), at(200), Pool{})
	wantErr(t, out.Refusal, ErrExpiring)
	if out.Record.Paid != 2000 || out.Record.Charged != r.Charged {
		t.Fatalf("%+v", out.Record)
	}
	if _, _, err := r.BeginClose(r.Terms.built(t), CloseRequest{}, payout, at(200)); !errors.Is(err, ErrExpiring) {
		t.Fatalf("a close was signed: %v", err)
	}
	if _, err := r.AskSettle(WhenAsked); err != nil {
		t.Fatalf("it could not be settled: %v", err)
	}
}

// TestFinalPhasesTakeNothing: closing and the final phases take no updates and deliver nothing.
func TestFinalPhasesTakeNothing(t *testing.T) {
	for _, phase := range []Phase{Closing, Closed, Abandoned, Refunded} {
		r := record(func(r *PayeeRecord) { r.Phase = phase })
		out := r.Pay(ask(chunk, 1000), at(200), Pool{})
		wantErr(t, out.Refusal, ErrFinalized)
		same(t, "record", out.Record, r)
		wantErr(t, r.Pay(ask(0), at(200), Pool{}).Refusal, ErrFinalized)
		_, err := r.AskSettle(WhenAsked)
		wantErr(t, err, ErrFinalized)
	}
}

// The phase moves from funding to open with the first charge at depth.
func TestDeepensWhenCharged(t *testing.T) {
	r := record(func(r *PayeeRecord) { r.Phase = Funding })
	out := r.Pay(ask(0), at(200), Pool{})
	wantNil(t, out.Refusal)
	if out.Record.Phase != Open || !out.RecordChanged {
		t.Fatalf("phase %s", out.Record.Phase)
	}
}
