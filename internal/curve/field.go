package curve

import (
	"encoding/binary"
	"math/bits"
)

// fold is 2^256 modulo the field's prime p = 2^256 - 2^32 - 977. SEC 2, section 2.4.1.
const fold = 1<<32 + 977

// fe is an element of the field: four limbs, the lowest first. Every value below 2^256
// stands for itself modulo p, so p to 2^256-1 are second names of small elements;
// reduced gives the first.
type fe [4]uint64

// feOf reads 32 bytes, the highest first.
func feOf(b *[32]byte) (z fe) {
	for i := range z {
		z[i] = binary.BigEndian.Uint64(b[24-8*i:])
	}
	return z
}

// bytes is the element as 32 bytes, the highest first.
func (z fe) bytes() (b [32]byte) {
	z = z.reduced()
	for i := range z {
		binary.BigEndian.PutUint64(b[24-8*i:], z[i])
	}
	return b
}

// reduced is the name of an element that is below p.
func (z fe) reduced() fe {
	a, c := bits.Add64(z[0], fold, 0)
	b, c := bits.Add64(z[1], 0, c)
	d, c := bits.Add64(z[2], 0, c)
	e, c := bits.Add64(z[3], 0, c)
	if c == 1 { // z + 2^256 - p is 2^256 or more: z is p or more
		return fe{a, b, d, e}
	}
	return z
}

func (z fe) zero() bool    { return z.reduced() == fe{} }
func (z fe) odd() bool     { return z.reduced()[0]&1 == 1 }
func (z fe) is(x fe) bool  { return z.reduced() == x.reduced() }
func (z *fe) negate(x *fe) { z.sub(&fe{}, x) }
func (z *fe) double(x *fe) { z.add(x, x) }
func (z *fe) mulBy(x *fe)  { z.mul(z, x) }
func (z *fe) minus(x *fe)  { z.sub(z, x) }
func (z *fe) squares(n int) {
	for range n {
		z.square(z)
	}
}

// add sets z to x + y.
func (z *fe) add(x, y *fe) {
	a, c := bits.Add64(x[0], y[0], 0)
	b, c := bits.Add64(x[1], y[1], c)
	d, c := bits.Add64(x[2], y[2], c)
	e, c := bits.Add64(x[3], y[3], c)
	for c == 1 { // 2^256 is fold; twice at most
		a, c = bits.Add64(a, fold, 0)
		b, c = bits.Add64(b, 0, c)
		d, c = bits.Add64(d, 0, c)
		e, c = bits.Add64(e, 0, c)
	}
	z[0], z[1], z[2], z[3] = a, b, d, e
}

// sub sets z to x - y.
func (z *fe) sub(x, y *fe) {
	a, c := bits.Sub64(x[0], y[0], 0)
	b, c := bits.Sub64(x[1], y[1], c)
	d, c := bits.Sub64(x[2], y[2], c)
	e, c := bits.Sub64(x[3], y[3], c)
	for c == 1 { // 2^256 too much; twice at most
		a, c = bits.Sub64(a, fold, 0)
		b, c = bits.Sub64(b, 0, c)
		d, c = bits.Sub64(d, 0, c)
		e, c = bits.Sub64(e, 0, c)
	}
	z[0], z[1], z[2], z[3] = a, b, d, e
}

// mul sets z to x·y: row by row, each added to the rows before.
func (z *fe) mul(x, y *fe) {
	var c uint64
	y0, y1, y2, y3 := y[0], y[1], y[2], y[3]
	a := x[0]
	h0, t0 := bits.Mul64(a, y0)
	h1, t1 := bits.Mul64(a, y1)
	h2, t2 := bits.Mul64(a, y2)
	t4, t3 := bits.Mul64(a, y3)
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, h1, c)
	t3, c = bits.Add64(t3, h2, c)
	t4 += c
	a = x[1]
	h0, l0 := bits.Mul64(a, y0)
	h1, l1 := bits.Mul64(a, y1)
	h2, l2 := bits.Mul64(a, y2)
	t5, l3 := bits.Mul64(a, y3)
	l1, c = bits.Add64(l1, h0, 0)
	l2, c = bits.Add64(l2, h1, c)
	l3, c = bits.Add64(l3, h2, c)
	t5 += c
	t1, c = bits.Add64(t1, l0, 0)
	t2, c = bits.Add64(t2, l1, c)
	t3, c = bits.Add64(t3, l2, c)
	t4, c = bits.Add64(t4, l3, c)
	t5 += c
	a = x[2]
	h0, l0 = bits.Mul64(a, y0)
	h1, l1 = bits.Mul64(a, y1)
	h2, l2 = bits.Mul64(a, y2)
	t6, l3 := bits.Mul64(a, y3)
	l1, c = bits.Add64(l1, h0, 0)
	l2, c = bits.Add64(l2, h1, c)
	l3, c = bits.Add64(l3, h2, c)
	t6 += c
	t2, c = bits.Add64(t2, l0, 0)
	t3, c = bits.Add64(t3, l1, c)
	t4, c = bits.Add64(t4, l2, c)
	t5, c = bits.Add64(t5, l3, c)
	t6 += c
	a = x[3]
	h0, l0 = bits.Mul64(a, y0)
	h1, l1 = bits.Mul64(a, y1)
	h2, l2 = bits.Mul64(a, y2)
	t7, l3 := bits.Mul64(a, y3)
	l1, c = bits.Add64(l1, h0, 0)
	l2, c = bits.Add64(l2, h1, c)
	l3, c = bits.Add64(l3, h2, c)
	t7 += c
	t3, c = bits.Add64(t3, l0, 0)
	t4, c = bits.Add64(t4, l1, c)
	t5, c = bits.Add64(t5, l2, c)
	t6, c = bits.Add64(t6, l3, c)
	t7 += c
	z.fold(t0, t1, t2, t3, t4, t5, t6, t7)
}

