package mpp

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const testRequest = "eyJhbW91bnQiOiIxIn0" // {"amount":"1"}

func sample() Challenge {
	return Challenge{
		Realm: "data.example", Method: "bitcoin", Intent: "session", Request: testRequest,
		Expires: "2026-01-02T03:04:05Z", Opaque: "eyJub25jZSI6IjAwIn0",
	}
}

// TestCrosschecked reads headers, ids and credentials that another
// implementation made, and makes the same ones, byte for byte.
func TestCrosschecked(t *testing.T) {
	v := loadCrosschecked(t)
	for _, e := range v.Challenges {
		t.Run(e.Name, func(t *testing.T) {
			list, err := ParseChallenges([]string{e.Header})
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			c := list[0]
			if got := c.String(); got != e.Header {
				t.Errorf("header\n got %s\nwant %s", got, e.Header)
			}
			ours := NewChallenge([]byte(v.Secret), c)
			// The eighth slot stands elsewhere there: see the package comment.
			if same := ours.ID == e.ID; same != (c.Header == "") {
				t.Errorf("id: got %s, theirs is %s", ours.ID, e.ID)
			}
			if err := ours.Verify([]byte(v.Secret)); err != nil {
				t.Error(err)
			}
			cred, err := ParseCredential([]string{e.Credential})
			if err != nil {
				t.Fatal(err)
			}
			if cred.Challenge != c {
				t.Errorf("the credential echoes\n%+v of\n%+v", cred.Challenge, c)
			}
			if got := cred.Encode(); got != e.Credential {
				t.Errorf("credential\n got %s\nwant %s", got, e.Credential)
			}
			obj, err := DecodeJSON(c.Request)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := EncodeJSON(obj); err != nil || again != c.Request {
				t.Errorf("request\n got %s, %v\nwant %s", again, err, c.Request)
			}
		})
	}
}

// TestIDSlots freezes the input of the HMAC. The ids were computed with another
// HMAC tool over the text beside them.
func TestIDSlots(t *testing.T) {
	secret := []byte("secret")
	full := sample()
	full.Digest = "sha-256=:x:"
	full.Header = HeaderAlternateCredential
	for _, e := range []struct {
		c     Challenge
		input string
		id    string
	}{
		{Challenge{Realm: "r", Method: "m", Intent: "i", Request: "q"}, "r|m|i|q|||", "tH01jDbRFj5nNnW7L3Yq2lqPxZ3crnCBlatIW8AHnGU"},
		{Challenge{Realm: "r", Method: "m", Intent: "i", Request: "q", Description: "d"}, "r|m|i|q|||", "tH01jDbRFj5nNnW7L3Yq2lqPxZ3crnCBlatIW8AHnGU"},
		{full, "data.example|bitcoin|session|eyJhbW91bnQiOiIxIn0|2026-01-02T03:04:05Z|sha-256=:x:|eyJub25jZSI6IjAwIn0|Payment-Authorization", "vKFONK8Pj77YuX2g1zh15iCtYnwf7JiwoI7_8a2QMkE"},
	} {
		if got := strings.Join(e.c.slots(), "|"); got != e.input {
			t.Errorf("slots %q, want %q", got, e.input)
		}
		if got := NewChallenge(secret, e.c).ID; got != e.id {
			t.Errorf("%s: id %s, want %s", e.input, got, e.id)
		}
	}
}

