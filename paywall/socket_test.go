package paywall_test

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// sending is a handler that upgrades and sends so many messages, one after the other.
func sending(t *testing.T, n int, kind websocket.MessageType, size int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.CloseNow() }()
		for i := range n {
			if err := ws.Write(r.Context(), kind, []byte(fmt.Sprintf("%0*d", size, i))); err != nil {
				return
			}
		}
		_ = ws.Close(websocket.StatusNormalClosure, "that is all")
	}
}

func (m *mall) socket(path string, protocols ...string) *paywall.Socket {
	m.t.Helper()
	s, err := m.paying.Socket(ctx, "ws"+strings.TrimPrefix(m.web.URL, "http")+path, nil, protocols...)
	must(m.t, err)
	return s
}

// within bounds what a test waits for.
func within(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(ctx, 20*time.Second)
	t.Cleanup(cancel)
	return c
}

// A WebSocket is charged by the message, the byte, the chunk or as a whole; it pauses while
// the credit is used up and goes on with each payment.
func TestSocketPrices(t *testing.T) {
	for name, c := range map[string]struct {
		price paywall.Price
		kind  websocket.MessageType
		want  uint64
	}{
		"event":   {paywall.PerEvent(500), websocket.MessageText, 30 * 500},
		"byte":    {paywall.Price{Msat: 1000, Per: 10, Unit: bitcoin.UnitByte, Credit: 20_000}, websocket.MessageBinary, 30 * 10_000},
		"chunk":   {paywall.Price{Msat: 1000, Unit: bitcoin.UnitChunk, ChunkBytes: 1000, Credit: 2000}, websocket.MessageBinary, 3000},
		"request": {paywall.PerRequest(7000), websocket.MessageText, 7000},
		"ahead":   {paywall.Price{Msat: 1000, Unit: bitcoin.UnitEvent, Ahead: true}, websocket.MessageText, 30 * 1000},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMall(t, c.price, sending(t, 30, c.kind, 100))
			if c.price.Ahead {
				m.travel(paywall.TransportConfig{MaxPrepay: 10})
			}
			s := m.socket("/feed")
			for i := range 30 {
				kind, p, err := s.Read(within(t))
				must(t, err)
				if want := fmt.Sprintf("%0100d", i); kind != c.kind || string(p) != want {
					t.Fatalf("message %d: %v %q", i, kind, p)
				}
			}
			if _, _, err := s.Read(within(t)); err != io.EOF {
				t.Fatalf("got %v", err)
			}
			must(t, s.Close())
			m.settled(c.want)
		})
	}
}

// Time is charged by begun seconds, and no more than it took.
func TestSocketPerSecond(t *testing.T) {
	m := newMall(t, paywall.PerSecond(1000), func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.CloseNow() }()
		for _, p, err := ws.Read(r.Context()); err == nil; _, p, err = ws.Read(r.Context()) {
			if ws.Write(r.Context(), websocket.MessageText, p) != nil {
				return
			}
		}
	})
	begun := time.Now()
	s := m.socket("/clock")
	for i := range 5 {
		must(t, s.Write(within(t), websocket.MessageText, []byte(fmt.Sprint(i))))
		if _, p, err := s.Read(within(t)); err != nil || string(p) != fmt.Sprint(i) {
			t.Fatalf("%q %v", p, err)
		}
	}
	must(t, s.Close())
	until(t, func() bool { return m.wall.Connections() == 0 })
	took := uint64(time.Since(begun).Seconds()) + 1
	if _, theirs := m.records(); theirs.Charged < 1000 || theirs.Charged > took*1000 {
		t.Errorf("charged %d msat for %d s", theirs.Charged, took)
	}
}

// rawSocket speaks the messages of a metered WebSocket by hand.
type rawSocket struct {
	t  *testing.T
	m  *mall
	ws *websocket.Conn
}

func (m *mall) rawSocket(header http.Header) *rawSocket {
	m.t.Helper()
	ws, _, err := websocket.Dial(within(m.t), m.web.URL+"/feed", &websocket.DialOptions{HTTPHeader: header})
	must(m.t, err)
	m.t.Cleanup(func() { _ = ws.CloseNow() })
	return &rawSocket{m.t, m, ws}
}

func (s *rawSocket) next() (f map[string]json.RawMessage, name string) {
	s.t.Helper()
	_, p, err := s.ws.Read(within(s.t))
	must(s.t, err)
	must(s.t, json.Unmarshal(p, &f))
	must(s.t, json.Unmarshal(f["mpp"], &name))
	return f, name
}

func (s *rawSocket) send(v map[string]string) {
	s.t.Helper()
	raw, err := json.Marshal(v)
	must(s.t, err)
	must(s.t, s.ws.Write(within(s.t), websocket.MessageText, raw))
}