// square sets z to x².
func (z *fe) square(x *fe) {
	var c uint64
	// products of different limbs, once
	h01, t1 := bits.Mul64(x[0], x[1])
	h02, l02 := bits.Mul64(x[0], x[2])
	h03, l03 := bits.Mul64(x[0], x[3])
	h12, l12 := bits.Mul64(x[1], x[2])
	h13, l13 := bits.Mul64(x[1], x[3])
	h23, l23 := bits.Mul64(x[2], x[3])
	t2, c := bits.Add64(h01, l02, 0)
	t3, c := bits.Add64(h02, l03, c)
	t4, c := bits.Add64(h03, l13, c)
	t5, c := bits.Add64(h13, l23, c)
	t6 := h23 + c
	t3, c = bits.Add64(t3, l12, 0)
	t4, c = bits.Add64(t4, h12, c)
	t5, c = bits.Add64(t5, 0, c)
	t6 += c
	// twice, and the squares
	t7 := t6 >> 63
	t6 = t6<<1 | t5>>63
	t5 = t5<<1 | t4>>63
	t4 = t4<<1 | t3>>63
	t3 = t3<<1 | t2>>63
	t2 = t2<<1 | t1>>63
	t1 <<= 1
	h0, t0 := bits.Mul64(x[0], x[0])
	h1, l1 := bits.Mul64(x[1], x[1])
	h2, l2 := bits.Mul64(x[2], x[2])
	h3, l3 := bits.Mul64(x[3], x[3])
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, l1, c)
	t3, c = bits.Add64(t3, h1, c)
	t4, c = bits.Add64(t4, l2, c)
	t5, c = bits.Add64(t5, h2, c)
	t6, c = bits.Add64(t6, l3, c)
	t7, _ = bits.Add64(t7, h3, c)
	z.fold(t0, t1, t2, t3, t4, t5, t6, t7)
}

// fold sets z to a number of eight limbs, the lowest first: the upper half counts fold.
func (z *fe) fold(t0, t1, t2, t3, t4, t5, t6, t7 uint64) {
	h0, l0 := bits.Mul64(t4, fold)
	h1, l1 := bits.Mul64(t5, fold)
	h2, l2 := bits.Mul64(t6, fold)
	h3, l3 := bits.Mul64(t7, fold)
	l1, c := bits.Add64(l1, h0, 0)
	l2, c = bits.Add64(l2, h1, c)
	l3, c = bits.Add64(l3, h2, c)
	h3 += c
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, l1, c)
	t2, c = bits.Add64(t2, l2, c)
	t3, c = bits.Add64(t3, l3, c)
	h3 += c // below 2^34
	h, l := bits.Mul64(h3, fold)
	t0, c = bits.Add64(t0, l, 0)
	t1, c = bits.Add64(t1, h, c)
	t2, c = bits.Add64(t2, 0, c)
	t3, c = bits.Add64(t3, 0, c)
	if c == 1 { // what is left is below 2^68
		t0, c = bits.Add64(t0, fold, 0)
		t1, c = bits.Add64(t1, 0, c)
		t2 += c
	}
	z[0], z[1], z[2], z[3] = t0, t1, t2, t3
}

// invert sets z to 1/x, and to zero for zero: x^(p-2).
func (z *fe) invert(x *fe) {
	power := func(from *fe, n int, times *fe) (r fe) { // from^(2^n) · times
		r = *from
		r.squares(n)
		r.mulBy(times)
		return r
	}
	// on is x to 2^n - 1
	on2 := power(x, 1, x)
	on3 := power(&on2, 1, x)
	on6 := power(&on3, 3, &on3)
	on9 := power(&on6, 3, &on3)
	on11 := power(&on9, 2, &on2)
	on22 := power(&on11, 11, &on11)
	on44 := power(&on22, 22, &on22)
	on88 := power(&on44, 44, &on44)
	on176 := power(&on88, 88, &on88)
	on220 := power(&on176, 44, &on44)
	on223 := power(&on220, 3, &on3)
	// p - 2 is 223 ones, a zero, 22 ones, and 0000101101
	r := power(&on223, 23, &on22)
	r = power(&r, 5, x)
	r = power(&r, 3, &on2)
	*z = power(&r, 2, x)
}
