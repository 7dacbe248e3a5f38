package mpp

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
)

// FuzzChallenge: what is taken can be written again and means the same.
func FuzzChallenge(f *testing.F) {
	for _, v := range loadCrosschecked(f).Challenges {
		f.Add(v.Header)
	}
	f.Add(`Basic realm="a, b", Payment id=a,realm="\"\\\u2014",method=m,intent=i,request=e30, Negotiate abc==`)
	f.Add("Payment id=\"\xff\"")
	f.Fuzz(func(t *testing.T, value string) {
		list, err := ParseChallenges([]string{value})
		if (err == nil) != (len(list) > 0) {
			t.Fatalf("%d challenges and %v", len(list), err)
		}
		for _, c := range list {
			again, err := ParseChallenges([]string{c.String()})
			if err != nil || len(again) != 1 || again[0] != c {
				t.Fatalf("%+v became %+v, %v", c, again, err)
			}
			if err := NewChallenge([]byte("k"), c).Verify([]byte("k")); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzCredential tries a text as a header value and as the JSON inside of one:
// what is taken can be written again and means the same.
func FuzzCredential(f *testing.F) {
	for _, v := range loadCrosschecked(f).Challenges {
		f.Add(v.Credential)
	}
	f.Add("Payment dGhpcyBpcyBnYXJiYWdl")
	f.Add(`Digest a="b, Payment c", Payment e30`)
	f.Add(goodCredential)
	f.Fuzz(func(t *testing.T, text string) {
		for _, value := range []string{text, Scheme + " " + EncodeBase64([]byte(text))} {
			c, err := ParseCredential([]string{value})
			if err != nil {
				continue
			}
			again, err := ParseCredential([]string{c.Encode()})
			if err != nil || again.Challenge != c.Challenge || again.Source != c.Source || string(again.Payload) != string(c.Payload) {
				t.Fatalf("%+v became %+v, %v", c, again, err)
			}
		}
	})
}

// FuzzJCS: the strict reader takes nothing that encoding/json does not, and the
// canonical form is a fixed point.
func FuzzJCS(f *testing.F) {
	for _, v := range loadCrosschecked(f).JCS {
		f.Add([]byte(v.Input))
	}
	f.Add([]byte(`{"a":[1e21,-0,1e-7],"\ud83d\ude00":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := ParseJSON(data); err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("taken, but not JSON: %q", data)
		}
		once, err := JCS(json.RawMessage(data))
		if err != nil {
			return // a number without an exact form
		}
		twice, err := JCS(json.RawMessage(once))
		if err != nil || string(once) != string(twice) {
			t.Fatalf("%q, then %q (%v)", once, twice, err)
		}
	})
}

// FuzzAccept: what is taken can be written again and means the same.
func FuzzAccept(f *testing.F) {
	f.Add("tempo/*, solana/*;q=0.6, */session;q=0.3")
	f.Add("a/b;q=1.000;x=y,,")
	f.Fuzz(func(t *testing.T, value string) {
		a, err := ParseAccept([]string{value})
		if err != nil {
			return
		}
		again, err := ParseAccept([]string{a.String()})
		if err != nil || again.String() != a.String() {
			t.Fatalf("%q became %q, %v", a, again, err)
		}
		if q := a.Quality("bitcoin", "session"); q < 0 || q > 1000 {
			t.Fatal(q)
		}
	})
}

// FuzzReceipt: what is taken is written in one form, and means the same; what has no
// exact form has a number that no double holds.
func FuzzReceipt(f *testing.F) {
	f.Add(loadCrosschecked(f).Receipt)
	f.Add(EncodeBase64([]byte(`{"method":"m","reference":"r","status":"success","timestamp":"2026-01-02T03:04:05Z","n":[1e400,{}]}`)))
	f.Fuzz(func(t *testing.T, value string) {
		r, err := ParseReceipt([]string{value})
		if err != nil {
			if r != nil {
				t.Fatalf("%v and %v", r, err)
			}
			return
		}
		once, err := EncodeReceipt(r)
		if err != nil {
			if !errors.Is(err, ErrNumber) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseReceipt([]string{once})
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := EncodeReceipt(again); err != nil || twice != once {
			t.Fatalf("%s, then %s, %v", once, twice, err)
		}
	})
}

// FuzzProblem: what is taken is written again with the same meaning, and is an error
// with a text.
func FuzzProblem(f *testing.F) {
	f.Add([]byte(`{"type":"about:blank","status":402,"x":[1]}`))
	f.Add([]byte(`{"type":7,"status":"402","title":"t","detail":"\u0000"}`))
	f.Add([]byte(`{"status":65536,"type":""}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ParseProblem(body)
		if err != nil {
			if p != nil || !errors.Is(err, ErrJSON) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("%+v and %v", p, err)
			}
			return
		}
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseProblem(raw)
		if err != nil && !errors.Is(err, ErrTooLarge) || err == nil && !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v became %s, then %+v, %v", p, raw, again, err)
		}
		if p.Status < 0 || p.Status > 32767 || !errors.Is(p, &Problem{Type: p.Type}) || p.Error() == "" && p.Type != "" {
			t.Fatalf("%+v", p)
		}
	})
}
