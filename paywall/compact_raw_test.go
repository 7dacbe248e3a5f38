package paywall_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// rawCompact is a client that writes the frames of docs/protocol.md, section 21, by hand.
type rawCompact struct {
	t       testing.TB
	ws      *websocket.Conn
	nonce   []byte
	pending []byte // of the message that is being read
}

func (s *compactStand) raw(path string) *rawCompact {
	s.T.Helper()
	ws, _, err := websocket.Dial(ctx, s.front.URL+path, &websocket.DialOptions{Subprotocols: []string{"spillway.compact.1"}})
	s.Must(err)
	s.T.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(1 << 20)
	a := &rawCompact{t: s.T, ws: ws}
	kind, body := a.next()
	if kind != 0x41 || len(body) < 20 || body[0] != 1 {
		s.T.Fatalf("a greeting %#x % x", kind, body)
	}
	a.nonce = body[1:17]
	return a
}

// key is what binds are sealed under.
func (a *rawCompact) key() string { return "compact-" + hex.EncodeToString(a.nonce) }

// send sends a frame.
func (a *rawCompact) send(kind byte, body []byte) {
	a.t.Helper()
	if err := a.ws.Write(ctx, websocket.MessageBinary, append(binary.AppendUvarint([]byte{kind}, uint64(len(body))), body...)); err != nil {
		a.t.Fatal(err)
	}
}

// next reads the next frame; kind 0: the connection is over.
func (a *rawCompact) next() (kind byte, body []byte) {
	a.t.Helper()
	if len(a.pending) == 0 {
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_, message, err := a.ws.Read(within)
		if err != nil {
			if within.Err() != nil {
				a.t.Fatal("nothing comes")
			}
			return 0, nil
		}
		a.pending = message
	}
	n, k := binary.Uvarint(a.pending[1:])
	kind, body = a.pending[0], a.pending[1+k:][:n]
	a.pending = a.pending[1+k+int(n):]
	return kind, body
}

func (a *rawCompact) bind(number byte, credential string) {
	a.t.Helper()
	a.send(1, append([]byte{number}, credential...))
}

