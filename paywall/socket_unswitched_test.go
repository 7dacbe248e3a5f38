package paywall_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// asksToSwitch sends a GET of /feed that asks for a WebSocket, with a credential.
func (m *mall) asksToSwitch(credential string, connection bool) (*http.Response, string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(within(m.t), http.MethodGet, m.web.URL+"/feed", nil)
	must(m.t, err)
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", mpp.HeaderCredential: credential,
	} {
		req.Header.Set(name, value)
	}
	if connection {
		req.Header.Set("Connection", "Upgrade")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	must(m.t, err)
	body, err := io.ReadAll(resp.Body)
	must(m.t, err)
	must(m.t, resp.Body.Close())
	return resp, string(body)
}

// Asking for a WebSocket where the handler speaks none buys its answer at its price, and
// not for nothing: by whatever it is charged, and once for each request.
func TestAnswerWithoutUpgradeIsCharged(t *testing.T) {
	const size = 3000
	for name, c := range map[string]struct {
		price paywall.Price
		want  uint64
	}{
		"request": {paywall.PerRequest(7000), 7000},
		"byte":    {paywall.Price{Msat: 1000, Per: 100, Unit: bitcoin.UnitByte, Credit: 40_000}, 30_000},
		"chunk":   {paywall.Price{Msat: 1000, Unit: bitcoin.UnitChunk, ChunkBytes: 1000, Credit: 4000}, 3000},
		"second":  {paywall.PerSecond(1000), 1000},
		"event":   {paywall.PerEvent(1000), 3000},
		"after":   {paywall.Price{Msat: 9000, Unit: bitcoin.UnitRequest, After: func(*http.Request, paywall.Answer) uint64 { return 4000 }}, 4000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := strings.Repeat("x", size)
			if name == "event" {
				want = strings.Repeat("data: one\n\n", 3)
			}
			m := newMall(t, c.price, func(w http.ResponseWriter, r *http.Request) {
				if name == "event" {
					w.Header().Set("Content-Type", "text/event-stream")
				}
				_, _ = io.WriteString(w, want)
			})
			m.get("/feed")
			for _, connection := range []bool{true, false} {
				_, before := m.records()
				resp, body := m.asksToSwitch(m.credential(channel.CeilSat(before.Charged), ""), connection)
				_, after := m.records()
				got := after.Charged - before.Charged
				if resp.StatusCode == http.StatusOK && got != c.want || resp.StatusCode != http.StatusOK && (got > 0 || strings.Contains(body, "xxx") || strings.Contains(body, "data: ")) {
					t.Errorf("Connection %v: %s, %d bytes for %d msat, want %d", connection, resp.Status, len(body), got, c.want)
				}
				if resp.StatusCode == http.StatusOK && (!strings.HasPrefix(body, want) || resp.Header.Get(mpp.HeaderReceipt) == "" || resp.Header.Get("Cache-Control") != "private") {
					t.Errorf("Connection %v: %d bytes with %v", connection, len(body), resp.Header)
				}
				if connection && resp.StatusCode != http.StatusOK {
					t.Errorf("it is not sold: %s %s", resp.Status, body)
				}
			}
		})
	}
}

// A part of an answer is neither sold nor given away.
func TestLongAnswerWithoutUpgrade(t *testing.T) {
	m := newMall(t, paywall.PerRequest(7000), func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 5<<20))
	})
	m.get("/feed")
	_, before := m.records()
	resp, body := m.asksToSwitch(m.credential(channel.CeilSat(before.Charged), ""), true)
	if _, after := m.records(); resp.StatusCode != http.StatusNotImplemented || strings.Contains(body, "xx") || after.Charged != before.Charged {
		t.Errorf("%s: %d bytes for %d msat", resp.Status, len(body), after.Charged-before.Charged)
	}
}

// What limits a payer's requests limits those that ask for a WebSocket, too.
func TestLimitsHoldForWebSockets(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{Price: paywall.PerRequest(1000), Limit: paywall.Limit{PerSecond: 0.001, Burst: 2}}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "answer")
	})
	m.get("/feed")
	statuses := map[int]int{}
	for range 4 {
		_, theirs := m.records()
		resp, _ := m.asksToSwitch(m.credential(channel.CeilSat(theirs.Charged), ""), true)
		statuses[resp.StatusCode]++
	}
	if statuses[http.StatusOK] != 1 || statuses[http.StatusTooManyRequests] != 3 {
		t.Errorf("answers are %v", statuses)
	}
}

// Credentials that are refused are counted by their sender, whatever they ask for.
func TestForgeriesForWebSocketsAreCounted(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{Price: paywall.PerRequest(1000), Unpaid: paywall.Limit{PerSecond: 0.001, Burst: 5}}, func(w http.ResponseWriter, r *http.Request) {})
	last := 0
	for range 6 {
		resp, _ := m.asksToSwitch("Payment bm90aGluZw", true)
		last = resp.StatusCode
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the sixth is answered %d", last)
	}
}

// Payments that are refused end nothing; many do.
func TestSocketEndsAfterManyRefusals(t *testing.T) {
	m := newMall(t, paywall.PerEvent(1000), sending(t, 1, websocket.MessageText, 5))
	m.opened()
	_, theirs := m.records()
	s := m.rawSocket(nil)
	s.send(map[string]string{"mpp": "authorization", "authorization": m.credential(channel.CeilSat(theirs.Charged)+5, "")})
	refused := 0
	for range 40 {
		raw := []byte(`{"mpp":"authorization","authorization":"Payment e30"}`)
		if s.ws.Write(within(t), websocket.MessageText, raw) != nil {
			break
		}
	}
	for {
		_, p, err := s.ws.Read(within(t))
		if err != nil {
			break
		}
		if strings.Contains(string(p), "payment-error") {
			refused++
		}
	}
	if refused == 0 || refused > 17 {
		t.Errorf("%d refusals were answered", refused)
	}
}
