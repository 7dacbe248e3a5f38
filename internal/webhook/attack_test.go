package webhook_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/webhook"
)

// An event from the future is as little to be believed as an old one: whoever kept it
// could show it again when its time comes.
func TestEventsOfTheFuture(t *testing.T) {
	at := time.Unix(1614265330, 0)
	body, key := []byte("{}"), []byte(secret)
	signed := webhook.Sign([][]byte{key}, "evt_1", at, body)
	for early, want := range map[time.Duration]error{0: nil, 5 * time.Minute: nil, 5*time.Minute + time.Second: webhook.ErrTime, 24 * time.Hour: webhook.ErrTime} {
		if err := webhook.Verify(key, "evt_1", strconv.FormatInt(at.Unix(), 10), signed, body, at.Add(-early), 5*time.Minute); !errors.Is(err, want) {
			t.Errorf("%s early: %v", early, err)
		}
	}
}

// What is shown of an address has nothing in it that could be a secret: paths are, with
// many receivers.
func TestShownAddresses(t *testing.T) {
	for url, want := range map[string]string{
		"https://hooks.example/services/T000/B000/secret?key=1#x": "https://hooks.example", "http://127.0.0.1:8080/secret": "http://127.0.0.1:8080", "https://[": "",
	} {
		if got := (webhook.Target{URL: url}).Shown(); got != want {
			t.Errorf("%s is shown as %q", url, got)
		}
	}
}
