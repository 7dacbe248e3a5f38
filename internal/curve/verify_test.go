package curve

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"pgregory.net/rapid"
)

// edges are scalars at which digits carry, vanish, or reach their ends, and their
// negatives.
func edges() (all []*btcec.ModNScalar) {
	for _, b := range []byte{0x00, 0x01, 0x07, 0x08, 0x09, 0x0f, 0x10, 0x77, 0x78, 0x7f, 0x80, 0x81, 0x87, 0x88, 0x89, 0x8f, 0xf0, 0xf8, 0xfe, 0xff} {
		for _, fill := range []byte{0x00, 0x77, 0x7f, 0x80, 0x88, 0xff, b} {
			for _, at := range []int{0, 1, 15, 16, 31} {
				var raw [32]byte
				for i := range raw {
					raw[i] = fill
				}
				raw[at] = b
				k, minus := new(btcec.ModNScalar), new(btcec.ModNScalar)
				k.SetBytes(&raw)
				minus.NegateVal(k)
				all = append(all, k, minus)
			}
		}
	}
	return all
}

// samePoint reports whether a point is the library's.
func samePoint(got jacobian, want *btcec.JacobianPoint) bool {
	none := want.X.IsZero() && want.Y.IsZero() || want.Z.IsZero()
	if got.infinite() || none {
		return got.infinite() && none
	}
	p := *want
	p.ToAffine()
	a := got.affine()
	return a.x.bytes() == *p.X.Bytes() && a.y.bytes() == *p.Y.Bytes()
}

func checkProducts(t *testing.T, k *btcec.ModNScalar, pub *btcec.PublicKey) {
	t.Helper()
	var p, want, base, twice btcec.JacobianPoint
	pub.AsJacobian(&p)
	q := affineOf(pub)
	btcec.ScalarMultNonConst(k, &p, &want)
	got := product(k, &q)
	if !samePoint(got, &want) {
		t.Fatalf("%x·P is another point", k.Bytes())
	}
	btcec.ScalarBaseMultNonConst(k, &base)
	var sum jacobian
	if sum.addBase(k); !samePoint(sum, &base) {
		t.Fatalf("%x·G is another point", k.Bytes())
	}
	minus := new(btcec.ModNScalar).NegateVal(k)
	if sum.addBase(minus); !sum.infinite() { // every digit meets its negative
		t.Fatalf("%x·G - %x·G is a point", k.Bytes(), k.Bytes())
	}
	got.addBase(k)
	btcec.AddNonConst(&want, &base, &twice)
	if !samePoint(got, &twice) {
		t.Fatalf("%x·P + %x·G is another point", k.Bytes(), k.Bytes())
	}
}

// Products and sums of points are the library's, for every kind of scalar; with the
// generator as the point sums meet themselves and their negatives on the way.
func TestProductsAreTheLibrarys(t *testing.T) {
	one, _ := btcec.PrivKeyFromBytes([]byte{1})
	minus := new(btcec.ModNScalar).SetInt(1)
	minus.Negate()
	last := btcec.PrivKeyFromScalar(minus)
	for _, pub := range []*btcec.PublicKey{keyOf("point").PubKey(), one.PubKey(), last.PubKey()} {
		for _, k := range edges() {
			checkProducts(t, k, pub)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		k := new(btcec.ModNScalar)
		k.SetByteSlice(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "k"))
		checkProducts(t, k, keyOf(rapid.String().Draw(r, "key")).PubKey())
	})
}

