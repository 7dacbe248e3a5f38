package curve

import (
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
)

// Shape of a table: a scalar has 64 digits of four bits and a carry, each from -7 to 8.
const (
	digits = 65
	half   = 8
)

// affine is a point with a Z of one, normalized.
type affine struct{ x, y btcec.FieldVal }

// table holds the multiples of one point P by which its product with a scalar is a sum
// of 65 points: at[i][d-1] is d·16^i·P. It takes 41 KB. P's y is even.
type table [digits][half]affine

// newTable computes the table of the point with this x and an even y. ok is false where
// there is none.
func newTable(x *btcec.FieldVal) (_ *table, ok bool) {
	base := btcec.JacobianPoint{X: *x}
	if !btcec.DecompressY(x, false, &base.Y) {
		return nil, false
	}
	base.Y.Normalize()
	base.Z.SetInt(1)
	points := make([]btcec.JacobianPoint, 0, digits*half)
	for range digits {
		sum := base
		points = append(points, sum)
		for range half - 1 {
			btcec.AddNonConst(&sum, &base, &sum)
			points = append(points, sum)
		}
		btcec.DoubleNonConst(&sum, &base)
	}
	t := new(table)
	flatten(points, func(i int, p affine) { t[i/half][i%half] = p })
	return t, true
}

// flatten brings points to a Z of one, with one inversion for all of them. None is
// infinity: the order is prime, and no factor is a multiple of it.
func flatten(points []btcec.JacobianPoint, put func(int, affine)) {
	before := make([]btcec.FieldVal, len(points)) // products of all Z before
	var all btcec.FieldVal
	all.SetInt(1)
	for i := range points {
		before[i] = all
		all.Mul(&points[i].Z).Normalize()
	}
	all.Inverse().Normalize()
	for i := len(points) - 1; i >= 0; i-- {
		var inverse, square btcec.FieldVal
		inverse.Mul2(&all, &before[i]).Normalize() // 1/Z
		all.Mul(&points[i].Z).Normalize()
		square.SquareVal(&inverse)
		var p affine
		p.x.Mul2(&points[i].X, &square).Normalize()
		p.y.Mul2(&points[i].Y, square.Mul(&inverse)).Normalize()
		put(i, p)
	}
}

// add adds k·P to a sum.
func (t *table) add(k *btcec.ModNScalar, sum *btcec.JacobianPoint) {
	raw := k.Bytes()
	var p btcec.JacobianPoint
	p.Z.SetInt(1)
	carry := 0
	for i := range digits {
		d := carry
		if i < digits-1 {
			d += int(raw[31-i/2]>>(4*(i%2))) & 15
		}
		if carry = 0; d > half {
			d, carry = d-16, 1
		}
		switch {
		case d > 0:
			p.X, p.Y = t[i][d-1].x, t[i][d-1].y
		case d < 0:
			p.X, p.Y = t[i][-d-1].x, t[i][-d-1].y
			p.Y.Negate(1).Normalize()
		default:
			continue
		}
		btcec.AddNonConst(sum, &p, sum)
	}
}

// schnorr checks a signature of a digest by the table's key, whose x is given. BIP340,
// "Verification".
func (t *table) schnorr(sig *schnorr.Signature, digest []byte, x *[32]byte) bool {
	if len(digest) != chainhash.HashSize {
		return false
	}
	raw := sig.Serialize() // r below the field's prime, s below the order: it was parsed
	var r btcec.FieldVal
	var s, e btcec.ModNScalar
	if r.SetByteSlice(raw[:32]) || s.SetByteSlice(raw[32:]) {
		return false
	}
	challenge := chainhash.TaggedHash(chainhash.TagBIP0340Challenge, raw[:32], x[:], digest)
	e.SetBytes((*[32]byte)(challenge))
	e.Negate()
	var sum btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(&s, &sum)
	t.add(&e, &sum) // R = s·G - e·P
	if infinite(&sum) {
		return false
	}
	sum.ToAffine()
	return !sum.Y.IsOdd() && r.Equals(&sum.X)
}

// ecdsa checks a signature of a digest by the table's key, or the negative of it. An
// r that is the x of its point less the order, one in 2^127, is not recognized.
// SEC 1, section 4.1.4.
func (t *table) ecdsa(sig *ecdsa.Signature, digest []byte, odd bool) bool {
	r, s := sig.R(), sig.S()
	if r.IsZero() || s.IsZero() {
		return false
	}
	var e, w, u1, u2 btcec.ModNScalar
	e.SetByteSlice(digest)
	w.InverseValNonConst(&s)
	u1.Mul2(&e, &w)
	u2.Mul2(&r, &w)
	if odd {
		u2.Negate()
	}
	var sum btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(&u1, &sum)
	t.add(&u2, &sum)
	if infinite(&sum) {
		return false
	}
	var x, square btcec.FieldVal
	raw := r.Bytes()
	x.SetBytes(&raw)
	square.SquareVal(&sum.Z)
	x.Mul(&square).Normalize() // r = X/Z²
	return x.Equals(&sum.X)
}

func infinite(p *btcec.JacobianPoint) bool {
	return p.X.IsZero() && p.Y.IsZero() || p.Z.IsZero()
}