// messages reads messages until something else comes.
func (s *rawSocket) messages() (n int, f map[string]json.RawMessage, name string) {
	for {
		if f, name = s.next(); name != "message" {
			return n, f, name
		}
		n++
	}
}

// credential is a voucher for an amount (sat) on the mall's one channel.
func (m *mall) credential(amount uint64, key string) string {
	m.t.Helper()
	mine, err := m.Payer.Records(ctx)
	must(m.t, err)
	id := mine[0].Terms.ID()
	resp, err := http.Get(m.web.URL + "/feed")
	must(m.t, err)
	must(m.t, resp.Body.Close())
	list, err := mpp.ParseChallenges(resp.Header.Values(mpp.HeaderChallenge))
	must(m.t, err)
	mac, err := m.Payer.MACKey(ctx, id)
	must(m.t, err)
	u := m.Update(id, amount)
	raw, err := bitcoin.Seal(bitcoin.Voucher{ChannelID: id, CumulativeAmount: amount, Signature: u.Signature}, mac, list[0].ID, key)
	must(m.t, err)
	return mpp.Credential{Challenge: list[0], Payload: raw}.Encode()
}

// opened gives the mall's payer a channel, with one message bought.
func (m *mall) opened() {
	m.t.Helper()
	s := m.socket("/feed")
	_, _, err := s.Read(within(m.t))
	must(m.t, err)
	must(m.t, s.Close())
	until(m.t, func() bool { return m.wall.Connections() == 0 })
}

// It pauses, and is never broken, until a payment comes: on the same connection or on
// another one. What begins it may come as its first message, without an HTTP field.
func TestSocketPausesForAVoucher(t *testing.T) {
	m := newMall(t, paywall.Price{Msat: 1000, Unit: bitcoin.UnitEvent, Credit: 3000}, sending(t, 1000, websocket.MessageText, 5))
	m.opened()
	_, theirs := m.records()
	paid := channel.CeilSat(theirs.Charged)
	s := m.rawSocket(nil)
	s.send(map[string]string{"mpp": "authorization", "authorization": m.credential(paid, "")})
	if _, name := s.next(); name != "payment-receipt" {
		t.Fatalf("it begins with %s", name)
	}
	for turn := range 4 {
		came := 0
		for need := (bitcoin.NeedVoucher{}); need.RequiredCumulative != paid+3; {
			n, f, name := s.messages()
			if came += n; name == "payment-need-voucher" {
				must(t, need.UnmarshalJSON(f["data"]))
			} else if name != "payment-receipt" {
				t.Fatalf("turn %d: %s %s", turn, name, f["data"])
			}
		}
		if came != 3 {
			t.Fatalf("turn %d: %d messages on a credit of three", turn, came)
		}
		paid += 3
		if turn%2 == 0 {
			s.send(map[string]string{"mpp": "authorization", "authorization": m.credential(paid, "")})
			continue
		}
		req, err := http.NewRequest(http.MethodHead, m.web.URL+"/feed", nil)
		must(t, err)
		req.Header.Set(mpp.HeaderCredential, m.credential(paid, ""))
		resp, err := http.DefaultTransport.RoundTrip(req)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != http.StatusNoContent {
			t.Fatal(resp.Status)
		}
	}
	s.send(map[string]string{"mpp": "payment-close-request"})
	for name := ""; name != "payment-close-ready"; {
		_, _, name = s.messages()
	}
	s.send(map[string]string{"mpp": "authorization", "authorization": m.credential(paid+3, "")})
	if _, name := s.next(); name != "payment-receipt" {
		t.Errorf("the last payment is answered with %s", name)
	}
	if _, after := m.records(); after.Charged > (paid+3)*1000 || after.Paid != paid+3 {
		t.Errorf("charged %d msat, paid %d sat", after.Charged, after.Paid)
	}
}

// A credential begins one connection. Payments that are refused end nothing.
func TestSocketCredentialsAreUsedOnce(t *testing.T) {
	m := newMall(t, paywall.Price{Msat: 1000, Unit: bitcoin.UnitEvent, Credit: 20_000}, sending(t, 3, websocket.MessageText, 5))
	m.opened()
	_, theirs := m.records()
	c := m.credential(channel.CeilSat(theirs.Charged), "")
	s := m.rawSocket(http.Header{mpp.HeaderCredential: {c}})
	if _, name := s.next(); name != "payment-receipt" {
		t.Fatalf("it begins with %s", name)
	}
	_, resp, err := websocket.Dial(within(t), m.web.URL+"/feed", &websocket.DialOptions{HTTPHeader: http.Header{mpp.HeaderCredential: {c}}})
	if err == nil || resp == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a credential that was used: %v", err)
	}
	other := m.rawSocket(nil)
	other.send(map[string]string{"mpp": "authorization", "authorization": c})
	if _, name := other.next(); name != "payment-error" {
		t.Errorf("a credential that was used: %s", name)
	}
	s.send(map[string]string{"mpp": "authorization", "authorization": "Payment e30"})
	if n, _, name := s.messages(); name != "payment-error" && name != "payment-close-ready" || n > 3 {
		t.Errorf("%d messages, then %s", n, name)
	}
	if _, after := m.records(); after.Charged > theirs.Charged+3000 {
		t.Errorf("charged %d msat", after.Charged-theirs.Charged)
	}
}

