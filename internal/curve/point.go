package curve

import (
	"sync"

	"github.com/btcsuite/btcd/btcec/v2"
)

// affine is a point that is not infinity.
type affine struct{ x, y fe }

// jacobian is the point (x/z², y/z³); infinity where z is zero.
type jacobian struct{ x, y, z fe }

// affineOf is a public key's point.
func affineOf(pub *btcec.PublicKey) (a affine) {
	var p btcec.JacobianPoint
	pub.AsJacobian(&p)
	return affine{feOf(p.X.Bytes()), feOf(p.Y.Bytes())}
}

func (a affine) jacobian() jacobian { return jacobian{a.x, a.y, fe{1}} }

func (a affine) negative() affine {
	a.y.negate(&a.y)
	return a
}

func (p *jacobian) infinite() bool { return p.z.zero() }

// affine is a point that is not infinity with a z of one.
func (p *jacobian) affine() affine {
	var inverse fe
	inverse.invert(&p.z)
	return p.by(&inverse)
}

// by is the point, given 1/z.
func (p *jacobian) by(inverse *fe) (a affine) {
	var square fe
	square.square(inverse)
	a.x.mul(&p.x, &square)
	square.mulBy(inverse)
	a.y.mul(&p.y, &square)
	return a
}

// double doubles a point. No point of the curve has a y of zero: its order is prime.
func (p *jacobian) double() {
	var a, b, c, d, e fe
	p.z.mulBy(&p.y)
	p.z.double(&p.z) // 2yz
	a.square(&p.x)
	b.square(&p.y)
	c.square(&b)
	d.add(&p.x, &b)
	d.square(&d)
	d.minus(&a)
	d.minus(&c)
	d.double(&d) // 4xy²
	e.double(&a)
	e.add(&e, &a) // 3x²
	p.x.square(&e)
	p.x.minus(&d)
	p.x.minus(&d)
	d.minus(&p.x)
	c.double(&c)
	c.double(&c)
	c.double(&c)
	p.y.mul(&e, &d)
	p.y.minus(&c)
}

// add adds a point.
func (p *jacobian) add(q *affine) {
	if p.infinite() {
		*p = q.jacobian()
		return
	}
	var zz, h, r, hh, v, t fe
	zz.square(&p.z)
	h.mul(&q.x, &zz)
	h.minus(&p.x)
	r.mul(&q.y, &zz)
	r.mulBy(&p.z)
	r.minus(&p.y)
	if h.zero() {
		if r.zero() { // the same point
			p.double()
		} else { // its negative
			*p = jacobian{}
		}
		return
	}
	p.z.mulBy(&h)
	hh.square(&h)
	v.mul(&p.x, &hh)
	h.mulBy(&hh) // h³
	p.x.square(&r)
	p.x.minus(&h)
	p.x.minus(&v)
	p.x.minus(&v)
	t.mul(&p.y, &h)
	v.minus(&p.x)
	p.y.mul(&r, &v)
	p.y.minus(&t)
}

// multiples are 1·q to n·q.
func multiples(q *affine, n int) []affine {
	all, sum := make([]jacobian, n), q.jacobian()
	all[0] = sum
	for i := 1; i < n; i++ {
		sum.add(q)
		all[i] = sum
	}
	return flat(all)
}

// flat brings points, none of them infinity, to a z of one with one inversion.
func flat(points []jacobian) []affine {
	before, out := make([]fe, len(points)), make([]affine, len(points)) // before: products of all z so far
	all := fe{1}
	for i := range points {
		before[i] = all
		all.mulBy(&points[i].z)
	}
	all.invert(&all)
	for i := len(points) - 1; i >= 0; i-- {
		var inverse fe
		inverse.mul(&all, &before[i])
		all.mulBy(&points[i].z)
		out[i] = points[i].by(&inverse)
	}
	return out
}

// Digits of scalars, from -(half-1) to half.
const (
	halfSmall = 8   // 4 bits: 64 of them and a carry
	halfLarge = 128 // 8 bits: 32 and a carry
)

// small are a scalar's digits to the base of 16, the lowest first.
func small(k *btcec.ModNScalar) (digits [65]int8) {
	raw, carry := k.Bytes(), int8(0)
	for i := range 64 {
		d := int8(raw[31-i/2]>>(4*(i%2))&15) + carry
		if carry = 0; d > halfSmall {
			d, carry = d-16, 1
		}
		digits[i] = d
	}
	digits[64] = carry
	return digits
}

// large are a scalar's digits to the base of 256, the lowest first.
func large(k *btcec.ModNScalar) (digits [33]int16) {
	raw, carry := k.Bytes(), int16(0)
	for i := range 32 {
		d := int16(raw[31-i]) + carry
		if carry = 0; d > halfLarge {
			d, carry = d-256, 1
		}
		digits[i] = d
	}
	digits[32] = carry
	return digits
}

// addDigit adds the d-th of a point's multiples.
func (p *jacobian) addDigit(d int, of []affine) {
	switch {
	case d > 0:
		p.add(&of[d-1])
	case d < 0:
		q := of[-d-1].negative()
		p.add(&q)
	}
}

// product is k·q, for a point that is no secret.
func product(k *btcec.ModNScalar, q *affine) (p jacobian) {
	of, digits := multiples(q, halfSmall), small(k)
	for i := len(digits) - 1; i >= 0; i-- {
		for range 4 {
			p.double()
		}
		p.addDigit(int(digits[i]), of)
	}
	return p
}

// generator holds the multiples of 256^i·G, 270 KB, computed once.
var generator = sync.OnceValue(func() *[33][]affine {
	one, table := new(btcec.ModNScalar).SetInt(1), new([33][]affine)
	var g btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(one, &g)
	base := affine{feOf(g.X.Bytes()), feOf(g.Y.Bytes())}
	for i := range table {
		table[i] = multiples(&base, halfLarge)
		next := table[i][halfLarge-1].jacobian()
		next.double()
		base = next.affine()
	}
	return table
})

// addBase adds k·G. Like the library's it takes a time that depends on k.
func (p *jacobian) addBase(k *btcec.ModNScalar) {
	table, digits := generator(), large(k)
	for i, d := range digits {
		p.addDigit(int(d), table[i])
	}
}
