package paywall_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/script"
)

// knock sends a request to a provider from an address of its own.
func (e *edge) knock(i int, method, path, credential, key string) int {
	e.T.Helper()
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:9", i>>16&255, i>>8&255, i&255)
	if credential != "" {
		r.Header.Set(mpp.HeaderCredential, credential)
	}
	if key != "" {
		r.Header.Set(mpp.HeaderIdempotencyKey, key)
	}
	w := httptest.NewRecorder()
	e.Server.Config.Handler.ServeHTTP(w, r)
	return w.Code
}

// strangers is how many come: each answer derives a key for its offer.
const strangers = 2_000

// Thousands of strangers with openings that are none, other people's channel ids,
// replayed and broken credentials leave nothing: not on the disk, and not in memory.
func TestPitfall69_StrangersLeaveNothing(t *testing.T) {
	e := &edge{Stand: edgetest.New(t, edgetest.Config{})}
	e.id = e.Open(script.Taproot)
	mine := e.OpenOf(e.Build(e.Quote("/f.bin"), script.Taproot))
	q := e.Quote("/f.bin")
	known := e.Wall.Remembered() + e.Payee.Remembered()
	commits := len(e.PayeeDisk.Commits())
	answers := map[int]int{}
	for i := range strangers {
		p := mine
		p.ChannelID = fmt.Sprintf("%064x:%d", i+1, i%3)
		p.FundingTx = nil
		p.Capacity += uint64(i)
		raw, err := json.Marshal(p)
		must(t, err)
		credential, key := "", ""
		switch i % 5 {
		case 0: // an opening whose MAC is made up
			credential = mpp.Credential{Challenge: q.Challenge, Payload: raw}.Encode()
		case 1: // bytes
			credential = "Payment " + mpp.EncodeBase64(raw)
		case 2: // a challenge that nobody made
			c := q.Challenge
			c.ID = mpp.EncodeBase64([]byte(fmt.Sprint("none of yours ", i)))
			credential = mpp.Credential{Challenge: c, Payload: raw}.Encode()
		case 3: // somebody else's channel, without its key
			raw, err = json.Marshal(map[string]any{
				"action": "voucher", "channelId": e.id, "cumulativeAmount": "1", "signature": channel.Hex(make([]byte, 65)), "mac": channel.Hex(make([]byte, 32)),
			})
			must(t, err)
			credential, key = mpp.Credential{Challenge: q.Challenge, Payload: raw}.Encode(), fmt.Sprint("key-of-a-stranger-", i)
		case 4: // nothing
		}
		code := e.knock(i, "POST", "/f.bin", credential, key)
		answers[code]++
	}
	if answers[402] != strangers {
		t.Errorf("answers by status: %v", answers)
	}
	// What is kept of the one channel that was named is there for its payer too.
	if now := e.Wall.Remembered() + e.Payee.Remembered(); now > known+6 {
		t.Errorf("%d entries became %d", known, now)
	}
	if n := len(e.PayeeDisk.Commits()) - commits; n != 0 {
		t.Errorf("%d commits", n)
	}
	if records, err := e.Payee.Records(ctx); err != nil || len(records) != 1 {
		t.Errorf("%d channels, %v", len(records), err)
	}
}