func TestVerify(t *testing.T) {
	secret := []byte("secret")
	c := NewChallenge(secret, sample())
	if err := c.Verify(secret); err != nil {
		t.Fatal(err)
	}
	free := c
	free.Description = "anything"
	if err := free.Verify(secret); err != nil {
		t.Error("the description is not bound:", err)
	}
	change := map[string]func(*Challenge){
		"id":            func(c *Challenge) { c.ID = strings.ToLower(c.ID) },
		"no id":         func(c *Challenge) { c.ID = "" },
		"longer id":     func(c *Challenge) { c.ID += "A" },
		"realm":         func(c *Challenge) { c.Realm = "evil.example" },
		"method":        func(c *Challenge) { c.Method = "tempo" },
		"intent":        func(c *Challenge) { c.Intent = "charge" },
		"request":       func(c *Challenge) { c.Request = "eyJhbW91bnQiOiIyIn0" },
		"expires":       func(c *Challenge) { c.Expires = "2036-01-02T03:04:05Z" },
		"no expires":    func(c *Challenge) { c.Expires = "" },
		"digest":        func(c *Challenge) { c.Digest = "sha-256=:x:" },
		"opaque":        func(c *Challenge) { c.Opaque = "e30" },
		"header":        func(c *Challenge) { c.Header = HeaderAlternateCredential },
		"slots shifted": func(c *Challenge) { c.Realm, c.Method, c.Opaque = "data.example|bitcoin", c.Intent, "" },
	}
	for name, f := range change {
		bad := c
		f(&bad)
		if err := bad.Verify(secret); !errors.Is(err, ErrInvalidChallenge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, other := range []string{"", "Secret", "secret "} {
		if err := c.Verify([]byte(other)); !errors.Is(err, ErrInvalidChallenge) {
			t.Errorf("secret %q: %v", other, err)
		}
	}
	if c := NewChallenge(nil, sample()); c.ID != "" {
		t.Error("an empty secret made an id")
	}
}

// TestNoSlotCanBeMoved: a "|" inside a parameter would let two challenges have
// one id; both sides of such a pair are refused.
func TestNoSlotCanBeMoved(t *testing.T) {
	secret := []byte("secret")
	eight := sample()
	eight.Header = HeaderAlternateCredential
	eight = NewChallenge(secret, eight)
	seven := eight
	seven.Opaque, seven.Header = eight.Opaque+"|"+eight.Header, ""
	if strings.Join(seven.slots(), "|") != strings.Join(eight.slots(), "|") {
		t.Fatal("the two inputs differ, this tests nothing")
	}
	if err := seven.Verify(secret); !errors.Is(err, ErrInvalidChallenge) {
		t.Error(err)
	}
	if err := eight.Verify(secret); err != nil {
		t.Error(err)
	}
}

func TestExpired(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, e := range []struct {
		expires string
		now     time.Time
		want    bool
	}{
		{"2026-01-02T03:04:05Z", at.Add(-time.Second), false}, {"2026-01-02T03:04:05Z", at, false},
		{"2026-01-02T03:04:05Z", at.Add(time.Nanosecond), true}, {"2026-01-02T04:04:05+01:00", at, false},
		{"2026-01-02T03:04:05.5Z", at, false}, {"2026-01-02T03:04:04.999Z", at, true},
		{"", at, false}, {"soon", at, true}, {"2026-01-02", at, true}, {"2026-01-02t03:04:05z", at, true},
	} {
		if got := (Challenge{Expires: e.expires}).Expired(e.now); got != e.want {
			t.Errorf("%q at %v: %v", e.expires, e.now, got)
		}
	}
	if got := FormatTime(at.In(time.FixedZone("", 3600)).Add(time.Millisecond)); got != "2026-01-02T03:04:05Z" {
		t.Error(got)
	}
}

func TestField(t *testing.T) {
	c := sample()
	if c.Field() != "Authorization" {
		t.Error(c.Field())
	}
	c.Header = HeaderAlternateCredential
	if c.Field() != "Payment-Authorization" {
		t.Error(c.Field())
	}
}

// TestParseChallengesForms has one challenge in all the forms that RFC 9110
// allows, among others.
func TestParseChallengesForms(t *testing.T) {
	c := Challenge{ID: "a", Realm: "r", Method: "m", Intent: "i", Request: testRequest}
	plain := `Payment id="a", realm="r", method="m", intent="i", request="` + testRequest + `"`
	quoted := c
	quoted.Realm = `r "x" \ , Payment id=y`
	for name, e := range map[string]struct {
		header []string
		want   []Challenge
	}{
		"plain":           {[]string{plain}, []Challenge{c}},
		"lower case":      {[]string{strings.Replace(plain, "Payment", "pAYMENT", 1)}, []Challenge{c}},
		"upper names":     {[]string{strings.Replace(plain, "realm", "REALM", 1)}, []Challenge{c}},
		"tokens":          {[]string{`Payment id=a,realm=r,method=m,intent=i,request=` + testRequest}, []Challenge{c}},
		"bad white space": {[]string{"Payment  id = \"a\"\t,\trealm= r ,method =m, intent=i , request=" + testRequest + " "}, []Challenge{c}},
		"empty elements":  {[]string{",, " + plain + ", ,"}, []Challenge{c}},
		"escapes":         {[]string{strings.Replace(plain, `"r"`, `"\r"`, 1)}, []Challenge{c}},
		"unknown":         {[]string{plain + `, shiny="new", x=1`}, []Challenge{c}},
		"after Basic":     {[]string{`Basic realm="Payment id=1, x", ` + plain}, []Challenge{c}},
		"after token68":   {[]string{`Negotiate abc==, ` + plain}, []Challenge{c}},
		"after bare":      {[]string{`Negotiate, ` + plain}, []Challenge{c}},
		"before others":   {[]string{plain + `, Bearer realm="x", error="y", Digest qop="auth, auth-int"`}, []Challenge{c}},
		"two in one":      {[]string{plain + ", " + plain}, []Challenge{c, c}},
		"two values":      {[]string{plain, plain}, []Challenge{c, c}},
		"three ways":      {[]string{plain, `Basic realm="x", ` + plain + ", " + plain}, []Challenge{c, c, c}},
		"nasty realm":     {[]string{quoted.String()}, []Challenge{quoted}},
		"one is broken":   {[]string{`Payment id=""`, plain, `Payment realm="`, `?`}, []Challenge{c}},
	} {
		got, err := ParseChallenges(e.header)
		if err != nil || len(got) != len(e.want) {
			t.Errorf("%s: %v, %v", name, got, err)
			continue
		}
		for i := range got {
			if got[i] != e.want[i] {
				t.Errorf("%s:\n got %+v\nwant %+v", name, got[i], e.want[i])
			}
		}
	}
}

func TestQuotedStrings(t *testing.T) {
	for in, want := range map[string]string{
		`"a\u2014b"`: "a\u2014b", `"\ud83d\ude00"`: "\U0001f600", `"\u00"`: "u00", `"\\u2014"`: `\u2014`, `"\ud83d"`: "\ufffd",
		`"\ud83dx"`: "\ufffdx", `"\ud83d\u0041"`: "\ufffdA", `"\a\"\\"`: `a"\`, "\"gr\xfcn\"": "grün", "\"grün\"": "grün", "\"a\tb\"": "a\tb", `""`: "",
	} {
		items, err := parseAuth("X a=" + in)
		if err != nil || len(items) != 1 || items[0].params["a"] != want {
			t.Errorf("%s: %q, %v", in, items, err)
		}
	}
}

// printable draws texts that a parameter may hold, with everything that could
// break out of the quotes.
func printable() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringN(1, 20, 60), rapid.StringMatching(`[a-z"\\,= \t\r\nu0-9]{1,20}`))
}

func drawChallenge(t *rapid.T) Challenge {
	c := Challenge{
		ID: rapid.StringMatching(`[A-Za-z0-9_-]{1,43}`).Draw(t, "id"), Realm: printable().Draw(t, "realm"),
		Method: rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "method"), Intent: rapid.StringMatching(`[a-z-]{1,8}`).Draw(t, "intent"),
		Request: testRequest, Description: printable().Draw(t, "description"),
		Digest: rapid.SampledFrom([]string{"", Digest(nil)}).Draw(t, "digest"),
		Header: rapid.SampledFrom([]string{"", HeaderAlternateCredential}).Draw(t, "header"),
		Opaque: rapid.SampledFrom([]string{"", "e30"}).Draw(t, "opaque"),
	}
	c.Realm = strings.ReplaceAll(c.Realm, "|", "/")
	if rapid.Bool().Draw(t, "expires") {
		c.Expires = FormatTime(time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "at"), 0))
	}
	return c
}

// TestChallengeRoundTrip: what is written is read again, alone or among others,
// as legal header bytes, and verifies.
func TestChallengeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := []byte(rapid.StringN(1, 40, -1).Draw(t, "secret"))
		c := NewChallenge(secret, drawChallenge(t))
		d := NewChallenge(secret, drawChallenge(t))
		value := c.String()
		for i := 0; i < len(value); i++ {
			if value[i] < 0x20 || value[i] > 0x7e {
				t.Fatalf("byte %#x in %q", value[i], value)
			}
		}
		got, err := ParseChallenges([]string{`Basic realm="x", ` + value + ", " + d.String() + ", Bearer"})
		if err != nil || len(got) != 2 || got[0] != c || got[1] != d {
			t.Fatalf("%v\n got %+v\nwant %+v\n and %+v", err, got, c, d)
		}
		if err := got[0].Verify(secret); err != nil {
			t.Fatal(err)
		}
	})
}

func TestValidate(t *testing.T) {
	if err := sample().Validate(); err != nil {
		t.Fatal(err)
	}
	c := sample()
	c.Realm = "a|b"
	if err := c.Validate(); !errors.Is(err, ErrChallengeSyntax) {
		t.Error(err)
	}
	c = sample()
	c.Request = strings.Repeat("A", MaxRequest+1)
	if err := c.Validate(); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}
