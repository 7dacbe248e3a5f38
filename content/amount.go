package content

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// MaxMsat is the most that a price or an amount can be, in msat: 21 million
// bitcoin.
const MaxMsat uint64 = 21_000_000 * 100_000_000 * 1000

// What can be wrong with an amount, a size, a price or a chunk size that a
// person wrote. The errors returned are *InputError and match one of these.
var (
	ErrSyntax    = errors.New("not understood")
	ErrUnit      = errors.New("unknown or missing unit")
	ErrPrecision = errors.New("finer than the smallest unit")
	ErrTooLarge  = errors.New("too large")
	ErrZero      = errors.New("must not be zero")
)

// InputError says what is wrong with something that a person wrote, and how to
// write it.
type InputError struct {
	What  string // "amount", "size", "price" or "chunks"
	Input string // as it was written
	Err   error  // one of the sentinels
	Hint  string // how to write it
}

// Error names the input, the fault and the hint.
func (e *InputError) Error() string {
	in := e.Input
	if len(in) > 64 {
		in = in[:64] + "…"
	}
	return fmt.Sprintf("%s %q: %v; %s", e.What, in, e.Err, e.Hint)
}

// Unwrap returns the sentinel.
func (e *InputError) Unwrap() error { return e.Err }

const (
	amountHint = "write a number and a unit, like 1000sat, 250msat or 0.5btc"
	sizeHint   = "write a number and a unit, like 500000, 64KiB, 1MiB or 10MB"
	priceHint  = "write an amount per size or per file, like 1sat/64KiB, 250msat/MiB or 0.01btc/file; or free"
)

// amountUnits in msat, sizeUnits in bytes; the spelling is exact.
var (
	amountUnits = map[string]uint64{
		"msat": 1, "sat": 1000, "sats": 1000, "btc": 100_000_000_000, "BTC": 100_000_000_000,
	}
	sizeUnits = map[string]uint64{
		"": 1, "B": 1,
		"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50,
	}
)

// ParseAmountMsat reads an amount like 100000sat, 0.5btc or 5msat as whole
// msat, exactly. The unit is required. Errors are *InputError: ErrSyntax,
// ErrUnit, ErrPrecision (a part of a msat), ErrTooLarge (above MaxMsat).
func ParseAmountMsat(s string) (uint64, error) {
	fail := func(err error) (uint64, error) {
		return 0, &InputError{What: "amount", Input: s, Err: err, Hint: amountHint}
	}
	number, unit := cutUnit(s)
	factor, ok := amountUnits[unit]
	switch {
	case number == "":
		return fail(ErrSyntax)
	case !ok:
		return fail(ErrUnit)
	}
	msat, err := scale(number, factor)
	if err == nil && msat > MaxMsat {
		err = ErrTooLarge
	}
	if err != nil {
		return fail(err)
	}
	return msat, nil
}

// ParseBytes reads a size like 500000, 64KiB, 1.5MiB or 10MB as whole bytes,
// exactly. KiB, MiB, GiB count by 1024, kB, MB, GB by 1000. Errors are
// *InputError: ErrSyntax, ErrUnit, ErrPrecision (a part of a byte),
// ErrTooLarge (above 2^53-1).
func ParseBytes(s string) (uint64, error) {
	n, err := parseBytes(s)
	if err != nil {
		return 0, &InputError{What: "size", Input: s, Err: err, Hint: sizeHint}
	}
	return n, nil
}

func parseBytes(s string) (uint64, error) {
	number, unit := cutUnit(s)
	factor, ok := sizeUnits[unit]
	switch {
	case number == "":
		return 0, ErrSyntax
	case !ok:
		return 0, ErrUnit
	}
	n, err := scale(number, factor)
	if err == nil && n > MaxSize {
		err = ErrTooLarge
	}
	return n, err
}

// cutUnit splits "10 MiB" into "10" and "MiB"; one space may stand between.
func cutUnit(s string) (number, unit string) {
	i := 0
	for i < len(s) && (s[i] == '.' || s[i] >= '0' && s[i] <= '9') {
		i++
	}
	number, unit = s[:i], s[i:]
	if len(unit) > 1 && unit[0] == ' ' {
		unit = unit[1:]
	}
	return number, unit
}

// scale multiplies a decimal number by factor and demands a whole result.
func scale(number string, factor uint64) (uint64, error) {
	whole, fraction, point := strings.Cut(number, ".")
	if whole == "" || (point && fraction == "") || strings.Contains(fraction, ".") {
		return 0, ErrSyntax
	}
	fraction = strings.TrimRight(fraction, "0")
	power := uint64(1)
	for range fraction {
		if power > math.MaxUint64/10/10 {
			return 0, ErrPrecision
		}
		power *= 10
	}
	mantissa, err := strconv.ParseUint(whole+fraction, 10, 64)
	if err != nil {
		return 0, ErrTooLarge
	}
	hi, lo := bits.Mul64(mantissa, factor)
	if hi >= power {
		return 0, ErrTooLarge
	}
	quotient, remainder := bits.Div64(hi, lo, power)
	if remainder != 0 {
		return 0, ErrPrecision
	}
	return quotient, nil
}

// FormatMsat writes msat so that ParseAmountMsat reads the same: in sat where
// they are whole.
func FormatMsat(msat uint64) string {
	if msat%1000 == 0 {
		return strconv.FormatUint(msat/1000, 10) + "sat"
	}
	return strconv.FormatUint(msat, 10) + "msat"
}

// FormatBytes writes n bytes so that ParseBytes reads the same: in the largest
// unit that is exact, and plain where none is.
func FormatBytes(n uint64) string {
	best, factor := "", uint64(1)
	for _, u := range []string{"kB", "KiB", "MB", "MiB", "GB", "GiB", "TB", "TiB"} {
		if f := sizeUnits[u]; n >= f && n%f == 0 && f > factor {
			best, factor = u, f
		}
	}
	return strconv.FormatUint(n/factor, 10) + best
}
