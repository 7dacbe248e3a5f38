package curve

import (
	"crypto/sha256"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
	"pgregory.net/rapid"
)

// scalar is a number below the order, near its ends or anywhere.
var scalar = rapid.Custom(func(t *rapid.T) *btcec.ModNScalar {
	k := new(btcec.ModNScalar)
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		k.SetInt(rapid.Uint32Range(1, 300).Draw(t, "small"))
	case 1:
		k.SetInt(rapid.Uint32Range(1, 300).Draw(t, "small")).Negate()
	case 2:
		*k = *rapid.SampledFrom(edges()).Draw(t, "edge")
	default:
		k.SetByteSlice(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "any"))
	}
	if k.IsZero() {
		k.SetInt(1)
	}
	return k
})

// agree fails where this package and the library say two things of a signature, or not
// what is wanted.
func agree(t *rapid.T, what string, got, library, want bool) {
	t.Helper()
	if got && !library || library != want {
		t.Fatalf("%s: here %v, by the library %v, want %v", what, got, library, want)
	}
}

// Whoever has a key can make the sum of a verification the point at infinity. That is no
// signature, whatever r it claims: no block would hold a settlement with it, and a payee
// that took it as paid would have nothing.
func TestInfinityIsNoSignature(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := scalar.Draw(t, "d")
		key := btcec.PrivKeyFromScalar(d)
		pub := key.PubKey()
		digest := sha256.Sum256(rapid.SliceOf(rapid.Byte()).Draw(t, "digest"))
		// Schnorr: s = e·d, so s·G - e·P is infinity; r zero is what its coordinates read as
		even := *d
		if pub.SerializeCompressed()[0] == 3 {
			even.Negate()
		}
		r := new(btcec.FieldVal).SetInt(rapid.SampledFrom([]uint16{0, 1, 2}).Draw(t, "r"))
		x := r.Bytes()
		var e, s btcec.ModNScalar
		e.SetBytes((*[32]byte)(chainhash.TaggedHash(chainhash.TagBIP0340Challenge, x[:], schnorr.SerializePubKey(pub), digest[:])))
		s.Mul2(&e, &even)
		forged := schnorr.NewSignature(r, &s)
		agree(t, "Schnorr", goodSchnorr(forged, digest[:], pub), forged.Verify(digest[:], pub), false)
		// ECDSA: r = -e/d, so e/s·G + r/s·Q is infinity
		var er btcec.ModNScalar
		er.SetBytes(&digest)
		inverse := new(btcec.ModNScalar).InverseValNonConst(d)
		er.Mul(inverse).Negate()
		if er.IsZero() {
			return
		}
		dead := ecdsa.NewSignature(&er, scalar.Draw(t, "s"))
		agree(t, "ECDSA", goodECDSA(dead, digest[:], pub), dead.Verify(digest[:], pub), false)
	})
}

// wrapped is a point whose x is not below the group's order: x - order is its r.
func wrapped(t *rapid.T) (point btcec.JacobianPoint, r btcec.ModNScalar) {
	order := [32]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
		0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41}
	var x btcec.FieldVal
	x.SetBytes(&order)
	for more := rapid.Uint16Range(1, 50_000).Draw(t, "more"); ; more++ {
		var at, y btcec.FieldVal
		at.Set(&x).Add(new(btcec.FieldVal).SetInt(more)).Normalize()
		if btcec.DecompressY(&at, rapid.Bool().Draw(t, "odd"), &y) {
			y.Normalize()
			point = btcec.MakeJacobianPoint(&at, &y, new(btcec.FieldVal).SetInt(1))
			r.SetInt(uint32(more))
			return point, r
		}
	}
}

// An ECDSA signature whose point has an x beyond the order has an r that is less by the
// order. It is good, nobody meets one by chance, and it is taken: the library decides.
func TestWrappedR(t *testing.T) {
	forget(t)
	rapid.Check(t, func(t *rapid.T) {
		point, r := wrapped(t)
		s := scalar.Draw(t, "s")
		digest := sha256.Sum256(rapid.SliceOf(rapid.Byte()).Draw(t, "digest"))
		// Q = (s·R - e·G)/r
		var e btcec.ModNScalar
		e.SetBytes(&digest)
		inverse := new(btcec.ModNScalar).InverseValNonConst(&r)
		var sr, eg, sum btcec.JacobianPoint
		btcec.ScalarMultNonConst(new(btcec.ModNScalar).Mul2(s, inverse), &point, &sr)
		btcec.ScalarBaseMultNonConst(new(btcec.ModNScalar).Mul2(&e, inverse).Negate(), &eg)
		btcec.AddNonConst(&sr, &eg, &sum)
		sum.ToAffine()
		pub := btcec.NewPublicKey(&sum.X, &sum.Y)
		sig := ecdsa.NewSignature(&r, s)
		agree(t, "a wrapped r", goodECDSA(sig, digest[:], pub), sig.Verify(digest[:], pub), true)
		if !VerifyECDSA(sig, digest[:], pub) {
			t.Fatal("a good signature is refused")
		}
		other := ecdsa.NewSignature(new(btcec.ModNScalar).Set(&r).Add(new(btcec.ModNScalar).SetInt(1)), s)
		agree(t, "another r", goodECDSA(other, digest[:], pub), other.Verify(digest[:], pub), false)
		if VerifyECDSA(other, digest[:], pub) {
			t.Fatal("a wrong signature is taken")
		}
	})
}