// What a handler refuses is not charged, and its answer is the client's; what it agrees on
// with the client is passed on.
func TestSocketHandlersAnswer(t *testing.T) {
	m := newMall(t, paywall.PerEvent(1000), func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/chat":
			ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat.2", "chat.1"}})
			if err != nil {
				return
			}
			buyer, _ := paywall.BuyerOf(r.Context())
			_ = ws.Write(r.Context(), websocket.MessageText, []byte(r.Header.Get(mpp.HeaderCredential)+buyer.Channel))
			_ = ws.Close(4321, "enough")
		case "/raw": // a library that writes its head itself
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
			_, err = conn.Write([]byte{0x81, 2, 'h', 'i'})
			_ = errors.Join(err, conn.Close())
		case "/panic":
			panic("a defect")
		default:
			http.Error(w, "not here", http.StatusNotFound)
		}
	})
	s := m.socket("/chat", "chat.1", "chat.2")
	_, p, err := s.Read(within(t))
	must(t, err)
	mine, _ := m.records()
	if s.Subprotocol() != "chat.2" && s.Subprotocol() != "chat.1" || string(p) != mine.Terms.ID() {
		t.Errorf("%q %q", s.Subprotocol(), p)
	}
	var closed websocket.CloseError
	if _, _, err = s.Read(within(t)); !errors.As(err, &closed) || closed.Code != 4321 || closed.Reason != "enough" {
		t.Errorf("got %v", err)
	}
	must(t, s.Close())
	raw := m.socket("/raw")
	if _, p, err := raw.Read(within(t)); err != nil || string(p) != "hi" {
		t.Errorf("%q %v", p, err)
	}
	must(t, raw.Close())
	for path, status := range map[string]int{"/nothing": 404, "/panic": 500} {
		_, err := m.paying.Socket(ctx, m.web.URL+path, nil)
		var refused *paywall.RefusedError
		if path == "/nothing" && (!errors.As(err, &refused) || refused.Status != status) || err == nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	m.settled(2000)
}

// A client that goes away ends the handler; a budget that is used up ends the client.
func TestSocketEnds(t *testing.T) {
	ended := make(chan struct{}, 10)
	m := newMall(t, paywall.PerEvent(1_000_000), func(w http.ResponseWriter, r *http.Request) {
		sending(t, 1000, websocket.MessageBinary, 10)(w, r)
		ended <- struct{}{}
	})
	m.travel(paywall.TransportConfig{MaxPerHost: 3000, Deposit: 40_000})
	s := m.socket("/feed")
	n := 0
	var err error
	for ; err == nil; n++ {
		_, _, err = s.Read(within(t))
	}
	var failed *paywall.PaymentError
	if !errors.As(err, &failed) || !errors.Is(err, channel.ErrBudget) {
		t.Errorf("after %d messages: %v", n, err)
	}
	if err := s.Close(); err != nil && !errors.Is(err, channel.ErrBudget) {
		t.Error(err)
	}
	<-ended
	until(t, func() bool { return m.wall.Connections() == 0 })
	if mine, theirs := m.records(); mine.Signed > 3000 || theirs.Charged > 3_000_000+8_000_000 {
		t.Errorf("signed %d sat, charged %d msat", mine.Signed, theirs.Charged)
	}
}

// The provider's process can stop: its connections end, and what was paid is saved.
func TestSocketProviderStops(t *testing.T) {
	m := newMall(t, paywall.PerEvent(1000), func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		_ = ws.Write(r.Context(), websocket.MessageText, []byte("one"))
		_, _, _ = ws.Read(r.Context()) // until it ends
	})
	s := m.socket("/feed")
	_, _, err := s.Read(within(t))
	must(t, err)
	m.wall.CloseConnections()
	if _, _, err := s.Read(within(t)); err == nil {
		t.Error("it goes on")
	}
	must(t, s.Close())
	until(t, func() bool { return m.wall.Connections() == 0 })
	m.settled(1000)
}
