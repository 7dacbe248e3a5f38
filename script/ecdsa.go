package script

import (
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"

	"github.com/spillway/spillway/internal/curve"
)

// The longest DER signatures with low S, with their flag, in bytes: two of
// header, 2+33 for R, 2+32 for S, 1. R has a leading zero where its top bit is
// set; signatures made here never do. BIP66, BIP146.
const (
	longestECDSA     = 72
	longestLowRECDSA = 71
)

// signLowR is an ECDSA signature, DER, with a low S (BIP146) and an R below
// 2^255: a byte shorter than half of all others, for one more attempt on
// average. It is deterministic: the nonce is RFC 6979's, the next one of its
// sequence where R would be high, so that a signature with a low R at once is
// the usual one.
func signLowR(key *btcec.PrivateKey, digest []byte) []byte {
	if sig := curve.MadeECDSA(key, digest); sig != nil {
		return sig.Serialize()
	}
	d := key.Key
	defer d.Zero()
	secret := key.Serialize()
	defer clear(secret)
	for attempt := uint32(0); ; attempt++ {
		k := btcec.NonceRFC6979(secret, digest, nil, nil, attempt)
		sig, ok := signWith(&d, k, digest)
		k.Zero()
		if ok {
			curve.SignedECDSA(key, digest, sig)
			return sig.Serialize()
		}
	}
}

// signWith is the signature (r, s) of a nonce k: r = (k·G).x, s = (e + r·d)/k.
// It reports false where R is high, or r or s zero. SEC 1, section 4.1.3.
func signWith(d, k *btcec.ModNScalar, digest []byte) (*ecdsa.Signature, bool) {
	var point btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(k, &point)
	point.ToAffine()
	x := point.X.Bytes()
	if x[0] >= 0x80 {
		return nil, false
	}
	var r, e, s, inverse btcec.ModNScalar
	r.SetBytes(x) // below the order, as it is below 2^255
	e.SetByteSlice(digest)
	inverse.InverseValNonConst(k)
	defer inverse.Zero()
	s.Mul2(d, &r).Add(&e).Mul(&inverse)
	if r.IsZero() || s.IsZero() {
		return nil, false
	}
	if s.IsOverHalfOrder() {
		s.Negate()
	}
	return ecdsa.NewSignature(&r, &s), true
}
