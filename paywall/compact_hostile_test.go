package paywall_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// idle opens a connection of the compact transport by hand and reads its greeting, with
// as little memory of its own as there may be.
func idle(address string) (net.Conn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(conn, "GET /f.bin HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: spillway.compact.1\r\n\r\n")
	r := bufio.NewReaderSize(conn, 16)
	line, err := r.ReadString('\n')
	if err != nil || !strings.Contains(line, " 101 ") {
		return nil, fmt.Errorf("%q %v", line, err)
	}
	for line != "\r\n" && err == nil {
		line, err = r.ReadString('\n')
	}
	if err == nil {
		_, err = r.Peek(2)
	}
	return conn, err
}

// used is what the process holds, in bytes.
func used() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// Thousands of idle connections cost a bounded amount of memory each, hold up nobody, and
// leave nothing behind.
func TestCompactIdleConnections(t *testing.T) {
	const n, most = 2000, 40 << 10 // bytes each, both ends' sockets and goroutines in it
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	s.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if paywall.WantsCompact(r) {
			s.Wall.Compact(w, r, paywall.CompactConfig{Handler: s.Handler(), PerClient: n + 10})
			return
		}
		s.Handler().ServeHTTP(w, r)
	}))
	_, err := s.buy(s.client, 0, "") // what is made once is made
	s.Must(err)
	before := used()
	conns := make([]net.Conn, 0, n)
	address := strings.TrimPrefix(s.front.URL, "http://")
	for range n {
		c, err := idle(address)
		s.Must(err)
		conns = append(conns, c)
	}
	until(t, func() bool { return s.Wall.Connections() >= n })
	each := (used() - before) / n
	t.Logf("%d bytes an idle connection", each)
	if each > most {
		t.Errorf("an idle connection takes %d bytes", each)
	}
	begun := time.Now()
	_, err = s.buy(s.client, 1, "")
	s.Must(err)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("beside them a chunk takes %v", took)
	}
	for _, c := range conns {
		s.Must(c.Close())
	}
	s.client.CloseIdle()
	until(t, func() bool { return s.Wall.Connections() == 0 })
}

// Neither side leaves a goroutine behind, however a connection ends.
func TestCompactLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	for i := range uint64(3) {
		_, err := s.buy(s.client, i, "")
		s.Must(err)
	}
	x, err := s.client.DialCompact(ctx, s.url)
	s.Must(err)
	s.Must(x.Bind(ctx, s.id, s.Quote("/f.bin"), s.Update(s.id, 3000)))
	s.Must(x.Close())
	over, cancel := context.WithCancel(ctx)
	resp, _, err := s.client.Fetch(over, paywall.Paid{Channel: s.id, URL: s.url + "?slice=0-999999", Update: s.Update(s.id, 3000)})
	s.Must(err)
	cancel() // in the middle of an answer
	if err := resp.Body.Close(); err != nil {
		t.Log(err)
	}
	resp, _, err = s.client.Fetch(ctx, paywall.Paid{Channel: s.id, URL: s.url + "?slice=0-999999", Update: s.Update(s.id, 3000)})
	s.Must(err)
	s.Must(resp.Body.Close()) // of which nothing was read
	y := s.bound()
	_ = y.ws.CloseNow()
	s.client.CloseIdle()
	s.Wall.CloseConnections()
	until(t, func() bool { return s.Wall.Connections() == 0 })
	s.front.Close()
	s.Server.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	s.Client.CloseIdle()
}

