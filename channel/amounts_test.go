package channel

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/script"
)

func TestCeilSat(t *testing.T) {
	for _, c := range []struct{ msat, sat uint64 }{
		{0, 0}, {1, 1}, {999, 1}, {1000, 1}, {1001, 2}, {MaxSat * 1000, MaxSat},
		{math.MaxUint64, math.MaxUint64/1000 + 1},
	} {
		if got := CeilSat(c.msat); got != c.sat {
			t.Errorf("CeilSat(%d) = %d, want %d", c.msat, got, c.sat)
		}
	}
}

func TestLineCharge(t *testing.T) {
	for _, c := range []struct {
		units, price, per, want uint64
		overflow                bool
	}{
		{units: 0, price: 5, per: 3, want: 0},
		{units: 1, price: 1, per: 65536, want: 1},
		{units: 65536, price: 1000, per: 65536, want: 1000},
		{units: 65537, price: 1000, per: 65536, want: 1001},
		{units: 1, price: 1, per: 0, overflow: true},
		{units: math.MaxUint64, price: math.MaxUint64, per: 1, overflow: true},
		{units: math.MaxUint64, price: math.MaxUint64, per: math.MaxUint64, overflow: true}, // more than there is
		{units: math.MaxUint64, price: 7, per: math.MaxUint64, want: 7},
	} {
		got, err := LineCharge(c.units, c.price, c.per)
		if c.overflow {
			wantErr(t, err, ErrOverflow)
		} else if wantNil(t, err); got != c.want {
			t.Errorf("LineCharge(%d, %d, %d) = %d, want %d", c.units, c.price, c.per, got, c.want)
		}
	}
}

// A line's charge is exact arithmetic, rounded up once, and never falls.
func TestLineChargeProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		units, price, per := rapid.Uint64().Draw(t, "units"), rapid.Uint64().Draw(t, "price"), rapid.Uint64().Draw(t, "per")
		want := new(big.Int)
		if per > 0 {
			want.Mul(new(big.Int).SetUint64(units), new(big.Int).SetUint64(price))
			want.Add(want, new(big.Int).SetUint64(per-1)).Div(want, new(big.Int).SetUint64(per))
		}
		fits := per > 0 && want.Cmp(new(big.Int).SetUint64(MaxSat*1000)) <= 0
		got, err := LineCharge(units, price, per)
		if (err == nil) != fits {
			t.Fatalf("error %v for %v", err, want)
		}
		if fits && got != want.Uint64() {
			t.Fatalf("%d, want %v", got, want)
		}
	})
}

// TestPitfall21_Overflow: amounts are checked 64-bit numbers, and none is
// accepted above the capacity less what must remain.
func TestPitfall21_Overflow(t *testing.T) {
	for _, c := range []struct{ a, b uint64 }{
		{math.MaxUint64, 1}, {MaxSat * 1000, 1}, {math.MaxUint64, math.MaxUint64}, {1 << 63, 1 << 63},
	} {
		if _, err := AddMsat(c.a, c.b); err == nil {
			t.Errorf("AddMsat(%d, %d) was accepted", c.a, c.b)
		}
	}
	if sum, err := AddMsat(MaxSat*1000-1, 1); err != nil || sum != MaxSat*1000 {
		t.Errorf("all bitcoin: %d, %v", sum, err)
	}
	r := record()
	for _, price := range []uint64{math.MaxUint64, math.MaxUint64 - r.Charged, MaxSat*1000 + 1} {
		out := r.Pay(ask(price), at(200), Pool{})
		if out.Refusal == nil || out.Record.Charged != r.Charged {
			t.Errorf("a price of %d msat was charged: %v", price, out.Refusal)
		}
	}
	r.Charged = math.MaxUint64 - 10
	if out := r.Pay(ask(11), at(200), Pool{}); out.Refusal == nil || out.Record.Charged != r.Charged {
		t.Errorf("the ledger wrapped around: %d", out.Record.Charged)
	}
	b := bought(func(r *PayerRecord) { r.Owed = math.MaxUint64 - 10 })
	if _, err := b.Verified(11); err == nil {
		t.Error("the payer's ledger wrapped around")
	}
	if _, _, err := b.Pay(11, free); err == nil {
		t.Error("the payer signed after its ledger wrapped around")
	}
	wantErr(t, terms().CheckAmount(math.MaxUint64), ErrAmountExceeds)
	huge := terms(func(t *Terms) { t.Capacity = math.MaxUint64 })
	if _, err := huge.Script(); err == nil {
		t.Error("a capacity above all bitcoin was accepted")
	}
}

// TestPitfall31_Dust: a rest of 1 to dust−1 is refused, by the dust of the rest's
// own script.
func TestPitfall31_Dust(t *testing.T) {
	wpkh := append(Hex{0x00, 0x14}, make([]byte, 20)...)
	wsh := append(Hex{0x00, 0x20}, make([]byte, 32)...)
	for _, c := range []struct {
		name string
		rest Hex
		dust uint64
	}{{"P2TR", p2tr(3), dustP2TR}, {"P2WSH", wsh, dustP2TR}, {"P2WPKH", wpkh, dustWPKH}} {
		terms := terms(func(t *Terms) { t.RestScript = c.rest })
		if got := terms.Dust(); got != c.dust {
			t.Fatalf("%s: dust %d, want %d", c.name, got, c.dust)
		}
		for _, a := range []struct {
			amount uint64
			ok     bool
		}{
			{0, true}, {1, true}, {capacity - c.dust, true}, {capacity - c.dust + 1, false},
			{capacity - 1, false}, {capacity, true}, {capacity + 1, false},
		} {
			if err := terms.CheckAmount(a.amount); (err == nil) != a.ok {
				t.Errorf("%s: %d sat: %v", c.name, a.amount, err)
			}
			if err := terms.deliverable(a.amount*1000, 0); (err == nil) != a.ok {
				t.Errorf("%s: delivering %d sat: %v", c.name, a.amount, err)
			}
		}
	}
	small := terms(func(t *Terms) { t.Capacity = 100 }) // below dust altogether
	wantErr(t, small.CheckAmount(1), ErrAmountExceeds)
	wantNil(t, small.CheckAmount(100))
}

// Payable is the highest amount up to a limit that CheckAmount accepts.
func TestPayable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		terms := terms(func(t *Terms) { t.Capacity = rapid.Uint64Range(dustP2TR, 3000).Draw(rt, "capacity") })
		limit := rapid.Uint64Range(0, 4000).Draw(rt, "limit")
		var want uint64
		for a := uint64(0); a <= limit; a++ {
			if terms.CheckAmount(a) == nil {
				want = a
			}
		}
		if got := terms.Payable(limit); got != want {
			rt.Fatalf("Payable(%d) of %d = %d, want %d", limit, terms.Capacity, got, want)
		}
	})
}

func TestMinimumCharge(t *testing.T) {
	if got := MinimumCharge(205, payout, script.FeeRatePerVB(1)); got != 330+205 {
		t.Errorf("F at 1 sat/vB: %d", got)
	}
	if got := MinimumCharge(205, payout, script.FeeRatePerVB(50)); got != 330+205*50 {
		t.Errorf("F at 50 sat/vB: %d", got)
	}
}
