package mpp

import (
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCredentialRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Credential{
			Challenge: NewChallenge([]byte("secret"), drawChallenge(t)),
			Source:    rapid.String().Draw(t, "source"),
		}
		payload := rapid.MapOfN(rapid.String(), anyJSON(2), 0, 4).Draw(t, "payload")
		raw, err := JCS(payload)
		if err != nil {
			t.Fatal(err)
		}
		c.Payload = raw
		value := c.Encode()
		got, err := ParseCredential([]string{value})
		if err != nil || got.Challenge != c.Challenge || got.Source != c.Source {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, c)
		}
		if again, err := JCS(got.Payload); err != nil || string(again) != string(raw) {
			t.Fatalf("payload %q of %q (%v)", again, raw, err)
		}
		if err := got.Challenge.Verify([]byte("secret")); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCredentialAmongOthers: other schemes in the same value are not our
// business, and unknown members are ignored.
func TestCredentialAmongOthers(t *testing.T) {
	want := Challenge{ID: "a", Intent: "i", Method: "m", Realm: "r", Request: "e30"}
	good := credential("", "")
	for _, value := range []string{
		good, " " + good + " ", strings.Replace(good, "Payment ", "payment   ", 1), "Bearer abc, " + good, good + ", Bearer abc",
		`Digest username="a, Payment b", ` + good, "," + good + ",",
		credential(`"id"`, `"shiny":[1,{"id":"b"}],"ID":"c","id"`), credential(`"payload"`, `"Payload":1,"payload"`),
	} {
		got, err := ParseCredential([]string{value})
		if err != nil || got.Challenge != want {
			t.Errorf("%s: %+v, %v", value, got, err)
		}
	}
	if got, err := ParseCredential([]string{"", good}); err != nil || got.Challenge != want {
		t.Errorf("after an empty line: %+v, %v", got, err)
	}
}

// TestEncodeRefusable: what is no object never becomes a credential that is taken.
func TestEncodeRefusable(t *testing.T) {
	for _, payload := range []string{"", "null", "[]", "{", `{"a":1,"a":2}`, "\xff"} {
		c := Credential{Challenge: Challenge{ID: "a", Intent: "i", Method: "m", Realm: "r", Request: "e30"}, Payload: json.RawMessage(payload)}
		if _, err := ParseCredential([]string{c.Encode()}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", payload, err)
		}
	}
}

func TestChallengeJSON(t *testing.T) {
	c := NewChallenge([]byte("secret"), sample())
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var got Challenge
	if err := json.Unmarshal(raw, &got); err != nil || got != c {
		t.Errorf("%s: %+v, %v", raw, got, err)
	}
	if err := json.Unmarshal([]byte(`{"id":"a","id":"b"}`), &got); !errors.Is(err, ErrJSON) {
		t.Error(err)
	}
	if got != c {
		t.Error("a refused text changed the challenge")
	}
}

// sized is a credential whose header value has at least n bytes.
func sized(n int) string {
	return credential(`"open"`, `"`+strings.Repeat("x", n*3/4)+`"`)
}

func TestPitfall41_OversizedCredential(t *testing.T) {
	for _, n := range []int{4 << 10, 16 << 10, 60 << 10} {
		if _, err := ParseCredential([]string{sized(n)}); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := ParseCredential([]string{sized(DefaultMaxCredential)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the default: %v", err)
	}
	value := sized(5000)
	if _, err := ParseCredentialMax([]string{value}, len(value)); err != nil {
		t.Errorf("as large as may be: %v", err)
	}
	if _, err := ParseCredentialMax([]string{value}, len(value)-1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
	// The bound is on everything that came, before anything is decoded.
	if _, err := ParseCredential([]string{strings.Repeat("Bearer a, ", 10_000)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("other schemes: %v", err)
	}
	many := make([]string, 1000)
	for i := range many {
		many[i] = strings.Repeat("x", 100)
	}
	if _, err := ParseCredential(many); !errors.Is(err, ErrTooLarge) {
		t.Errorf("many lines: %v", err)
	}
	if _, err := ParseCredentialMax([]string{"Payment e30"}, 0); !errors.Is(err, ErrMalformed) {
		t.Errorf("no bound means the default: %v", err)
	}
}

// TestDecodingStaysLinear: hostile text of the greatest size is refused without
// memory that grows faster than it.
func TestDecodingStaysLinear(t *testing.T) {
	hostile := []string{
		strings.Repeat("[", 40_000), strings.Repeat(`{"a":`, 8_000), `"` + strings.Repeat(`\u0000`, 6_000), "[" + strings.Repeat("1,", 20_000),
		strings.Repeat("9", 40_000),
	}
	for i, text := range hostile {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := ParseJSON([]byte(text)); err == nil {
			t.Errorf("%d: taken", i)
		}
		runtime.ReadMemStats(&after)
		allocated := int64(after.TotalAlloc - before.TotalAlloc)
		if limit := int64(100 * len(text)); allocated > limit {
			t.Errorf("%d: %d bytes for %d", i, allocated, len(text))
		}
	}
}

func TestReceipt(t *testing.T) {
	fields := map[string]any{"method": "bitcoin", "reference": "x", "status": "success", "timestamp": "2026-01-02T03:04:05Z", "units": 3}
	value, err := EncodeReceipt(fields)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseReceipt([]string{value})
	if err != nil || got["units"] != json.Number("3") || got["reference"] != "x" {
		t.Error(got, err)
	}
	for _, name := range []string{"method", "reference", "status", "timestamp"} {
		bad := map[string]any{}
		for k, v := range fields {
			bad[k] = v
		}
		delete(bad, name)
		if _, err := EncodeReceipt(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	theirs, err := ParseReceipt([]string{loadCrosschecked(t).Receipt})
	if err != nil || theirs["acceptedCumulative"] != "1000" {
		t.Error(theirs, err)
	}
}
