package script

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"pgregory.net/rapid"
)

// Every signature is valid, low in R and S, at most 70 bytes without its flag,
// the same each time, and the usual RFC 6979 one where that has a low R.
func TestSignLowR(t *testing.T) {
	usual, others := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		secret := sha256.Sum256(rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(rt, "key"))
		digest := sha256.Sum256(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(rt, "message"))
		key, pub := btcec.PrivKeyFromBytes(secret[:])
		raw := signLowR(key, digest[:])
		sig, err := ecdsa.ParseDERSignature(raw)
		if err != nil {
			rt.Fatal(err)
		}
		if !sig.Verify(digest[:], pub) || !bytes.Equal(sig.Serialize(), raw) || len(raw) >= longestLowRECDSA {
			rt.Fatalf("not a short canonical signature: %x", raw)
		}
		if r, s := sig.R(), sig.S(); r.Bytes()[0] >= 0x80 || s.IsOverHalfOrder() {
			rt.Fatalf("R or S is high: %x", raw)
		}
		if !bytes.Equal(signLowR(key, digest[:]), raw) {
			rt.Fatal("not deterministic")
		}
		first := ecdsa.Sign(key, digest[:])
		if r := first.R(); r.Bytes()[0] < 0x80 {
			usual++
			if !bytes.Equal(first.Serialize(), raw) {
				rt.Fatalf("%x, but the usual signature %x has a low R", raw, first.Serialize())
			}
		} else {
			others++
		}
		if !key.Key.Equals(&mustKey(secret).Key) {
			rt.Fatal("the key was changed")
		}
	})
	if usual == 0 || others == 0 {
		t.Fatalf("%d usual signatures, %d others", usual, others)
	}
}

func mustKey(secret [32]byte) *btcec.PrivateKey {
	key, _ := btcec.PrivKeyFromBytes(secret[:])
	return key
}

// A signature with a high R, made elsewhere, is as good as any: nobody else has
// to search for a short one.
func TestHighRIsTaken(t *testing.T) {
	m := &multisig{}
	key := mustKey(sha256.Sum256([]byte("another program")))
	for i := range byte(64) {
		digest := sha256.Sum256([]byte{i})
		sig := ecdsa.Sign(key, digest[:])
		if r := sig.R(); r.Bytes()[0] < 0x80 {
			continue
		}
		if err := m.verify(key.PubKey(), digest[:], sig.Serialize()); err != nil {
			t.Fatal(err)
		}
		if got := len(sig.Serialize()) + 1; got > longestECDSA {
			t.Fatalf("%d bytes with the flag", got)
		}
		return
	}
	t.Fatal("no signature with a high R was found")
}