// Signatures that hold for keys at the ends of the group, in either scheme, with each of
// their parts negated, put in the place of the other, or off by one: taken where the
// library takes them. A high s is one of those: that rule is package script's.
func TestRelatedSignatures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := scalar.Draw(t, "d")
		key := btcec.PrivKeyFromScalar(d)
		pub := key.PubKey()
		digest := sha256.Sum256(rapid.SliceOf(rapid.Byte()).Draw(t, "digest"))
		low := ecdsa.Sign(key, digest[:])
		r, s := low.R(), low.S()
		one := new(btcec.ModNScalar).SetInt(1)
		minus := func(k btcec.ModNScalar) *btcec.ModNScalar { return k.Negate() }
		plus := func(k btcec.ModNScalar) *btcec.ModNScalar { return k.Add(one) }
		for name, sig := range map[string]*ecdsa.Signature{
			"itself": low, "high s": ecdsa.NewSignature(&r, minus(s)), "-r": ecdsa.NewSignature(minus(r), &s), "both": ecdsa.NewSignature(minus(r), minus(s)),
			"swapped": ecdsa.NewSignature(&s, &r), "s+1": ecdsa.NewSignature(&r, plus(s)), "r+1": ecdsa.NewSignature(plus(r), &s),
			"no r": ecdsa.NewSignature(new(btcec.ModNScalar), &s), "no s": ecdsa.NewSignature(&r, new(btcec.ModNScalar)), "nothing": ecdsa.NewSignature(new(btcec.ModNScalar), new(btcec.ModNScalar)),
		} {
			agree(t, name, goodECDSA(sig, digest[:], pub), sig.Verify(digest[:], pub), name == "itself" || name == "high s")
		}
		sig, err := schnorr.Sign(key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		raw := sig.Serialize()
		var x btcec.FieldVal
		x.SetByteSlice(raw[:32])
		var good btcec.ModNScalar
		good.SetByteSlice(raw[32:])
		// the point of the same x with an odd y: 2·e·d - s, for whoever has the key
		even := *d
		if pub.SerializeCompressed()[0] == 3 {
			even.Negate()
		}
		var e, odd btcec.ModNScalar
		e.SetBytes((*[32]byte)(chainhash.TaggedHash(chainhash.TagBIP0340Challenge, raw[:32], schnorr.SerializePubKey(pub), digest[:])))
		odd.Mul2(&e, &even).Add(new(btcec.ModNScalar).Mul2(&e, &even)).Add(minus(good))
		opposite := btcec.PrivKeyFromScalar(minus(*d)).PubKey() // the same x: the same key to BIP340
		for name, sig := range map[string]*schnorr.Signature{
			"itself": sig, "-s": schnorr.NewSignature(&x, minus(good)), "s+1": schnorr.NewSignature(&x, plus(good)), "no s": schnorr.NewSignature(&x, new(btcec.ModNScalar)),
			"no r": schnorr.NewSignature(new(btcec.FieldVal), &good), "an odd R": schnorr.NewSignature(&x, &odd),
		} {
			agree(t, name, goodSchnorr(sig, digest[:], pub), sig.Verify(digest[:], pub), name == "itself")
			agree(t, name+" by -d", goodSchnorr(sig, digest[:], opposite), sig.Verify(digest[:], opposite), name == "itself")
		}
	})
}

// What is no point is no key, in any form that keys are written in.
func TestParseAsTheLibrary(t *testing.T) {
	forget(t)
	Know(keyOf("known"))
	rapid.Check(t, func(t *rapid.T) {
		pub := keyOf(rapid.SampledFrom([]string{"known", "other", "third"}).Draw(t, "key")).PubKey()
		raw := pub.SerializeCompressed()
		if rapid.Bool().Draw(t, "long") {
			raw = pub.SerializeUncompressed()
			raw[0] = byte(rapid.IntRange(4, 7).Draw(t, "form")) // 6 and 7 are the hybrid ones
		}
		for range rapid.IntRange(0, 2).Draw(t, "flips") {
			i := rapid.IntRange(0, len(raw)*8-1).Draw(t, "bit")
			raw[i/8] ^= 1 << (i % 8)
		}
		want, wantErr := btcec.ParsePubKey(raw)
		got, err := Parse(raw)
		if (err == nil) != (wantErr == nil) || err == nil && !got.IsEqual(want) {
			t.Fatalf("%x: %v, want %v", raw, err, wantErr)
		}
	})
}

// Only a whole digest is signed: what is shorter or longer, and holds by the equation, is
// no signature, as it is none to the library.
func TestDigestsAreWhole(t *testing.T) {
	key := keyOf("digests")
	pub := key.PubKey()
	d := key.Key
	if pub.SerializeCompressed()[0] == 3 {
		d.Negate()
	}
	k := new(btcec.ModNScalar).SetInt(7)
	var point btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(k, &point)
	if point.ToAffine(); point.Y.IsOdd() {
		k.Negate()
	}
	for _, size := range []int{0, 1, 31, 32, 33, 64} {
		digest := make([]byte, size)
		var e, s btcec.ModNScalar
		e.SetBytes((*[32]byte)(chainhash.TaggedHash(chainhash.TagBIP0340Challenge, point.X.Bytes()[:], schnorr.SerializePubKey(pub), digest)))
		s.Mul2(&e, &d).Add(k)
		sig := schnorr.NewSignature(&point.X, &s)
		if got, want := goodSchnorr(sig, digest, pub), sig.Verify(digest, pub); got != want || want != (size == 32) {
			t.Errorf("%d bytes: here %v, by the library %v", size, got, want)
		}
	}
}
