package bitcoin

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/mpp"
)

// TestMACVectors has keys and MACs that were computed apart from this code, with
// affine arithmetic on plain integers.
func TestMACVectors(t *testing.T) {
	const a, b = "1111111111111111111111111111111111111111111111111111111111111111", "2222222222222222222222222222222222222222222222222222222222222222"
	for _, v := range []struct{ one, two, key, voucher, resume string }{
		{"03", "07", "60d89dd13552e0dc01d1b1823a64a3879e0cd8b5fb220769f80c1954f07118df",
			"8348d96ce8403039a139faeebfead8f17b8df1af9792c5d517d32d2c914c2c74", "cf8719ab726754094d8fc888772673300fbeb4fc8e0bc4845082d2c44a4325e3"},
		{"01", "02", "55747769488a0fd1102b55b936250d3a6f7b56870939f046ce66c10ea3337186",
			"eaa2ef9203fbdd5d327587b38122f32105d28b2f698c111031be55149f64e2ae", "f42a8ff2cebe7504c6d5e0ca935215330ce7905a85e8e0794f9ab31c7e941d66"},
		{"fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140", "05", "4a9905e53e0a66c725788f2585d23f833fa7cb2b55eb693409cc9013c0afe31a",
			"fdfa54793895db21150a804d722dd3210d57a7c9d269f574c0824e849bd19163", "62d0f3f4d44cbf90de4bad11904918796333f9ddd55b4ed3548414a758d6f859"},
		{a, b, "2f1a6e49c6334ad17d86d990e2fbea369710d63a0eefe85d48fb1a0b04edd07e",
			"ff6ffe6d6d0955964659de9dc54ea483cd86463d013fa19bc59a06408ba7ccc3", "042e14992f458bb7f92bfb1d6703b1ecf8a79d39cfc88e7265e9b61f9637464e"},
	} {
		one, two := fromHex(t, v.one), fromHex(t, v.two)
		for _, pair := range [][2]*btcec.PrivateKey{{one, two}, {two, one}} {
			key, err := MACKey(pair[0], [33]byte(pair[1].PubKey().SerializeCompressed()))
			if err != nil || hex.EncodeToString(key[:]) != v.key {
				t.Errorf("%s, %s: key %x, %v", v.one, v.two, key, err)
			}
			if got := MAC(key, "id", ActionVoucher, "1000", "key"); got != v.voucher {
				t.Errorf("voucher: %s", got)
			}
			if got := MAC(key, "id", ActionResume, "", ""); got != v.resume {
				t.Errorf("resume: %s", got)
			}
		}
	}
}

func fromHex(t *testing.T, s string) *btcec.PrivateKey {
	t.Helper()
	raw, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := btcec.PrivKeyFromBytes(raw)
	return key
}

func TestMACKeyRefuses(t *testing.T) {
	for name, other := range map[string][33]byte{"zero": {}, "uncompressed": {4}, "hybrid": {6, 1}, "no point": {0: 2, 32: 5}} {
		if _, err := MACKey(privateKey(1), other); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := MACKey(nil, publicKey(1)); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	if _, err := MACKey(new(btcec.PrivateKey), publicKey(1)); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}

// TestMACKeyIsShared: whatever the keys, both ends compute one key, and a third
// party another.
func TestMACKeyIsShared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) *btcec.PrivateKey {
			raw := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name)
			raw[0], raw[31] = raw[0]&0x7f, raw[31]|1
			key, _ := btcec.PrivKeyFromBytes(raw)
			return key
		}
		payer, payee, other := draw("payer"), draw("payee"), draw("other")
		mine, err := MACKey(payer, [33]byte(payee.PubKey().SerializeCompressed()))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := MACKey(payee, [33]byte(payer.PubKey().SerializeCompressed()))
		if err != nil || mine != theirs {
			t.Fatalf("%x and %x, %v", mine, theirs, err)
		}
		foreign, err := MACKey(other, [33]byte(payee.PubKey().SerializeCompressed()))
		if err != nil || (foreign == mine) != other.Key.Equals(&payer.Key) {
			t.Fatalf("a stranger has %x, %v", foreign, err)
		}
	})
}

