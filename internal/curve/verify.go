package curve

import (
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
)

// goodSchnorr checks a signature of a digest. BIP340, "Verification".
func goodSchnorr(sig *schnorr.Signature, digest []byte, pub *btcec.PublicKey) bool {
	if len(digest) != chainhash.HashSize {
		return false
	}
	raw, p := sig.Serialize(), affineOf(pub)
	if p.y.odd() {
		p = p.negative()
	}
	var s, e btcec.ModNScalar
	if s.SetByteSlice(raw[32:]) {
		return false
	}
	x := p.x.bytes()
	e.SetBytes((*[32]byte)(chainhash.TaggedHash(chainhash.TagBIP0340Challenge, raw[:32], x[:], digest)))
	e.Negate()
	sum := product(&e, &p)
	sum.addBase(&s) // R = s·G - e·P
	if sum.infinite() {
		return false
	}
	r := sum.affine()
	return !r.y.odd() && r.x.bytes() == [32]byte(raw[:32])
}

// goodECDSA checks a signature of a digest. An r that is the x of its point less the
// order, which one in 2^127 is, is not recognized. SEC 1, section 4.1.4.
func goodECDSA(sig *ecdsa.Signature, digest []byte, pub *btcec.PublicKey) bool {
	r, s := sig.R(), sig.S()
	if r.IsZero() || s.IsZero() {
		return false
	}
	var e, w, u1, u2 btcec.ModNScalar
	e.SetByteSlice(digest)
	w.InverseValNonConst(&s)
	u1.Mul2(&e, &w)
	u2.Mul2(&r, &w)
	p, raw := affineOf(pub), r.Bytes()
	sum := product(&u2, &p)
	sum.addBase(&u1)
	if sum.infinite() {
		return false
	}
	x, zz := feOf(&raw), fe{}
	zz.square(&sum.z)
	x.mulBy(&zz)
	return x.is(sum.x) // r = x/z²
}
