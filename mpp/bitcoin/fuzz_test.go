package bitcoin

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/mpp"
)

// FuzzPayload: what is taken can be sealed again and means the same.
func FuzzPayload(f *testing.F) {
	for name := range samples() {
		raw, err := json.Marshal(sealed(f, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"action":"topUp"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParsePayload(raw)
		if err != nil {
			if p != nil {
				t.Fatalf("%+v and %v", p, err)
			}
			return
		}
		again, err := Seal(p, [32]byte{1}, "id", "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParsePayload(again)
		if err != nil || !reflect.DeepEqual(withMAC(got, ""), withMAC(p, "")) {
			t.Fatalf("%+v became %+v, %v", p, got, err)
		}
	})
}

// FuzzRequest: what is taken is valid, can be written and means the same.
func FuzzRequest(f *testing.F) {
	raw, err := json.Marshal(testRequest())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r Request
		if r.UnmarshalJSON(raw) != nil {
			return
		}
		encoded, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseRequest(encoded); err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("%+v became %+v, %v", r, got, err)
		}
	})
}

// FuzzAnswers: an answer of a payee is refused and changes nothing, or is written
// again with the same meaning.
func FuzzAnswers(f *testing.F) {
	sig := make([]byte, 65)
	for _, a := range []any{
		PrepareAnswer{sig}, OpenAnswer{"funding", 1, 0}, CloseAnswer{make([]byte, 120), make([]byte, 66), make([]byte, 32)}, testReceipt(),
		ResumeAnswer{ChannelID: testID, Phase: "open", CumulativeAmount: 3, Signature: sig, Epoch: 1, LockHeight: 9},
		ResumeAnswer{ChannelID: testID, Phase: "open", CumulativeAmount: 3, Signature: sig, Epoch: 1, LockHeight: 9, BackMsat: 5, Update: &Update{CumulativeAmount: 4, Signature: sig, Epoch: 2, LockHeight: 8}},
	} {
		raw, err := json.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, a := range []func() json.Unmarshaler{
			func() json.Unmarshaler { return new(PrepareAnswer) }, func() json.Unmarshaler { return new(OpenAnswer) },
			func() json.Unmarshaler { return new(ResumeAnswer) }, func() json.Unmarshaler { return new(CloseAnswer) },
			func() json.Unmarshaler { return new(Receipt) },
		} {
			got, again := a(), a()
			if err := got.UnmarshalJSON(raw); err != nil {
				if !reflect.DeepEqual(got, a()) {
					t.Fatalf("%T: refused with %v, and left %+v", got, err, got)
				}
				continue
			}
			if r, ok := got.(*Receipt); ok {
				r.Timestamp = r.Timestamp.Truncate(time.Second) // whole seconds travel
			}
			out, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if err := again.UnmarshalJSON(out); err != nil || !reflect.DeepEqual(got, again) {
				t.Fatalf("%T: %q became %q, %+v and %+v, %v", got, raw, out, got, again, err)
			}
		}
	})
}

// FuzzReceipt: a receipt's header that is taken is written again with the same
// meaning, in one form.
func FuzzReceipt(f *testing.F) {
	r := testReceipt()
	r.Update = &Update{CumulativeAmount: 5, Signature: make([]byte, 65), Epoch: 2, LockHeight: 700}
	r.BackMsat = 9
	for _, r := range []Receipt{testReceipt(), r} {
		s, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s)
	}
	late, err := json.Marshal(testReceipt())
	if err != nil {
		f.Fatal(err)
	}
	for _, at := range []string{"9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+01:00", "2026-01-02T03:04:05.678Z"} {
		f.Add(mpp.EncodeBase64(timestamp.ReplaceAll(late, []byte(`"timestamp":"`+at+`"`))))
	}
	f.Fuzz(func(t *testing.T, value string) {
		r, err := ParseReceipt([]string{value})
		if err != nil {
			if !errors.Is(err, ErrReceipt) || !reflect.DeepEqual(r, Receipt{}) {
				t.Fatalf("%+v and %v", r, err)
			}
			return
		}
		once, err := r.Encode()
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		again, err := ParseReceipt([]string{once})
		if err != nil {
			t.Fatal(err)
		}
		r.Timestamp = r.Timestamp.Truncate(time.Second)
		if twice, err := again.Encode(); err != nil || twice != once || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

var timestamp = regexp.MustCompile(`"timestamp":"[^"]*"`)

// FuzzMAC: a payload is authentic with exactly the key, challenge and Idempotency-Key
// that it was sealed with; with any bit of its MAC or of its amount changed it is not.
func FuzzMAC(f *testing.F) {
	for name := range samples() {
		f.Add(name, []byte("key"), "challenge", "idempotency", uint8(3))
	}
	f.Fuzz(func(t *testing.T, name string, secret []byte, id, key string, bit uint8) {
		p, ok := samples()[name]
		if !ok || strings.Contains(id, "|") { // an id is base64url
			return
		}
		var shared [32]byte
		copy(shared[:], secret)
		raw, err := Seal(p, shared, id, key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParsePayload(raw)
		if err != nil || Authenticate(got, shared, id, key) != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		for what, err := range map[string]error{
			"another challenge": Authenticate(got, shared, id+"x", key),
			"another request":   Authenticate(got, shared, id, key+"x"),
			"none":              Authenticate(withMAC(got, ""), shared, id, key),
		} {
			if !errors.Is(err, ErrMAC) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		mac, err := hex.DecodeString(got.Proof())
		if err != nil {
			t.Fatal(err)
		}
		mac[bit/8] ^= 1 << (bit % 8)
		shared[bit/8] ^= 1 << (bit % 8)
		other := Authenticate(got, shared, id, key)
		shared[bit/8] ^= 1 << (bit % 8)
		if changed := Authenticate(withMAC(got, hex.EncodeToString(mac)), shared, id, key); !errors.Is(changed, ErrMAC) || !errors.Is(other, ErrMAC) {
			t.Fatalf("bit %d of the MAC: %v, of the key: %v", bit, changed, other)
		}
		if v, ok := got.(Voucher); ok {
			v.CumulativeAmount++
			if err := Authenticate(v, shared, id, key); !errors.Is(err, ErrMAC) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzOpaque: what is taken can be written and means the same.
func FuzzOpaque(f *testing.F) {
	s, err := Opaque{Nonce: [16]byte{1}, More: map[string]string{"epoch": "1"}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s)
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOpaque(s)
		if err != nil {
			return
		}
		again, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseOpaque(again); err != nil || !reflect.DeepEqual(got, o) {
			t.Fatalf("%+v became %+v, %v", o, got, err)
		}
	})
}