// TestPitfall61_HalfSignatureIsNoIdentity: whoever has seen everything public of
// a channel, and its half-signatures, still can't speak for its payer.
func TestPitfall61_HalfSignatureIsNoIdentity(t *testing.T) {
	payer, payee, tower := privateKey(5), privateKey(3), privateKey(9)
	key, err := MACKey(payee, [33]byte(payer.PubKey().SerializeCompressed()))
	if err != nil {
		t.Fatal(err)
	}
	seen := samples()["voucher"].(Voucher) // amount and half-signature, from a log
	for name, own := range map[string]*btcec.PrivateKey{"a tower": tower, "a stranger": privateKey(10)} {
		forged, err := MACKey(own, [33]byte(payee.PubKey().SerializeCompressed()))
		if err != nil {
			t.Fatal(err)
		}
		if err := replay(t, seen, forged, key); !errors.Is(err, ErrMAC) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := replay(t, seen, [32]byte{}, key); !errors.Is(err, ErrMAC) {
		t.Errorf("no key at all: %v", err)
	}
	if err := replay(t, seen, key, key); err != nil {
		t.Errorf("the payer itself: %v", err)
	}
}

func replay(t *testing.T, v Voucher, with, payee [32]byte) error {
	t.Helper()
	raw, err := Seal(v, with, "id", "idem")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePayload(raw)
	if err != nil {
		t.Fatal(err)
	}
	return Authenticate(p, payee, "id", "idem")
}

// TestPitfall75_MACBindsTheRequest: a payload that was seen once does for no
// other challenge, action, amount or Idempotency-Key.
func TestPitfall75_MACBindsTheRequest(t *testing.T) {
	key := [32]byte{1}
	mac := MAC(key, "id", ActionVoucher, "1000", "idem")
	for name, got := range map[string]error{
		"the same":           CheckMAC(key, mac, "id", ActionVoucher, "1000", "idem"),
		"another challenge":  CheckMAC(key, mac, "id2", ActionVoucher, "1000", "idem"),
		"another action":     CheckMAC(key, mac, "id", ActionClose, "1000", "idem"),
		"another amount":     CheckMAC(key, mac, "id", ActionVoucher, "2000", "idem"),
		"another request":    CheckMAC(key, mac, "id", ActionVoucher, "1000", "idem2"),
		"no Idempotency-Key": CheckMAC(key, mac, "id", ActionVoucher, "1000", ""),
		"another channel":    CheckMAC([32]byte{2}, mac, "id", ActionVoucher, "1000", "idem"),
		"cut":                CheckMAC(key, mac[:62], "id", ActionVoucher, "1000", "idem"),
		"empty":              CheckMAC(key, "", "id", ActionVoucher, "1000", "idem"),
		"not hex":            CheckMAC(key, strings.Repeat("z", 64), "id", ActionVoucher, "1000", "idem"),
	} {
		if name == "the same" {
			if got != nil {
				t.Error(got)
			}
		} else if !errors.Is(got, ErrMAC) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestPitfall75_OldPriceIsVisible: a voucher echoes its challenge, and the price
// that it was made for is in there; two prices never share a challenge.
func TestPitfall75_OldPriceIsVisible(t *testing.T) {
	secret := []byte("secret")
	challenge := func(amount uint64) mpp.Challenge {
		r := testRequest()
		r.Amount = amount
		encoded, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return mpp.NewChallenge(secret, mpp.Challenge{Realm: "r", Method: Method, Intent: Intent, Request: encoded})
	}
	old, present := challenge(1000), challenge(1001)
	if old.ID == present.ID {
		t.Fatal("one id for two prices")
	}
	mixed := old
	mixed.Request = present.Request
	if err := mixed.Verify(secret); !errors.Is(err, mpp.ErrInvalidChallenge) {
		t.Errorf("the old id with the present price: %v", err)
	}
	r, err := ParseRequest(old.Request)
	if err != nil || r.Amount != 1000 || old.Verify(secret) != nil {
		t.Error(r, err)
	}
}

// TestPitfall24_ResumeNeedsAFreshProof: a resume that was overheard does not
// answer the next challenge.
func TestPitfall24_ResumeNeedsAFreshProof(t *testing.T) {
	key := [32]byte{1}
	raw, err := Seal(Resume{ChannelID: testID}, key, "challenge-1", "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePayload(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := Authenticate(p, key, "challenge-1", ""); err != nil {
		t.Error(err)
	}
	if err := Authenticate(p, key, "challenge-2", ""); !errors.Is(err, ErrMAC) {
		t.Error(err)
	}
}

// TestPitfall69_OfferOutlivesItsChallenge: an open carries the offer, whose HMAC
// proves the terms also when it has expired, in a credential for a fresh
// challenge; nothing needs to be stored for it.
func TestPitfall69_OfferOutlivesItsChallenge(t *testing.T) {
	secret := []byte("secret")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	request, err := testRequest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	offer := mpp.NewChallenge(secret, mpp.Challenge{Realm: "r", Method: Method, Intent: Intent, Request: request, Expires: mpp.FormatTime(now)})
	fresh := mpp.NewChallenge(secret, mpp.Challenge{Realm: "r", Method: Method, Intent: Intent, Request: request, Expires: mpp.FormatTime(now.Add(time.Hour))})
	open := samples()["open"].(Open)
	open.Offer = offer
	raw, err := Seal(open, [32]byte{1}, fresh.ID, "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := mpp.ParseCredential([]string{mpp.Credential{Challenge: fresh, Payload: json.RawMessage(raw)}.Encode()})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePayload(c.Payload)
	if err != nil {
		t.Fatal(err)
	}
	later := now.Add(30 * time.Minute)
	got := p.(Open).Offer
	if got != offer || got.Verify(secret) != nil || !got.Expired(later) || c.Challenge.Expired(later) {
		t.Errorf("%+v", got)
	}
	forged := got
	forged.Request = "e30"
	if err := forged.Verify(secret); !errors.Is(err, mpp.ErrInvalidChallenge) {
		t.Error(err)
	}
}