// problem reads a refusal.
func (a *rawCompact) problem() *mpp.Problem {
	a.t.Helper()
	kind, body := a.next()
	if kind != 0x47 {
		a.t.Fatalf("a frame %#x % x", kind, body)
	}
	_, k := binary.Uvarint(body)
	p, err := mpp.ParseProblem(body[k:])
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

// acked reads the answer to a bind or an update, and returns what is paid, in sat.
func (a *rawCompact) acked() uint64 {
	a.t.Helper()
	kind, body := a.next()
	if kind != 0x42 && kind != 0x43 {
		a.t.Fatalf("a frame %#x %s", kind, body)
	}
	_, k := binary.Uvarint(body)
	paid, _ := binary.Uvarint(body[k:])
	return paid
}

// bound is a raw connection with the stand's channel as number 0.
func (s *compactStand) bound() *rawCompact {
	s.T.Helper()
	a := s.raw("/f.bin")
	a.bind(0, s.Seal(s.Quote("/f.bin").Challenge, s.VoucherFor(s.id, 0), a.key()))
	a.acked()
	return a
}

// updateBody is the body of an update: 80 bytes with everything around it.
func (s *compactStand) updateBody(number byte, amount uint64) []byte {
	u := s.Update(s.id, amount)
	return append(binary.AppendUvarint([]byte{number}, amount), u.Signature...)
}

func (s *compactStand) orderBody(number, order byte, amount uint64, query string) []byte {
	u := s.Update(s.id, amount)
	b := append(binary.AppendUvarint([]byte{number, order}, amount), byte(len(u.Signature)))
	b = append(append(b, u.Signature...), 0, 0)
	return append(b, query...)
}

// An update is about 80 bytes on the wire, everything included.
func TestCompactUpdateIsSmall(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	const webSocket = 6 // head and mask of a short message
	if n := 2 + len(s.updateBody(0, 49_000)) + webSocket; n > 80 {
		t.Errorf("an update takes %d bytes", n)
	}
	a := s.bound()
	a.send(2, s.updateBody(0, 41))
	if paid := a.acked(); paid != 41 || s.record().Paid != 41 {
		t.Errorf("acknowledged are %d sat, saved %d", paid, s.record().Paid)
	}
}

// What is no frame ends the connection with a problem; nothing is charged or taken.
func TestCompactRefusesNonsense(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	sig := make([]byte, 65)
	for name, message := range map[string][]byte{
		"an empty message":      {},
		"an unknown kind":       {9, 0},
		"a server's kind":       {0x43, 4, 0, 1, 1, 1},
		"a number not bound":    append([]byte{2, 67, 3, 5}, sig...),
		"an order not bound":    {3, 70, 3},
		"longer than it is":     {2, 99, 0},
		"a length without end":  {2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"a length written long": append([]byte{2, 0xc3, 0x00, 0, 5}, sig...),
		"an amount over 21M":    append([]byte{2, 74, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, sig...),
		"a short signature":     append([]byte{2, 65, 0, 5}, sig[:63]...),
		"a long signature":      append([]byte{2, 76, 0, 5}, make([]byte, 74)...),
		"a number too high":     append([]byte{1, 5, 0x80, 0x08}, "abc"...),
		"an empty bind":         {1, 1, 0},
		"a query too long":      append(append([]byte{3, 0xca, 4, 0, 1, 5, 65}, sig...), make([]byte, 600)...),
	} {
		a := s.bound()
		if err := a.ws.Write(ctx, websocket.MessageBinary, message); err != nil {
			t.Fatal(err)
		}
		if p := a.problem(); p.Status != http.StatusBadRequest {
			t.Errorf("%s: %v", name, p)
		}
		if kind, body := a.next(); kind != 0 {
			t.Errorf("%s: the connection goes on with %#x %s", name, kind, body)
		}
	}
	for name, send := range map[string]func(*rawCompact) error{
		"text":     func(a *rawCompact) error { return a.ws.Write(ctx, websocket.MessageText, []byte("{}")) },
		"too long": func(a *rawCompact) error { return a.ws.Write(ctx, websocket.MessageBinary, make([]byte, 70<<10)) },
	} {
		a := s.bound()
		if err := send(a); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Logf("%s: %v", name, err)
		}
		for kind, _ := a.next(); kind != 0; kind, _ = a.next() {
			if kind != 0x47 {
				t.Errorf("%s: a frame %#x", name, kind)
			}
		}
	}
	if r := s.record(); r.Charged != 0 || r.Paid != 0 {
		t.Errorf("charged %d msat, paid %d sat", r.Charged, r.Paid)
	}
}

// Orders are answered one after the other; more than sixteen wait nowhere, and the update
// of one that is refused is taken.
func TestCompactOrdersAreBounded(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	a := s.bound()
	var all []byte
	for i := range byte(40) {
		body := s.orderBody(0, i+1, uint64(i+1), "slice=0-9")
		all = append(binary.AppendUvarint(append(all, 3), uint64(len(body))), body...)
	}
	if err := a.ws.Write(ctx, websocket.MessageBinary, all); err != nil {
		t.Fatal(err)
	}
	served, denied := 0, 0
	for served+denied < 40 {
		switch kind, body := a.next(); kind {
		case 0x44:
			if status, _ := binary.Uvarint(body[1:]); status == http.StatusServiceUnavailable {
				denied++
			} else if status == http.StatusOK {
				served++
			} else {
				t.Fatalf("status %d", status)
			}
		case 0:
			t.Fatal("the connection ended")
		}
	}
	if served < 16 || served > 20 {
		t.Errorf("%d served, %d denied", served, denied)
	}
	a.send(2, s.updateBody(0, 41))
	for paid := uint64(0); paid < 41; {
		if kind, body := a.next(); kind == 0x43 {
			paid, _ = binary.Uvarint(body[1:])
		}
	}
	if r := s.record(); r.Charged != 1_000_000 || r.Paid != 41 {
		t.Errorf("charged %d msat, paid %d sat", r.Charged, r.Paid)
	}
}

// A connection that nobody binds, or that nothing comes on, ends; the provider ends all of
// them when it stops.
func TestCompactConnectionsEnd(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Wall.Compact(w, r, paywall.CompactConfig{Idle: 50 * time.Millisecond})
	})
	s.Serve(h)
	a := s.raw("/f.bin")
	a.bind(0, s.Seal(s.challenge, s.VoucherFor(s.id, 0), a.key()))
	a.acked()
	if p := a.problem(); p.Status != http.StatusRequestTimeout {
		t.Errorf("got %v", p)
	}
	if kind, _ := a.next(); kind != 0 {
		t.Error("an idle connection goes on")
	}
	b := s.raw("/f.bin")
	s.Wall.CloseConnections()
	if kind, _ := b.next(); kind != 0 {
		t.Error("a connection outlives its provider")
	}
	until(t, func() bool { return s.Wall.Connections() == 0 })
	s.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Wall.Compact(w, r, paywall.CompactConfig{Max: 3, PerClient: 2})
	}))
	s.raw("/f.bin")
	s.raw("/f.bin")
	_, resp, err := websocket.Dial(ctx, s.front.URL, &websocket.DialOptions{Subprotocols: []string{"spillway.compact.1"}})
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a third connection: %v", err)
	}
}

// until waits for something that comes by itself.
func until(t testing.TB, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it does not come about")
		}
	}
}
