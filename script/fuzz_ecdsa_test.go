package script

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
)

// FuzzSignLowR: for any key and digest the signature is one that btcec verifies, in
// strict DER, with R and S low, the same each time; with any bit changed neither we
// nor btcec take it.
func FuzzSignLowR(f *testing.F) {
	f.Add([]byte("key"), []byte("message"), uint16(0))
	f.Add([]byte{}, []byte{}, uint16(13))
	f.Add([]byte{7}, bytes.Repeat([]byte{0xff}, 32), uint16(600))
	f.Fuzz(func(t *testing.T, secret, message []byte, bit uint16) {
		sum := sha256.Sum256(secret)
		digest := sha256.Sum256(message)
		if len(message) == 32 {
			digest = [32]byte(message) // any number, also above the order
		}
		key, pub := btcec.PrivKeyFromBytes(sum[:])
		raw := signLowR(key, digest[:])
		if !strictDER(raw) || len(raw) >= longestLowRECDSA || !bytes.Equal(raw, signLowR(key, digest[:])) {
			t.Fatalf("%x", raw)
		}
		sig, err := ecdsa.ParseDERSignature(raw)
		if err != nil || !sig.Verify(digest[:], pub) {
			t.Fatalf("btcec does not take %x: %v", raw, err)
		}
		r, s := sig.R(), sig.S()
		if r.Bytes()[0] >= 0x80 || s.IsOverHalfOrder() {
			t.Fatalf("R or S is high: %x", raw)
		}
		var m multisig
		if err := m.verify(pub, digest[:], raw); err != nil {
			t.Fatal(err)
		}
		raw[int(bit/8)%len(raw)] ^= 1 << (bit % 8)
		if m.verify(pub, digest[:], raw) == nil {
			t.Fatalf("taken with bit %d changed: %x", bit, raw)
		}
		if sig, err := ecdsa.ParseDERSignature(raw); err == nil && sig.Verify(digest[:], pub) {
			t.Fatalf("btcec takes it with bit %d changed: %x", bit, raw)
		}
	})
}

// FuzzVerifyECDSA: a signature in any bytes is taken exactly where it is strict DER
// (BIP66), has a low S (BIP146), and btcec verifies it.
func FuzzVerifyECDSA(f *testing.F) {
	secret, digest := sha256.Sum256([]byte("fuzz")), sha256.Sum256([]byte("digest"))
	key, pub := btcec.PrivKeyFromBytes(secret[:])
	good := ecdsa.Sign(key, digest[:])
	r, s := good.R(), good.S()
	s.Negate()
	f.Add(good.Serialize())
	f.Add(signLowR(key, digest[:]))
	f.Add(ecdsa.NewSignature(&r, &s).Serialize()) // serialized with a low S all the same
	f.Add(highDER(&r, &s))
	f.Add(append(good.Serialize(), 0))
	f.Add([]byte{0x30, 6, 2, 1, 0, 2, 1, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m multisig
		err := m.verify(pub, digest[:], raw)
		if err != nil && !errors.Is(err, ErrSignature) {
			t.Fatal(err)
		}
		sig, parsed := ecdsa.ParseDERSignature(raw)
		want := parsed == nil && strictDER(raw) && sig.Verify(digest[:], pub)
		if want {
			s := sig.S()
			want = !s.IsOverHalfOrder()
		}
		if want != (err == nil) {
			t.Fatalf("%x: %v, but by the BIPs %t", raw, err, want)
		}
	})
}

// highDER writes two numbers as they are.
func highDER(r, s *btcec.ModNScalar) []byte {
	number := func(v *btcec.ModNScalar) []byte {
		b := v.Bytes()
		body := bytes.TrimLeft(b[:], "\x00")
		if len(body) == 0 || body[0] >= 0x80 {
			body = append([]byte{0}, body...)
		}
		return append([]byte{2, byte(len(body))}, body...)
	}
	body := append(number(r), number(s)...)
	return append([]byte{0x30, byte(len(body))}, body...)
}

// strictDER is the rule of BIP66 for a signature without its flag.
func strictDER(sig []byte) bool {
	if len(sig) < 8 || len(sig) > 72 || sig[0] != 0x30 || int(sig[1]) != len(sig)-2 {
		return false
	}
	number := func(b []byte) (n int, ok bool) {
		if len(b) < 3 || b[0] != 2 || b[1] == 0 || len(b) < 2+int(b[1]) || b[2] >= 0x80 {
			return 0, false
		}
		n = 2 + int(b[1])
		return n, b[1] == 1 || b[2] != 0 || b[3] >= 0x80
	}
	n, ok := number(sig[2:])
	if !ok {
		return false
	}
	m, ok := number(sig[2+n:])
	return ok && 2+n+m == len(sig)
}
