package forward

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// feed is a service that sends what it is asked for by a WebSocket, charged by the
// message, and one that is free.
func (x *toll) feed() (paid, free *httptest.Server) {
	x.t.Helper()
	secret, err := x.PayeeKeys.ChallengeSecret(0)
	must(x.t, err)
	wall, err := paywall.NewServer(paywall.ServerConfig{Payee: x.Payee, Network: "regtest", Secret: secret, Realm: "feed", Recipient: strings.Repeat("cd", 32), Now: x.Now})
	must(x.t, err)
	charge, err := paywall.NewMiddleware(paywall.MiddlewareConfig{Server: wall, Price: paywall.Price{Msat: 100_000, Unit: bitcoin.UnitEvent}})
	must(x.t, err)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Upgrade") != "" && r.Header.Get("X-Mine") != "yes" {
			x.t.Errorf("the service sees %v", r.Header)
		}
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"news"}})
		if err != nil {
			return
		}
		defer func() { _ = ws.CloseNow() }()
		for {
			kind, p, err := ws.Read(r.Context())
			if err != nil {
				return
			}
			if string(p) == "end" {
				_ = ws.Close(4000, "that is all")
				return
			}
			if ws.Write(r.Context(), kind, append([]byte("to "), p...)) != nil {
				return
			}
		}
	})
	paid, free = httptest.NewServer(charge(h)), httptest.NewServer(h)
	x.t.Cleanup(paid.Close)
	x.t.Cleanup(free.Close)
	return paid, free
}

// socket opens a WebSocket at the proxy.
func (x *toll) socket(to string) (*websocket.Conn, *http.Response, error) {
	x.t.Helper()
	return websocket.Dial(x.t.Context(), x.web.URL+"/http/"+strings.TrimPrefix(to, "http://")+"/ws", &websocket.DialOptions{
		HTTPHeader: http.Header{"X-Mine": {"yes"}}, Subprotocols: []string{"other", "news"},
	})
}

// talk exchanges messages until the n-th, or the end.
func talk(ctx context.Context, ws *websocket.Conn, n int) (int, error) {
	for i := range n {
		text := fmt.Sprint("message ", i)
		if err := ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			return i, err
		}
		if _, p, err := ws.Read(ctx); err != nil {
			return i, err
		} else if string(p) != "to "+text {
			return i, fmt.Errorf("got %q", p)
		}
	}
	return n, nil
}

// A WebSocket that is sold is paid by the message, within the budget, and the client sees
// the service's messages alone; one that is free goes through as it is.
func TestWebSocketIsPaid(t *testing.T) {
	x := newToll(t, nil) // 5,000 sat for a host
	paid, free := x.feed()
	for range 2 {
		ws, _, err := x.socket(paid.URL)
		must(t, err)
		if n, err := talk(t.Context(), ws, 20); err != nil || ws.Subprotocol() != "news" {
			t.Fatalf("%d messages, %v, protocol %q", n, err, ws.Subprotocol())
		}
		must(t, ws.Write(t.Context(), websocket.MessageText, []byte("end")))
		_, _, err = ws.Read(t.Context())
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != 4000 || closed.Reason != "that is all" {
			t.Fatalf("it ends with %v", err)
		}
	}
	if n := x.signed(); n != 4000 {
		t.Errorf("%d sat for forty messages of 100", n)
	}
	ws, _, err := x.socket(paid.URL)
	must(t, err)
	n, err := talk(t.Context(), ws, 40)
	if websocket.CloseStatus(err) != websocket.StatusPolicyViolation || n < 10 || n > 20 {
		t.Errorf("%d messages beyond the budget, %v", n, err)
	}
	if n := x.signed(); n > 5000 {
		t.Errorf("%d sat of 5000", n)
	}
	ws, _, err = x.socket(free.URL)
	must(t, err)
	if n, err := talk(t.Context(), ws, 3); err != nil {
		t.Errorf("%d free messages, %v", n, err)
	}
	must(t, ws.CloseNow())
}

// Where a WebSocket may not be paid the client is told so, and not left with a connection
// on which nothing comes.
func TestWebSocketThatMayNotBePaid(t *testing.T) {
	x := newToll(t, func(c *Config) {
		b, err := NewBudgets(20_000, []Allow{{Host: "elsewhere"}}, nil, nil)
		must(t, err)
		c.Budgets = b
	})
	paid, free := x.feed()
	_, resp, err := x.socket(paid.URL)
	if err == nil || resp == nil || resp.StatusCode != http.StatusPaymentRequired || !strings.Contains(resp.Header.Get("Proxy-Status"), "not on its allow-list") {
		t.Fatalf("%v: %v", err, resp)
	}
	ws, _, err := x.socket(free.URL)
	must(t, err)
	if n, err := talk(t.Context(), ws, 3); err != nil {
		t.Errorf("%d free messages, %v", n, err)
	}
	must(t, ws.CloseNow())
	if x.signed() != 0 {
		t.Errorf("%d sat", x.signed())
	}
}