// Whatever signature comes, true, damaged anywhere or forged, it is taken exactly where
// the library takes it.
func TestVerifiesAsTheLibrary(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		key := keyOf(rapid.String().Draw(r, "key"))
		pub := key.PubKey()
		digest := sha256.Sum256(binary.BigEndian.AppendUint64(nil, rapid.Uint64().Draw(r, "digest")))
		sig, err := schnorr.Sign(key, digest[:])
		if err != nil {
			r.Fatal(err)
		}
		low := ecdsa.Sign(key, digest[:])
		if !goodSchnorr(sig, digest[:], pub) || !goodECDSA(low, digest[:], pub) {
			r.Fatal("a good signature is not recognized")
		}
		raw, der := sig.Serialize(), low.Serialize()
		bit := rapid.IntRange(0, 511).Draw(r, "bit")
		raw[bit/8] ^= 1 << (bit % 8)
		if bad, err := schnorr.ParseSignature(raw); err == nil && goodSchnorr(bad, digest[:], pub) != bad.Verify(digest[:], pub) {
			r.Fatal("a damaged signature by Schnorr")
		}
		at := rapid.IntRange(0, len(der)*8-1).Draw(r, "at")
		der[at/8] ^= 1 << (at % 8)
		if bad, err := ecdsa.ParseDERSignature(der); err == nil && goodECDSA(bad, digest[:], pub) != bad.Verify(digest[:], pub) {
			r.Fatal("a damaged signature by ECDSA")
		}
		other, stranger := digest, keyOf("stranger").PubKey()
		other[bit%32] ^= 1
		if goodSchnorr(sig, other[:], pub) || goodECDSA(low, other[:], pub) || goodSchnorr(sig, digest[:31], pub) ||
			goodSchnorr(sig, digest[:], stranger) || goodECDSA(low, digest[:], stranger) {
			r.Fatal("another digest, or another key, is taken")
		}
		s := rapid.SampledFrom(edges()).Draw(r, "edge")
		forged := schnorr.NewSignature(new(btcec.FieldVal).SetInt(uint16(bit)+1), s)
		if goodSchnorr(forged, digest[:], pub) != forged.Verify(digest[:], pub) {
			r.Fatal("a forged signature")
		}
		e := ecdsa.NewSignature(s, s)
		if goodECDSA(e, digest[:], pub) != e.Verify(digest[:], pub) {
			r.Fatal("a forged signature by ECDSA")
		}
	})
}

// FuzzVerify: of any bytes a signature is taken exactly where the library takes it.
func FuzzVerify(f *testing.F) {
	key, digest := keyOf("fuzz"), sha256.Sum256([]byte("digest"))
	sig, err := schnorr.Sign(key, digest[:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("fuzz"), digest[:], sig.Serialize())
	f.Add([]byte("fuzz"), digest[:], ecdsa.Sign(key, digest[:]).Serialize())
	f.Add([]byte("other"), digest[:], make([]byte, 64))
	f.Add([]byte(""), []byte{}, []byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Fuzz(func(t *testing.T, name, digest, raw []byte) {
		pub := keyOf(string(name)).PubKey()
		if sig, err := schnorr.ParseSignature(raw); err == nil && goodSchnorr(sig, digest, pub) != sig.Verify(digest, pub) {
			t.Fatal("by Schnorr")
		}
		if sig, err := ecdsa.ParseDERSignature(raw); err == nil && goodECDSA(sig, digest, pub) != sig.Verify(digest, pub) {
			t.Fatal("by ECDSA")
		}
	})
}

// What is signed is what the library signs, and what does not verify by the public key
// that was given does not leave: the library signs then, and checks by its own.
func TestSignsAsTheLibrary(t *testing.T) {
	forget(t)
	stranger := keyOf("stranger").PubKey()
	rapid.Check(t, func(r *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "key")
		key, pub := btcec.PrivKeyFromBytes(raw)
		if key.Key.IsZero() {
			return
		}
		digest := sha256.Sum256(rapid.SliceOf(rapid.Byte()).Draw(r, "digest"))
		want, err := schnorr.Sign(key, digest[:])
		if err != nil {
			r.Fatal(err)
		}
		for name, public := range map[string]*btcec.PublicKey{"its own": pub, "another": stranger} {
			got, err := SignSchnorr(key, public, digest[:])
			if err != nil || !got.IsEqual(want) {
				r.Fatalf("with %s public key it signs otherwise: %v", name, err)
			}
		}
	})
	if _, err := SignSchnorr(keyOf("one"), stranger, []byte("short")); err == nil {
		t.Error("a digest that is none is signed")
	}
}

func BenchmarkVerify(b *testing.B) {
	key := keyOf("bench")
	pub, digest := key.PubKey(), sha256.Sum256([]byte("digest"))
	sig, err := schnorr.Sign(key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	low := ecdsa.Sign(key, digest[:])
	for name, do := range map[string]func() bool{
		"schnorr library": func() bool { return sig.Verify(digest[:], pub) },
		"schnorr":         func() bool { return goodSchnorr(sig, digest[:], pub) },
		"ecdsa library":   func() bool { return low.Verify(digest[:], pub) },
		"ecdsa":           func() bool { return goodECDSA(low, digest[:], pub) },
		"sign library":    func() bool { _, err := schnorr.Sign(key, digest[:]); return err == nil },
		"sign":            func() bool { _, err := SignSchnorr(key, pub, digest[:]); return err == nil },
		"sign unchecked":  func() bool { _, ok := sign(key, pub, digest[:]); return ok },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if !do() {
					b.Fatal("wrong")
				}
			}
		})
	}
}
