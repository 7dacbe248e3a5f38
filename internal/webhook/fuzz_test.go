package webhook_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/webhook"
)

// FuzzVerify: an event is believed with exactly the id, the time, the body and the secret
// that it was signed with, within its time, whatever else stands in the fields.
func FuzzVerify(f *testing.F) {
	f.Add("evt_1", "1614265330", "v1,AAAA", []byte("{}"), int64(1614265330), uint8(0))
	f.Add("a.1", "1", "v1,x v1a,y", []byte(".2."), int64(1), uint8(3))
	f.Add("", "-1", "", []byte{}, int64(-1), uint8(7))
	f.Add("evt_1", "+5", "  ", []byte("b"), int64(5), uint8(9))
	f.Fuzz(func(t *testing.T, id, timestamp, fields string, body []byte, unix int64, flip uint8) {
		const tolerance = 5 * time.Minute
		own, other := bytes.Repeat([]byte{1}, 24), bytes.Repeat([]byte{2}, 24)
		now := time.Unix(unix%(1<<40), 0)
		if webhook.Verify(own, id, timestamp, fields, body, now, tolerance) == nil {
			t.Fatal("a signature that nobody made is believed")
		}
		if strings.Contains(id, ".") { // ours have none: the parts are told apart
			return
		}
		made := strconv.FormatInt(now.Unix(), 10)
		good := webhook.Sign([][]byte{other, own}, id, now, body)
		if err := webhook.Verify(own, id, made, fields+" "+good, body, now.Add(tolerance), tolerance); err != nil {
			t.Fatal(err)
		}
		if webhook.Verify(own, id, made, good, body, now.Add(tolerance+time.Second), tolerance) == nil {
			t.Fatal("an old one is believed")
		}
		if timestamp != made && webhook.Verify(own, id, timestamp, good, body, now, tolerance) == nil {
			if n, err := strconv.ParseInt(timestamp, 10, 64); err != nil || n != now.Unix() {
				t.Fatal("another time is believed")
			}
		}
		raw := []byte(good)
		at := int(flip) % len(raw)
		raw[at] ^= 1 << (flip % 7)
		first, _, _ := strings.Cut(good, " ")
		if at >= len(first) && strings.TrimSpace(string(raw)) != good && !strings.Contains(string(raw), good[len(first)+1:]) &&
			webhook.Verify(own, id, made, string(raw), body, now, tolerance) == nil {
			t.Fatalf("%q is believed for %q", raw, good)
		}
		for _, changed := range [][]byte{append(bytes.Clone(body), 0), append([]byte{'.'}, body...)} {
			if webhook.Verify(own, id, made, good, changed, now, tolerance) == nil {
				t.Fatal("another body is believed")
			}
		}
		if webhook.Verify(own, id+"x", made, good, body, now, tolerance) == nil {
			t.Fatal("another id is believed")
		}
	})
}

// FuzzSecrets: what is read as secrets is long enough each, and an error tells none.
func FuzzSecrets(f *testing.F) {
	f.Add("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nplain-bytes-of-a-secret-here\r\n")
	f.Add("whsec_!!\n")
	f.Add("\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := webhook.ParseSecrets(text)
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); err != nil && len(line) >= 12 && strings.Contains(err.Error(), line) {
				t.Fatalf("%v", err)
			}
		}
		if err != nil {
			return
		}
		if len(all) == 0 {
			t.Fatal("no secret and no error")
		}
		for _, s := range all {
			if len(s) < 24 {
				t.Fatalf("%d bytes", len(s))
			}
		}
	})
}
