package curve

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
)

func keyOf(text string) *btcec.PrivateKey {
	sum := sha256.Sum256([]byte(text))
	key, _ := btcec.PrivKeyFromBytes(sum[:])
	return key
}

// forget empties the memory, as it is in every process but the simulator's.
func forget(t *testing.T) {
	known.Store(nil)
	t.Cleanup(func() { known.Store(nil) })
}

// What is answered for a known key is what the library answers.
func TestSameAnswers(t *testing.T) {
	forget(t)
	one, two, digest := keyOf("one"), keyOf("two"), sha256.Sum256([]byte("digest"))
	type answers struct{ public, parsed, shared, sum, signature []byte }
	all := func() (a answers) {
		pub, err := Parse(two.PubKey().SerializeCompressed())
		if err != nil {
			t.Fatal(err)
		}
		agg, err := Aggregate(one.PubKey(), pub)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := SignSchnorr(one, one.PubKey(), digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if !VerifySchnorr(sig, digest[:], one.PubKey()) {
			t.Error("a signature does not verify")
		}
		return answers{Public(one).SerializeCompressed(), pub.SerializeCompressed(), Shared(one, pub).SerializeCompressed(),
			agg.SerializeCompressed(), sig.Serialize()}
	}
	plain := all()
	want, _, _, err := musig2.AggregateKeys([]*btcec.PublicKey{two.PubKey(), one.PubKey()}, true)
	if err != nil || !bytes.Equal(plain.sum, want.PreTweakedKey.SerializeCompressed()) {
		t.Errorf("the aggregate is %x: %v", plain.sum, err)
	}
	if !bytes.Equal(plain.shared, Shared(two, one.PubKey()).SerializeCompressed()) {
		t.Error("the two sides share two points")
	}
	Know(one)
	Know(two)
	for range 2 {
		if got := all(); !bytes.Equal(got.public, plain.public) || !bytes.Equal(got.parsed, plain.parsed) ||
			!bytes.Equal(got.shared, plain.shared) || !bytes.Equal(got.sum, plain.sum) || !bytes.Equal(got.signature, plain.signature) {
			t.Errorf("with a memory it is %x, without %x", got, plain)
		}
	}
	if !bytes.Equal(plain.shared, Shared(two, one.PubKey()).SerializeCompressed()) {
		t.Error("the two sides remember two points")
	}
}

// The memory makes nothing right that is wrong: another digest, another key, another
// signature, another scheme.
func TestWrongStaysWrong(t *testing.T) {
	forget(t)
	one, two := keyOf("one"), keyOf("two")
	Know(one)
	Know(two)
	digest, other := sha256.Sum256([]byte("digest")), sha256.Sum256([]byte("other"))
	sig, err := SignSchnorr(one, one.PubKey(), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	dead := sig.Serialize()
	dead[63] ^= 1
	forged, err := schnorr.ParseSignature(dead)
	if err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]bool{
		"digest":    VerifySchnorr(sig, other[:], one.PubKey()),
		"key":       VerifySchnorr(sig, digest[:], two.PubKey()),
		"signature": VerifySchnorr(forged, digest[:], one.PubKey()),
	} {
		if wrong {
			t.Errorf("another %s is taken", name)
		}
	}
	low := ecdsa.Sign(one, digest[:])
	if !VerifyECDSA(low, digest[:], one.PubKey()) {
		t.Error("what was not noted is not verified")
	}
	SignedECDSA(one, digest[:], low)
	if !VerifyECDSA(low, digest[:], one.PubKey()) || VerifyECDSA(low, other[:], one.PubKey()) || VerifyECDSA(low, digest[:], two.PubKey()) {
		t.Error("what was signed counts for something else, or not at all")
	}
}

// Nothing is remembered of a key that was not named, and nothing at all where none was.
func TestNothingOfOthers(t *testing.T) {
	forget(t)
	one, two, digest := keyOf("one"), keyOf("two"), sha256.Sum256([]byte("digest"))
	use := func() {
		if _, err := SignSchnorr(one, one.PubKey(), digest[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := Aggregate(one.PubKey(), two.PubKey()); err != nil {
			t.Fatal(err)
		}
		Shared(one, two.PubKey())
		SignedECDSA(one, digest[:], ecdsa.Sign(one, digest[:]))
	}
	if use(); known.Load() != nil {
		t.Error("there is a memory that nobody asked for")
	}
	Know(two)
	if use(); len(known.Load().pairs)+len(known.Load().signed) > 0 || len(SignOptions(one)) > 0 || len(SignOptions(two)) == 0 {
		t.Errorf("something is remembered of a key that is not known: %d pairs, %d signatures", len(known.Load().pairs), len(known.Load().signed))
	}
	if _, err := Parse([]byte("no key")); err == nil {
		t.Error("what is no key is parsed")
	}
}

// The memory is bounded.
func TestBounded(t *testing.T) {
	forget(t)
	one := keyOf("one")
	Know(one)
	m := known.Load()
	for i := range limit + 10 {
		m.sign('s', m.of(one), []byte{byte(i), byte(i >> 8), byte(i >> 16)}, nil)
	}
	if n := len(m.signed); n == 0 || n > limit {
		t.Errorf("%d signatures are remembered", n)
	}
}
