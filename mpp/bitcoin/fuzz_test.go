package bitcoin

import (
	"encoding/json"
	"reflect"
	"testing"
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

// FuzzAnswers: no answer of a payee makes a payer panic.
func FuzzAnswers(f *testing.F) {
	for _, a := range []any{OpenAnswer{"funding", 1, 0}, CloseAnswer{make([]byte, 120), make([]byte, 66), make([]byte, 32)}, testReceipt()} {
		raw, err := json.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, a := range []json.Unmarshaler{new(PrepareAnswer), new(OpenAnswer), new(ResumeAnswer), new(CloseAnswer), new(Receipt)} {
			if a.UnmarshalJSON(raw) != nil {
				continue
			}
			again, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.UnmarshalJSON(again); err != nil {
				t.Fatalf("%T: %q became %q, %v", a, raw, again, err)
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