// Whatever a client sends on a connection that has proved its channel, nothing is charged
// beyond the credit, nothing is taken that was not signed, and the connection ends.
func FuzzCompactServer(f *testing.F) {
	tb := &proxied{TB: f}
	s := newCompactStand(tb, edgetest.Config{}, script.Taproot)
	q := s.challenge
	f.Add([]byte{9, 0})
	body := s.updateBody(0, 7)
	f.Add(append(binary.AppendUvarint([]byte{2}, uint64(len(body))), body...))
	body = s.orderBody(0, 1, 5, "slice=0-9")
	f.Add(append(binary.AppendUvarint([]byte{3}, uint64(len(body))), body...))
	body = append([]byte{1}, "Payment e30"...)
	f.Add(append(binary.AppendUvarint([]byte{1}, uint64(len(body))), body...))
	f.Fuzz(func(t *testing.T, message []byte) {
		tb.now = t
		defer func() { tb.now = nil }()
		ws, _, err := websocket.Dial(ctx, s.url, &websocket.DialOptions{Subprotocols: []string{"spillway.compact.1"}})
		s.Must(err)
		defer func() { _ = ws.CloseNow() }()
		ws.SetReadLimit(1 << 20)
		a := &rawCompact{t: t, ws: ws}
		_, hello := a.next()
		a.nonce = hello[1:17]
		a.bind(0, s.Seal(q, s.VoucherFor(s.id, 0), a.key()))
		a.acked()
		_ = ws.Write(ctx, websocket.MessageBinary, message) // it may have ended
		_ = ws.Write(ctx, websocket.MessageBinary, []byte{9, 0})
		for kind, _ := a.next(); kind != 0; kind, _ = a.next() {
			if kind < 0x41 || kind > 0x47 {
				t.Fatalf("a frame %#x", kind)
			}
		}
		if r := s.record(); r.Charged > r.Paid*1000+1_000_000 || r.Paid > 49_000 || r.Stopped != "" {
			t.Fatalf("charged %d msat, paid %d sat, %q", r.Charged, r.Paid, r.Stopped)
		}
	})
}

// Whatever a provider sends on a connection, a purchase ends, within its time, with bytes
// or an error, and nothing more is signed.
func FuzzCompactClient(f *testing.F) {
	tb := &proxied{TB: f}
	s := newCompactStand(tb, edgetest.Config{}, script.Taproot)
	hello := append([]byte{0x41, 21, 1}, make([]byte, 16)...)
	hello = append(hello, 8, 8, 0x80, 1)
	hello[1] = byte(len(hello) - 2)
	bound := []byte{0x42, 4, 0, 0, 0, 0}
	f.Add(append([]byte{}, hello...), bound, []byte{0x44, 4, 1, 0xc8, 1, 0}, []byte{0x45, 4, 1, 'a', 'b', 'c', 0x46, 3, 1, 0, 0})
	f.Add(hello, bound, []byte{0x44, 11, 1, 0xc8, 1, 1, 0, 0xe8, 7, 1, 1, 0xe8, 7}, []byte{0x46, 3, 1, 1, 0})
	f.Add(hello, []byte{0x47, 3, 1, '{', '}'}, []byte{}, []byte{})
	f.Add(hello, []byte{0x43, 4, 0, 9, 9, 9}, []byte{0x44, 3, 9, 9, 9}, []byte{0x45, 1, 1})
	f.Add(hello, bound, []byte{0x46, 3, 1, 0, 0}, []byte{0x45, 2, 1, 'a'}) // an end without a beginning
	var now [][]byte
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !paywall.WantsCompact(r) {
			s.Handler().ServeHTTP(w, r)
			return
		}
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{paywall.CompactProtocol}})
		if err != nil {
			return
		}
		for i, message := range now {
			if i > 0 { // an answer to something
				if _, _, err := ws.Read(ctx); err != nil && i < 3 {
					break
				}
			}
			if ws.Write(ctx, websocket.MessageBinary, message) != nil {
				break
			}
			if i == 2 && len(now) > 3 {
				_ = ws.Write(ctx, websocket.MessageBinary, now[3])
				break
			}
		}
		_ = ws.CloseNow()
	}))
	f.Cleanup(evil.Close)
	f.Fuzz(func(t *testing.T, one, two, three, four []byte) {
		tb.now = t
		defer func() { tb.now = nil }()
		now = [][]byte{one, two, three, four}
		before, err := s.Payer.Record(ctx, s.id)
		s.Must(err)
		client, err := paywall.NewClient(paywall.ClientConfig{
			Payer: s.Payer, Network: "regtest", Now: s.Now, Compact: true, Stall: 300 * time.Millisecond,
			Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		})
		s.Must(err)
		defer client.CloseIdle()
		begun := time.Now()
		resp, _, err := client.Fetch(ctx, paywall.Paid{Channel: s.id, URL: evil.URL + "/f.bin?slice=0-9", Update: before.Newest()})
		if err == nil {
			_ = resp.Body.Close() // whatever it says
		}
		if took := time.Since(begun); took > 15*time.Second {
			t.Fatalf("it took %v", took)
		}
		after, err := s.Payer.Record(ctx, s.id)
		s.Must(err)
		if after.Signed != before.Signed || after.Owed != before.Owed {
			t.Fatalf("signed %d sat, owed %d msat", after.Signed, after.Owed)
		}
	})
}
