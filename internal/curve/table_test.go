package curve

import (
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"pgregory.net/rapid"
)

func tableOf(t testing.TB, pub *btcec.PublicKey) (*table, [32]byte, bool) {
	t.Helper()
	x, odd := xOf(pub)
	var v btcec.FieldVal
	v.SetBytes(&x)
	tab, ok := newTable(&v)
	if !ok {
		t.Fatal("a key without a table")
	}
	return tab, x, odd
}

// scalars at which digits carry, vanish, or reach their ends, and their negatives.
func edges() (all []*btcec.ModNScalar) {
	for _, b := range []byte{0x00, 0x01, 0x07, 0x08, 0x09, 0x0f, 0x10, 0x77, 0x78, 0x80, 0x87, 0x88, 0x89, 0x8f, 0xf0, 0xf8, 0xff} {
		for _, fill := range []byte{0x00, 0x77, 0x88, b} {
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

// A product by the table is the library's product, for every kind of scalar and on top
// of every kind of sum.
func TestTableMultiplies(t *testing.T) {
	key := keyOf("table")
	tab, _, odd := tableOf(t, key.PubKey())
	var p btcec.JacobianPoint
	key.PubKey().AsJacobian(&p)
	if odd {
		p.Y.Negate(1).Normalize()
	}
	for i, k := range edges() {
		var want, got btcec.JacobianPoint
		btcec.ScalarMultNonConst(k, &p, &want)
		tab.add(k, &got)
		if infinite(&want) != infinite(&got) || !infinite(&want) && !want.EquivalentNonConst(&got) {
			t.Fatalf("edge %d: another product", i)
		}
		minus := new(btcec.ModNScalar).NegateVal(k)
		if tab.add(minus, &got); !infinite(&got) {
			t.Fatalf("edge %d: k·P - k·P is a point", i)
		}
		got = want
		tab.add(k, &got) // doubled
		var twice btcec.JacobianPoint
		btcec.AddNonConst(&want, &want, &twice)
		if infinite(&twice) != infinite(&got) || !infinite(&got) && !twice.EquivalentNonConst(&got) {
			t.Fatalf("edge %d: k·P + k·P is another point", i)
		}
	}
}

// Whatever signature comes, true or damaged anywhere, a table says what the library says.
func TestTableSaysWhatTheLibrarySays(t *testing.T) {
	var once sync.Map
	rapid.Check(t, func(r *rapid.T) {
		key := keyOf(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(r, "key"))
		pub := key.PubKey()
		x, odd := xOf(pub)
		found, ok := once.Load(x)
		if !ok {
			tab, _, _ := tableOf(t, pub)
			found, _ = once.LoadOrStore(x, tab)
		}
		tab := found.(*table)
		digest := sha256.Sum256(binary.BigEndian.AppendUint64(nil, rapid.Uint64().Draw(r, "digest")))
		sig, err := schnorr.Sign(key, digest[:])
		if err != nil {
			r.Fatal(err)
		}
		low := ecdsa.Sign(key, digest[:])
		if !tab.schnorr(sig, digest[:], &x) || !tab.ecdsa(low, digest[:], odd) {
			r.Fatal("a good signature is not recognized")
		}
		raw, der := sig.Serialize(), low.Serialize()
		bit := rapid.IntRange(0, 511).Draw(r, "bit")
		raw[bit/8] ^= 1 << (bit % 8)
		if bad, err := schnorr.ParseSignature(raw); err == nil && tab.schnorr(bad, digest[:], &x) != bad.Verify(digest[:], pub) {
			r.Fatal("a damaged signature by Schnorr")
		}
		at := rapid.IntRange(0, len(der)*8-1).Draw(r, "at")
		der[at/8] ^= 1 << (at % 8)
		if bad, err := ecdsa.ParseDERSignature(der); err == nil && tab.ecdsa(bad, digest[:], odd) != bad.Verify(digest[:], pub) {
			r.Fatal("a damaged signature by ECDSA")
		}
		other := digest
		other[bit%32] ^= 1
		if tab.schnorr(sig, other[:], &x) || tab.ecdsa(low, other[:], odd) || tab.schnorr(sig, digest[:31], &x) || tab.ecdsa(low, digest[:], !odd) {
			r.Fatal("another digest, or another key, is taken")
		}
		if s := rapid.SampledFrom(edges()).Draw(r, "edge"); !s.IsZero() {
			forged := schnorr.NewSignature(new(btcec.FieldVal).SetInt(uint16(bit)+1), s)
			if tab.schnorr(forged, digest[:], &x) != forged.Verify(digest[:], pub) {
				r.Fatal("a forged signature")
			}
			e := ecdsa.NewSignature(s, s)
			if tab.ecdsa(e, digest[:], odd) != e.Verify(digest[:], pub) {
				r.Fatal("a forged signature by ECDSA")
			}
		}
	})
}

// Where an x is no point's there is no table.
func TestNoTableWithoutAPoint(t *testing.T) {
	none := 0
	for i := uint16(1); i < 40; i++ {
		var x btcec.FieldVal
		x.SetInt(i)
		_, ok := newTable(&x)
		y := new(big.Int).Exp(big.NewInt(int64(i)), big.NewInt(3), nil)
		y.Add(y, big.NewInt(7))
		prime := btcec.S256().P
		if on := big.Jacobi(y, prime) >= 0; on != ok {
			t.Errorf("x = %d: a table: %v, a point: %v", i, ok, on)
		}
		if !ok {
			none++
		}
	}
	if none == 0 {
		t.Error("every x is a key")
	}
}

// A table is made of a key that often signs well, never by what does not verify, and
// there are never more than is bounded.
func TestCabinet(t *testing.T) {
	c := cabinet{keys: map[[32]byte]*drawer{}}
	x, _ := xOf(keyOf("often").PubKey())
	for i := range often {
		if c.find(&x) != nil {
			t.Fatalf("a table after %d signatures", i)
		}
		c.good(&x)
	}
	if c.find(&x) == nil || c.kept != 1 {
		t.Fatalf("no table after %d signatures", often)
	}
	one := c.keys[x].table
	for i := range uint32(counted + 10) { // as many others, a few of them often
		var other [32]byte
		binary.BigEndian.PutUint32(other[:], i+1)
		if c.due(&other); i >= tables+10 {
			continue
		}
		if c.now++; c.room() {
			c.keys[other] = &drawer{at: c.now, good: often, table: one}
			c.kept++
		}
	}
	if c.kept != tables || len(c.keys) > counted {
		t.Fatalf("%d tables of %d keys", c.kept, len(c.keys))
	}
	kept := c.kept
	var late [32]byte
	late[0] = 1
	if c.due(&late); c.room() {
		t.Fatal("there is room though all were used a moment ago")
	}
	if c.now += idle + interval; !c.room() || c.kept >= kept {
		t.Fatal("what was not used for long is kept")
	}
}

// With a table or without, a signature is right or wrong all the same.
func TestQuickIsOnlyQuicker(t *testing.T) {
	forget(t)
	key, stranger := keyOf("quick"), keyOf("stranger")
	x, _ := xOf(key.PubKey())
	for i := range byte(2 * often) {
		digest := sha256.Sum256([]byte{i})
		sig, err := SignSchnorr(key, key.PubKey(), digest[:])
		if err != nil {
			t.Fatal(err)
		}
		low := ecdsa.Sign(key, digest[:])
		if !VerifySchnorr(sig, digest[:], key.PubKey()) || !VerifyECDSA(low, digest[:], key.PubKey()) {
			t.Fatalf("signature %d is refused", i)
		}
		other := sha256.Sum256([]byte{i, 1})
		if VerifySchnorr(sig, other[:], key.PubKey()) || VerifyECDSA(low, other[:], key.PubKey()) ||
			VerifySchnorr(sig, digest[:], stranger.PubKey()) || VerifyECDSA(low, digest[:], stranger.PubKey()) {
			t.Fatalf("signature %d is taken for something else", i)
		}
	}
	if quick.find(&x) == nil {
		t.Fatal("the key has no table")
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
	tab, x, odd := tableOf(b, pub)
	for name, do := range map[string]func() bool{
		"schnorr library": func() bool { return sig.Verify(digest[:], pub) },
		"schnorr table":   func() bool { return tab.schnorr(sig, digest[:], &x) },
		"ecdsa library":   func() bool { return low.Verify(digest[:], pub) },
		"ecdsa table":     func() bool { return tab.ecdsa(low, digest[:], odd) },
		"make a table":    func() bool { tableOf(b, pub); return true },
		"sign":            func() bool { _, err := SignSchnorr(key, key.PubKey(), digest[:]); return err == nil },
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
