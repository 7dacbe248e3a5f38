package paywall

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"
)

// However many keys a payer makes up, two generations of so many are kept; and one
// that was bound stays bound while its challenge can live, unless so many came since.
func TestPitfall41_IdempotencyKeysAreBounded(t *testing.T) {
	var b requests
	now, ttl := time.Unix(1_700_000_000, 0), 10*time.Minute
	one, other := httptest.NewRequest("GET", "/one", nil), httptest.NewRequest("GET", "/other", nil)
	for i := range 3*maxBound + 10 {
		if err := b.bind("channel", fmt.Sprint("k", i), one, "", now, ttl); err != nil {
			t.Fatal(err)
		}
		if len(b.now) > maxBound || len(b.past) > maxBound {
			t.Fatalf("%d and %d keys are kept", len(b.now), len(b.past))
		}
	}
	var fresh requests
	for step := range 4 { // repeated within its life it never goes to another request
		if err := fresh.bind("channel", "key", one, "", now.Add(time.Duration(step)*ttl*3/4), ttl); err != nil {
			t.Fatal(err)
		}
		if err := fresh.bind("channel", "key", other, "", now.Add(time.Duration(step)*ttl*3/4), ttl); !errors.Is(err, errReused) {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	if err := fresh.bind("another channel", "key", other, "", now, ttl); err != nil {
		t.Fatalf("a key is one channel's: %v", err)
	}
	if err := fresh.bind("channel", "", other, "", now, ttl); err != nil || len(fresh.now)+len(fresh.past) > 4 {
		t.Fatalf("no key: %v, %d and %d", err, len(fresh.now), len(fresh.past))
	}
}

// MAC keys of so many channels are kept, and derived again for more.
func TestPitfall41_MACKeysAreBounded(t *testing.T) {
	s := &Server{keys: map[string]known{}}
	derived := 0
	for i := range 2*maxKeys + 10 {
		if _, err := s.macKey(fmt.Sprint(i), func() ([32]byte, error) { derived++; return [32]byte{byte(i)}, nil }); err != nil {
			t.Fatal(err)
		}
		if len(s.keys) > maxKeys {
			t.Fatalf("%d keys are kept", len(s.keys))
		}
	}
	got, err := s.macKey("1", func() ([32]byte, error) { derived++; return [32]byte{1}, nil })
	if err != nil || got != [32]byte{1} || derived != 2*maxKeys+11 {
		t.Fatalf("%x, %v, derived %d times", got, err, derived)
	}
}
