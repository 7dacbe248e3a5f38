package mpp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// secondJCS is RFC 8785 once more, of the standard library's parts: its reader, its
// way to print doubles, its escapes.
func secondJCS(t *testing.T, v any) string {
	t.Helper()
	text := func(s string) string {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
		return strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029", `\\`, `\\`).Replace(strings.TrimSuffix(b.String(), "\n"))
	}
	switch v := v.(type) {
	case string:
		return text(v)
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			t.Fatal(err)
		}
		if f == 0 {
			return "0"
		}
		b, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = secondJCS(t, e)
		}
		return "[" + strings.Join(parts, ",") + "]"
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.SortFunc(names, func(a, b string) int {
			return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		})
		for i, name := range names {
			names[i] = text(name) + ":" + secondJCS(t, v[name])
		}
		return "{" + strings.Join(names, ",") + "}"
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// FuzzCanonical: what is taken reads the same with encoding/json, and its canonical
// form is the one that a second implementation writes.
func FuzzCanonical(f *testing.F) {
	for _, v := range loadCrosschecked(f).JCS {
		f.Add([]byte(v.Input))
	}
	for _, s := range []string{
		`{"\ud83d\ude00":1,"\ufb33":2,"a":-0,"\u2028":"\u2029\\u2028"}`, `[1e21,1e20,123456789012345678901,1e-6,1e-7,5e-324,1.7976931348623157e308]`,
		`[0.1,100e-2,1.0,-1.5E+3,9007199254740993,333333333.33333329]`, `"\u0000\u001f\u007f\b\f\/<>&"`, ` {"a" : [ ] , "b":{ }}`, `{"a":1,"a":2}`, `"\ud800"`, "\"\xff\"",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseJSON(data)
		if err != nil {
			if !errors.Is(err, ErrJSON) || v != nil && !reflect.ValueOf(v).IsZero() && len(err.Error()) > 400 {
				t.Fatalf("%v and %v", v, err)
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var other any
		if err := d.Decode(&other); err != nil || !reflect.DeepEqual(v, other) {
			t.Fatalf("%q: %#v, elsewhere %#v, %v", data, v, other, err)
		}
		got, err := JCS(json.RawMessage(data))
		if err != nil {
			if !errors.Is(err, ErrNumber) {
				t.Fatal(err)
			}
			return
		}
		if want := secondJCS(t, v); string(got) != want {
			t.Fatalf("%q: %s, elsewhere %s", data, got, want)
		}
	})
}

// FuzzDouble: a double is printed as encoding/json prints it, which follows the same
// rule but for zero, and reads back as the same double.
func FuzzDouble(f *testing.F) {
	for _, v := range []float64{0, math.Copysign(0, -1), 1e21, 999999999999999900000, 1e-6, 1e-7, math.MaxFloat64, 5e-324, 1.0 / 3, -4.5e15, 9007199254740993} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v float64) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return
		}
		got := string(appendDouble(nil, v))
		want := "0"
		if v != 0 {
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			want = string(raw)
		}
		if back, err := json.Number(got).Float64(); got != want || err != nil || back != v {
			t.Fatalf("%v is printed as %s, elsewhere %s", v, got, want)
		}
	})
}

// FuzzBase64: what is taken has one form, the standard library's, and no other text
// gives the same bytes.
func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "AA", "AB", "AA==", "A", "_-8", "+/8", "AAAA\nAAAA", "AAAA AAAA"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := DecodeBase64(s)
		canonical := false
		if other, oerr := base64.RawURLEncoding.DecodeString(s); oerr == nil {
			canonical = base64.RawURLEncoding.EncodeToString(other) == s
		}
		if (err == nil) != canonical || err == nil && EncodeBase64(b) != s || err != nil && !errors.Is(err, ErrBase64) {
			t.Fatalf("%q: %x, %v", s, b, err)
		}
	})
}

// FuzzTime: an expiry that is read is the moment that is written, whole seconds, and
// a challenge is over just after it.
func FuzzTime(f *testing.F) {
	for _, s := range []string{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.999+01:00", "2026-01-02t03:04:05z", "9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59", "2026-02-30T00:00:00Z", "2026-01-02T24:00:00Z", "2026-01-02T03:04:05,5Z", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := Challenge{Expires: s}
		at, ok, err := c.ExpiresAt()
		if s == "" || err != nil {
			if ok || c.Expired(time.Unix(0, 0)) != (err != nil) {
				t.Fatalf("%q: %v, %t", s, at, ok)
			}
			return
		}
		text := FormatTime(at)
		again, err := parseTime(text)
		if err != nil || !again.Equal(at.Truncate(time.Second)) {
			t.Fatalf("%q is %v, written %s, read %v, %v", s, at, text, again, err)
		}
		if c.Expired(at) || !c.Expired(at.Add(1)) {
			t.Fatalf("%q is over at another time than %v", s, at)
		}
	})
}

