package channel

import (
	"math"
	"math/bits"

	"github.com/spillway/spillway/script"
)

// MaxSat is all the bitcoin there can be, in satoshi.
const MaxSat = 21_000_000 * 100_000_000

// CeilSat rounds msat up to whole satoshi. It is applied once, to a channel's
// whole ledger, never to a chunk. docs/protocol.md, "Paying".
func CeilSat(msat uint64) uint64 {
	return msat/1000 + min(msat%1000, 1)
}

// AddMsat adds two amounts of msat and refuses what leaves the range of all
// bitcoin. Errors: ErrOverflow.
func AddMsat(a, b uint64) (uint64, error) {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 || sum > MaxSat*1000 {
		return 0, ErrOverflow
	}
	return sum, nil
}

// LineCharge is the cumulative charge in msat of a metered line after the given
// cumulative units at price msat per `per` units, rounded up once.
// Errors: ErrOverflow. docs/protocol.md, "Prices".
func LineCharge(units, price, per uint64) (uint64, error) {
	if per == 0 {
		return 0, ErrOverflow
	}
	hi, lo := bits.Mul64(units, price)
	if hi >= per {
		return 0, ErrOverflow
	}
	quo, rem := bits.Div64(hi, lo, per)
	if rem > 0 {
		if quo == math.MaxUint64 {
			return 0, ErrOverflow
		}
		quo++
	}
	if quo > MaxSat*1000 {
		return 0, ErrOverflow
	}
	return quo, nil
}

// Dust is the least rest, in satoshi, that is relayed to the channel's rest
// script. docs/protocol.md, "Dust".
func (t Terms) Dust() uint64 { return uint64(script.Dust(t.RestScript)) }

// CheckAmount refuses a cumulative amount (sat) above the capacity or one that
// would leave a rest from 1 to dust−1. Errors: ErrAmountExceeds.
func (t Terms) CheckAmount(amount uint64) error {
	if amount > t.Capacity {
		return refuse(ErrAmountExceeds, "%d sat of a capacity of %d sat", amount, t.Capacity)
	}
	if rest := t.Capacity - amount; rest > 0 && rest < t.Dust() {
		return refuse(ErrAmountExceeds, "%d sat leave a rest of %d sat, below the dust limit of %d sat", amount, rest, t.Dust())
	}
	return nil
}

// Payable is the highest amount (sat) up to limit that an update may carry.
func (t Terms) Payable(limit uint64) uint64 {
	if limit >= t.Capacity {
		return t.Capacity
	}
	return min(limit, t.Capacity-min(t.Capacity, t.Dust()))
}

// deliverable refuses a ledger (msat) that could not be paid: a chunk that the
// capacity or the forbidden rest does not allow to be paid is not delivered.
func (t Terms) deliverable(ledger, paid uint64) error {
	sat := CeilSat(ledger)
	if sat <= paid {
		return nil
	}
	return t.CheckAmount(sat)
}

// MinimumCharge is F in satoshi: the payee's dust and its settlement at a rate.
// It is a floor on the channel's total, not a fee. docs/protocol.md, "Minimum charge".
func MinimumCharge(vsize int64, payoutScript []byte, rate script.FeeRate) uint64 {
	return uint64(script.Dust(payoutScript) + rate.Fee(vsize))
}

// MinimumPayout is the largest dust limit of a script that a rest or a payout
// may go to, in sat: what a deposit leaves room for.
const MinimumPayout = 330
