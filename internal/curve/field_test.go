package curve

import (
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"pgregory.net/rapid"
)

// limbs are those at which something carries, or does not.
var limbs = rapid.SampledFrom([]uint64{0, 1, 2, 976, 977, 978, 1<<32 - 1, 1 << 32, fold - 1, fold, fold + 1, 1 << 33, 1 << 63, 1<<63 - 1,
	1<<64 - fold, 1<<64 - fold - 1, 1<<64 - fold + 1, 1<<64 - 2, 1<<64 - 1})

// elements are numbers below 2^256, most of them near an edge.
var elements = rapid.Custom(func(t *rapid.T) (z fe) {
	for i := range z {
		if rapid.IntRange(0, 3).Draw(t, "edge") > 0 {
			z[i] = limbs.Draw(t, "limb")
		} else {
			z[i] = rapid.Uint64().Draw(t, "any")
		}
	}
	return z
})

// library is an element as the library knows it.
func library(z fe) *btcec.FieldVal {
	b, v := z.bytes(), new(btcec.FieldVal)
	v.SetBytes(&b)
	return v
}

func same(t *rapid.T, what string, got fe, want *btcec.FieldVal) {
	t.Helper()
	if b := got.bytes(); b != *want.Normalize().Bytes() {
		t.Fatalf("%s: %x, want %x", what, b, want.Bytes())
	}
}

// The field's arithmetic is the library's, also where the result takes the place of an
// operand, and for both names of small elements.
func TestFieldIsTheLibrarys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := elements.Draw(t, "x"), elements.Draw(t, "y")
		a, b := library(x), library(y)
		var z fe
		z.add(&x, &y)
		same(t, "x + y", z, new(btcec.FieldVal).Add2(a, b))
		z.sub(&x, &y)
		same(t, "x - y", z, new(btcec.FieldVal).NegateVal(b, 1).Add(a))
		z.negate(&x)
		same(t, "-x", z, new(btcec.FieldVal).NegateVal(a, 1))
		z.mul(&x, &y)
		same(t, "x·y", z, new(btcec.FieldVal).Mul2(a, b))
		z.square(&x)
		same(t, "x²", z, new(btcec.FieldVal).SquareVal(a))
		z.invert(&x)
		same(t, "1/x", z, new(btcec.FieldVal).Set(a).Inverse())
		z = x
		z.mul(&z, &z)
		same(t, "x·x", z, new(btcec.FieldVal).SquareVal(a))
		z = x
		z.square(&z)
		same(t, "x² in place", z, new(btcec.FieldVal).SquareVal(a))
		z = x
		z.mulBy(&y)
		same(t, "x·y in place", z, new(btcec.FieldVal).Mul2(a, b))
		z = y
		z.sub(&x, &z)
		same(t, "x - y in place", z, new(btcec.FieldVal).NegateVal(b, 1).Add(a))
		if x.zero() != a.IsZero() || x.odd() != a.IsOdd() || x.is(y) != a.Equals(b) || feBytes(x) != x.reduced() {
			t.Fatal("zero, odd, or equal is told otherwise")
		}
	})
}

func feBytes(z fe) fe {
	b := z.bytes()
	return feOf(&b)
}

// Every pair of limbs at an edge, in every place, is multiplied as the library does.
func TestFieldAtItsEdges(t *testing.T) {
	var all []fe
	edges := []uint64{0, 1, fold, 1 << 63, 1<<64 - fold, 1<<64 - fold - 1, 1<<64 - 1}
	for _, a := range edges {
		for _, b := range edges {
			all = append(all, fe{a, b, b, b}, fe{b, a, b, b}, fe{b, b, a, b}, fe{b, b, b, a})
		}
	}
	for _, x := range all {
		for _, y := range all {
			var product, sum, difference fe
			product.mul(&x, &y)
			sum.add(&x, &y)
			difference.sub(&x, &y)
			a, b := library(x), library(y)
			if product.bytes() != *new(btcec.FieldVal).Mul2(a, b).Normalize().Bytes() ||
				sum.bytes() != *new(btcec.FieldVal).Add2(a, b).Normalize().Bytes() ||
				difference.bytes() != *new(btcec.FieldVal).NegateVal(b, 1).Add(a).Normalize().Bytes() {
				t.Fatalf("%x and %x", x, y)
			}
		}
		var square fe
		if square.square(&x); square.bytes() != *new(btcec.FieldVal).SquareVal(library(x)).Normalize().Bytes() {
			t.Fatalf("%x squared", x)
		}
	}
}