// FuzzIdempotencyKey: a key that is taken is one line of printable ASCII, taken again
// as the same, and two are refused.
func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"", "a", ` "quoted" `, "a\x00", strings.Repeat("k", 256), "ü", "\t", "a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		key, err := IdempotencyKey([]string{value})
		if err != nil {
			if key != "" || !errors.Is(err, ErrIdempotencyKey) {
				t.Fatalf("%q and %v", key, err)
			}
			return
		}
		again, err := IdempotencyKey([]string{key})
		if err != nil || again != key || len(key) == 0 || len(key) > MaxIdempotencyKey || !strings.Contains(value, key) ||
			strings.IndexFunc(key, func(r rune) bool { return r < 0x20 || r > 0x7e }) >= 0 {
			t.Fatalf("%q became %q, then %q, %v", value, key, again, err)
		}
		if _, err := IdempotencyKey([]string{key, key}); !errors.Is(err, ErrRepeated) {
			t.Fatal(err)
		}
	})
}

// FuzzDigest: a digest is good for its body only, whatever stands around it.
func FuzzDigest(f *testing.F) {
	f.Add(Digest([]byte("a")), []byte("a"))
	f.Add(strings.ReplaceAll(Digest([]byte("a")), ":", ""), []byte("a"))
	f.Add("sha-256=::", []byte{})
	f.Add("sha-512=:AA==:", []byte{})
	f.Fuzz(func(t *testing.T, digest string, body []byte) {
		if err := CheckDigest(Digest(body), body); err != nil {
			t.Fatal(err)
		}
		if CheckDigest(Digest(append(slices.Clone(body), 0)), body) == nil {
			t.Fatal("the digest of another body")
		}
		err := CheckDigest(digest, body)
		same := digest == "" || strings.ReplaceAll(digest, ":", "") == strings.ReplaceAll(Digest(body), ":", "")
		if err == nil && !same || err != nil && !errors.Is(err, ErrDigest) || digest == Digest(body) && err != nil {
			t.Fatalf("%q for %q: %v", digest, body, err)
		}
	})
}

// FuzzQuote: any text comes out of a quoted-string as it went in, and the
// quoted-string is plain ASCII without a line break.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", `a"b\`, "\u2014", "😀", "\r\nSet-Cookie: a=b", `\u2014`, "\\\\u2014\x7f", "a, Payment id=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		quoted := quote(s)
		if i := strings.IndexFunc(quoted, func(r rune) bool { return r < 0x20 || r > 0x7e }); i >= 0 {
			t.Fatalf("%q holds %q", quoted, quoted[i])
		}
		items, err := parseAuth("A x=" + quoted + ", B y=" + quoted)
		if err != nil || len(items) != 2 || items[0].params["x"] != s || items[1].params["y"] != s {
			t.Fatalf("%q became %s and came back as %+v, %v", s, quoted, items, err)
		}
	})
}

// FuzzEchoed: a challenge that is echoed in JSON comes back as the same, and only its
// own maker takes it; with any parameter changed nobody does.
func FuzzEchoed(f *testing.F) {
	raw, err := json.Marshal(NewChallenge([]byte("k"), sample()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, byte(0))
	f.Add([]byte(`{"id":"a","realm":"b","method":"c","intent":"d","request":"e30","extra":1}`), byte(4))
	f.Fuzz(func(t *testing.T, raw []byte, which byte) {
		var c, again Challenge
		if err := c.UnmarshalJSON(raw); err != nil {
			if !errors.Is(err, ErrJSON) && !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		out, err := json.Marshal(c)
		if err != nil || again.UnmarshalJSON(out) != nil || again != c {
			t.Fatalf("%s became %s, %v", raw, out, err)
		}
		made := NewChallenge([]byte("k"), c)
		if made.Verify([]byte("k")) != nil && made.Validate() == nil {
			t.Fatalf("its maker refuses %+v", made)
		}
		if made.Verify([]byte("another")) == nil {
			t.Fatal("somebody else takes it")
		}
		slots := []*string{&made.Realm, &made.Method, &made.Intent, &made.Request, &made.Expires, &made.Digest, &made.Opaque, &made.ID}
		*slots[int(which)%len(slots)] += "x"
		if made.Verify([]byte("k")) == nil {
			t.Fatalf("taken with slot %d changed: %+v", int(which)%len(slots), made)
		}
	})
}
