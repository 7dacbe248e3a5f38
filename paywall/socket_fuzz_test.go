package paywall_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// Whatever a client sends on a metered WebSocket, nothing is delivered beyond the credit
// and what was paid, and the connection ends.
func FuzzSocketServer(f *testing.F) {
	tb := &proxied{TB: f}
	s := edgetest.New(tb, edgetest.Config{})
	id := s.OpenChannel(script.Taproot)
	wrap, err := paywall.NewMiddleware(paywall.MiddlewareConfig{
		Server: s.Wall, Price: paywall.Price{Msat: 1000, Unit: bitcoin.UnitEvent, Credit: 3000}, MaxWait: 20 * time.Millisecond,
	})
	s.Must(err)
	web := httptest.NewServer(wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.CloseNow() }()
		for range 5 {
			if ws.Write(r.Context(), websocket.MessageText, []byte("x")) != nil {
				return
			}
		}
		_ = ws.Close(websocket.StatusNormalClosure, "")
	})))
	f.Cleanup(web.Close)
	resp, err := http.Get(web.URL)
	s.Must(err)
	s.Must(resp.Body.Close())
	list, err := mpp.ParseChallenges(resp.Header.Values(mpp.HeaderChallenge))
	s.Must(err)
	credential := s.Seal(list[0], s.VoucherFor(id, 0), "")
	f.Add(`{"mpp":"authorization","authorization":"`+credential+`"}`, `{"mpp":"payment-close-request"}`, false)
	f.Add(`{"mpp":"authorization","authorization":"Payment e30"}`, `{"mpp":"message","data":"hi"}`, false)
	f.Add(`{"mpp":"message","data":7}`, `hello`, true)
	f.Add(``, `{"mpp":"payment-receipt","data":{}}`, true)
	f.Fuzz(func(t *testing.T, one, two string, binary bool) {
		tb.now = t
		defer func() { tb.now = nil }()
		within, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		ws, _, err := websocket.Dial(within, web.URL, nil)
		s.Must(err)
		defer func() { _ = ws.CloseNow() }()
		ws.SetReadLimit(1 << 21)
		kind := websocket.MessageText
		if binary {
			kind = websocket.MessageBinary
		}
		_ = ws.Write(within, websocket.MessageText, []byte(one)) // it may have ended
		_ = ws.Write(within, kind, []byte(two))
		came := 0
		for {
			kind, p, err := ws.Read(within)
			if err != nil {
				break
			}
			if kind == websocket.MessageText && strings.HasPrefix(string(p), `{"mpp":"message"`) {
				came++
			}
			if strings.HasPrefix(string(p), `{"mpp":"payment-error"`) || strings.HasPrefix(string(p), `{"mpp":"payment-close-ready"`) {
				break
			}
		}
		if within.Err() != nil {
			t.Fatal("it does not end")
		}
		if r, err := s.Payee.Record(ctx, id); err != nil || r.Charged > r.Paid*1000+3000 || came > 5 || r.Stopped != "" {
			t.Fatalf("%d messages, charged %d msat, paid %d sat, %v", came, r.Charged, r.Paid, err)
		}
	})
}

// Neither side leaves a goroutine behind, however a metered WebSocket ends.
func TestSocketLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	m := newMall(t, paywall.PerEvent(1000), sending(t, 50, websocket.MessageText, 10))
	m.travel(paywall.TransportConfig{}) // what is charged and left is within the credit
	for read := range 4 {               // left at the beginning, in the middle
		s := m.socket("/feed")
		for range read * 3 {
			_, _, err := s.Read(within(t))
			must(t, err)
		}
		must(t, s.Close())
	}
	raw := m.rawSocket(nil) // never paid
	_ = raw.ws.CloseNow()
	until(t, func() bool { return m.wall.Connections() == 0 })
	must(t, m.paying.Close(ctx))
	m.web.Close()
	m.paying.CloseIdleConnections()
	m.client.CloseIdle()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
