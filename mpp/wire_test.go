package mpp

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestProblem(t *testing.T) {
	p := NewProblem(ProblemInsufficientBalance, "1000 sat are missing").With("requiredCumulative", "2000").With("status", 200)
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"detail":"1000 sat are missing","requiredCumulative":"2000","status":402,"title":"Insufficient Balance",` +
		`"type":"https://paymentauth.org/problems/session/insufficient-balance"}`
	if string(raw) != want {
		t.Errorf("\n got %s\nwant %s", raw, want)
	}
	got, err := ParseProblem(raw)
	if err != nil || got.Type != p.Type || got.Status != 402 || got.Detail != p.Detail || got.String("requiredCumulative") != "2000" {
		t.Errorf("%+v, %v", got, err)
	}
	if !errors.Is(got, NewProblem(ProblemInsufficientBalance, "")) || errors.Is(got, NewProblem(ProblemPaymentExpired, "")) {
		t.Error("problems are told apart by their type")
	}
	if got.Error() != "1000 sat are missing" || NewProblem(ProblemPaymentExpired, "").Error() != "Payment Expired" {
		t.Error(got.Error())
	}
}

// TestProblemTypes: every type lives under the base and has a title and a status
// of the scheme.
func TestProblemTypes(t *testing.T) {
	statuses := map[string]int{"method-unsupported": 400, "bad-request": 400, "internal-payment-error": 500,
		"session/channel-not-found": 410, "session/channel-finalized": 410}
	for kind, k := range problemKinds {
		name, ok := strings.CutPrefix(kind, "https://paymentauth.org/problems/")
		want := statuses[name]
		if want == 0 {
			want = 402
		}
		if !ok || k.title == "" || k.status != want {
			t.Errorf("%s: %+v, want status %d", kind, k, want)
		}
	}
	if len(problemKinds) != 18 {
		t.Errorf("%d types", len(problemKinds))
	}
}

func TestParseProblemIsLenient(t *testing.T) {
	for in, want := range map[string]Problem{
		`{}`:                            {Type: "about:blank"},
		`{"type":1,"title":"T"}`:        {Type: "about:blank", Title: "T"},
		`{"status":"402"}`:              {Type: "about:blank"},
		`{"status":402.5}`:              {Type: "about:blank"},
		`{"status":-1}`:                 {Type: "about:blank"},
		`{"status":99999}`:              {Type: "about:blank"},
		`{"status":402,"detail":["x"]}`: {Type: "about:blank", Status: 402},
	} {
		got, err := ParseProblem([]byte(in))
		if err != nil || got.Type != want.Type || got.Title != want.Title || got.Status != want.Status || got.Detail != want.Detail {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for in, want := range map[string]error{"": ErrJSON, "<html>": ErrJSON, "[]": ErrJSON, strings.Repeat(" ", MaxProblem+1): ErrTooLarge} {
		if _, err := ParseProblem([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%.20q: %v", in, err)
		}
	}
}

func TestAccept(t *testing.T) {
	offers := []Challenge{
		{Method: "tempo", Intent: "charge"}, {Method: "bitcoin", Intent: "session"},
		{Method: "tempo", Intent: "session"}, {Method: "stripe", Intent: "charge"},
	}
	for header, want := range map[string]string{
		"":                                        "tempo/charge bitcoin/session tempo/session stripe/charge",
		"*/*":                                     "tempo/charge bitcoin/session tempo/session stripe/charge",
		"bitcoin/session":                         "bitcoin/session",
		"stripe/charge;q=0.5, tempo/*":            "tempo/charge tempo/session stripe/charge",
		"tempo/*, bitcoin/*;q=0.6, */charge":      "tempo/charge tempo/session stripe/charge bitcoin/session",
		"tempo/charge;q=0, */*":                   "bitcoin/session tempo/session stripe/charge",
		"*/*;q=0.1 , bitcoin/session ; q=0.2":     "bitcoin/session tempo/charge tempo/session stripe/charge",
		"*/session;q=0.5, tempo/session;q=0.1":    "bitcoin/session tempo/session",
		"bitcoin/session;Q=1.000;x=y":             "bitcoin/session",
		"solana/charge":                           "",
		"*/*;q=0":                                 "",
		"bitcoin/session;q=0., tempo/charge;q=1.": "tempo/charge",
	} {
		a, err := ParseAccept([]string{header})
		if err != nil {
			t.Errorf("%q: %v", header, err)
			continue
		}
		var got []string
		for _, c := range a.Rank(offers) {
			got = append(got, c.Method+"/"+c.Intent)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q: %s, want %s", header, s, want)
		}
	}
	if a, err := ParseAccept([]string{"tempo/charge", "bitcoin/session;q=0.25"}); err != nil || a.String() != "tempo/charge, bitcoin/session;q=0.25" {
		t.Error(a, err)
	}
}

func TestBadAccept(t *testing.T) {
	for _, in := range []string{
		"bitcoin", "/", "bitcoin/", "/session", "a/b/c", "Bitcoin/session", "bitcoin/ses sion", "a/b;q", "a/b;q=", "a/b;q=2", "a/b;q=1.001",
		"a/b;q=0.1234", "a/b;q=-1", "a/b;q=.5", "a/b;q=00", "a/b;q=0x1", "a/b;q=1e0", "a/b;q=NaN", "a/b;q=0.5;q=0.6", "a/b;", "a/b;=1",
		"**/a", "a/*b", "a /b", "é/b", "a/b\x00", strings.Repeat("a/b,", maxRanges+1),
	} {
		if a, err := ParseAccept([]string{in}); !errors.Is(err, ErrAccept) {
			t.Errorf("%q: %v, %v", in, a, err)
		}
	}
	if _, err := ParseAccept([]string{strings.Repeat(" ", maxAccept+1)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestAcceptRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Accept(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Range {
			return Range{
				rapid.StringMatching(`[a-z]{1,6}|\*`).Draw(t, "method"), rapid.StringMatching(`[a-z0-9-]{1,6}|\*`).Draw(t, "intent"),
				rapid.IntRange(0, 1000).Draw(t, "q"),
			}
		}), 0, 8).Draw(t, "ranges"))
		got, err := ParseAccept([]string{a.String()})
		if err != nil || len(got) != len(a) {
			t.Fatalf("%q: %v, %v", a, got, err)
		}
		for i := range got {
			if got[i] != a[i] {
				t.Fatalf("%q: %v", a, got)
			}
		}
	})
}

func TestPitfall75_IdempotencyKey(t *testing.T) {
	for in, want := range map[string]string{"abc": "abc", ` "8e03978e-40d5-43dd-bc93-6894a57f9324" `: `"8e03978e-40d5-43dd-bc93-6894a57f9324"`,
		strings.Repeat("x", MaxIdempotencyKey): strings.Repeat("x", MaxIdempotencyKey), "a|b": "a|b"} {
		if got, err := IdempotencyKey([]string{in}); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if got, err := IdempotencyKey(nil); err != nil || got != "" {
		t.Errorf("none: %q, %v", got, err)
	}
	for _, in := range []string{"", " ", "a\nb", "a\x00", "ä", "\x7f", strings.Repeat("x", MaxIdempotencyKey+1)} {
		if got, err := IdempotencyKey([]string{in}); !errors.Is(err, ErrIdempotencyKey) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := IdempotencyKey([]string{"a", "a"}); !errors.Is(err, ErrRepeated) {
		t.Errorf("two keys make it unclear whether this is a retry: %v", err)
	}
}

func TestDigest(t *testing.T) {
	const empty = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
	if got := Digest(nil); got != empty {
		t.Error(got)
	}
	for _, digest := range []string{"", empty, strings.ReplaceAll(empty, ":", "")} {
		if err := CheckDigest(digest, nil); err != nil {
			t.Errorf("%q: %v", digest, err)
		}
	}
	for _, digest := range []string{"x", "sha-256=", "sha-256=:", "sha-256=::", "sha-512=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", empty + ":"} {
		if err := CheckDigest(digest, nil); !errors.Is(err, ErrDigest) {
			t.Errorf("%q: %v", digest, err)
		}
	}
	if err := CheckDigest(empty, []byte("x")); !errors.Is(err, ErrDigest) {
		t.Error(err)
	}
}
