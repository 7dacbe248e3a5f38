package paywall_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// guarded serves a mall's handler as a provider that anybody can reach would.
func (m *mall) guarded(tune func(*http.Server, *paywall.Connections)) (addr string, all *paywall.Connections) {
	m.t.Helper()
	server, all := paywall.HTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		h := m.handler
		m.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	if tune != nil {
		tune(server, all)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(m.t, err)
	done := make(chan error, 1)
	go func() { done <- server.Serve(all.Listen(l)) }()
	m.t.Cleanup(func() {
		must(m.t, server.Close())
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			m.t.Error(err)
		}
	})
	return l.Addr().String(), all
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c
}

// gone reads until the other side ends a connection, and returns what came.
func gone(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Fatal("the connection is held")
	}
	return string(b)
}

// TestPitfall41_Middleware: slow headers, endless headers and bodies, and credentials
// that are too large or come twice are each bounded, and nothing is charged for them.
func TestPitfall41_Middleware(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{Price: paywall.PerRequest(1_000), MaxBody: 10_000, Stall: 300 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			fmt.Fprint(w, "read")
		}
	})
	m.get("/paid")
	paid := m.net.seen[len(m.net.seen)-1].Header
	addr, _ := m.guarded(func(s *http.Server, _ *paywall.Connections) { s.ReadHeaderTimeout = 300 * time.Millisecond })
	head := "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
	credential := mpp.HeaderCredential + ": " + paid.Get(mpp.HeaderCredential) + "\r\n"
	for name, c := range map[string]struct {
		send  string
		again string // sent for ever
		want  string // the beginning of the answer
	}{
		"slow header":          {"GET / HTTP/1.1\r\nHost:", "", ""},
		"endless header":       {"GET / HTTP/1.1\r\nHost: x\r\n", "X-More: " + strings.Repeat("x", 4000) + "\r\n", "HTTP/1.1 431"},
		"endless body, unpaid": {head + "\r\n", "400\r\n" + strings.Repeat("x", 1024) + "\r\n", "HTTP/1.1 402"},
		"slow body, paid":      {head + credential + "\r\n5\r\nhello\r\n", "", "HTTP/1.1 400"},
		"large credential":     {"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + mpp.HeaderCredential + ": Payment " + strings.Repeat("e", 70_000) + "\r\n\r\n", "", "HTTP/1.1 400"},
		"two credentials":      {"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + credential + credential + "\r\n", "", "HTTP/1.1 400"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, addr)
			_, err := io.WriteString(conn, c.send)
			must(t, err)
			if c.again != "" {
				go func() {
					for err := error(nil); err == nil; {
						_, err = io.WriteString(conn, c.again)
					}
				}()
			}
			if got := gone(t, conn); !strings.HasPrefix(got, c.want) {
				t.Errorf("%.200q", got)
			}
		})
	}
	if m.runs.Load() != 1 {
		t.Errorf("the handler ran %d times", m.runs.Load())
	}
	m.settled(1_000)
}

// A client that takes nothing of what it buys is left after a while, and has been charged
// what the connection was given.
func TestClientThatTakesNothing(t *testing.T) {
	left := make(chan error, 1)
	m := newMallWith(t, paywall.MiddlewareConfig{Price: paywall.Price{Msat: 1, Per: 10_000, Unit: "byte", Credit: 10_000_000}, Stall: 300 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/small" {
			echo(w, r)
			return
		}
		for err := error(nil); err == nil; {
			if _, err = w.Write(make([]byte, 1<<20)); err != nil {
				left <- err
			}
		}
	})
	m.get("/small")
	req, err := http.NewRequest(http.MethodGet, m.web.URL+"/endless", nil)
	must(t, err)
	resp, err := m.http().Do(req)
	must(t, err)
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Fatal("it is waited for")
	}
	must(t, resp.Body.Close())
}

// Those that only hold connections keep nobody out: there are never more than are wanted,
// and one that asks for something finds room.
func TestIdleConnectionsGiveWay(t *testing.T) {
	m := newMall(t, paywall.PerRequest(1_000), echo)
	addr, all := m.guarded(func(_ *http.Server, c *paywall.Connections) { c.Most, c.PerClient = 300, 250 })
	m.web.URL = "http://" + addr
	m.get("/first")
	for range 2_000 {
		c, err := net.Dial("tcp", addr)
		must(t, err)
		defer func() { _ = c.Close() }()
		if n := all.Held(); n > 300 {
			t.Fatalf("%d connections are held", n)
		}
	}
	for i := range 20 {
		m.get(fmt.Sprint("/", i))
	}
	m.settled(21_000)
}

// TestPitfall41_RapidReset: streams of HTTP/2 that are begun and reset as fast as can be
// are bounded in what they take, and others are served meanwhile.
func TestPitfall41_RapidReset(t *testing.T) {
	var most, running atomic.Int64
	m := newMallWith(t, paywall.MiddlewareConfig{Price: paywall.PerRequest(1_000), Unpaid: paywall.Limit{PerSecond: -1}}, echo)
	server, _ := paywall.HTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		m.handler.ServeHTTP(w, r)
	}))
	web := httptest.NewUnstartedServer(nil)
	web.Config, web.EnableHTTP2 = server, true
	web.StartTLS()
	defer web.Close()
	before := runtime.NumGoroutine()
	conn, err := tls.Dial("tcp", web.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	must(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, http2.ClientPreface)
	must(t, err)
	frames := http2.NewFramer(conn, bufio.NewReader(conn))
	must(t, frames.WriteSettings())
	ended := make(chan error, 1)
	go func() { // what the server says is taken, so that it is not held up by us
		for {
			f, err := frames.ReadFrame()
			if away, ok := f.(*http2.GoAwayFrame); ok {
				err = fmt.Errorf("it ends: %v", away.ErrCode)
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/x"}, {":authority", "x"}} {
		must(t, fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	header := bytes.Clone(block.Bytes())
	sent := 0
	for id := uint32(1); id < 40_001; id += 2 {
		err := frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: header, EndStream: true, EndHeaders: true})
		if err == nil {
			err = frames.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			break // it was ended by the server: that is a bound too
		}
		sent++
	}
	if grown := runtime.NumGoroutine() - before; most.Load() > 64 || grown > 400 {
		t.Errorf("%d handlers ran at once, %d goroutines more, after %d resets", most.Load(), grown, sent)
	}
	m.get("/paid")
	m.settled(1_000)
}

// A credential that was seen is worth nothing but a repeat of its own request, and with
// any byte changed not even that.
func TestReplayedAndMutatedCredentials(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{Price: paywall.PerRequest(1_000), Unpaid: paywall.Limit{PerSecond: -1}}, echo)
	m.get("/a")
	m.get("/b")
	seen := m.net.seen[len(m.net.seen)-1]
	_, before := m.records()
	send := func(method, path string, change func(http.Header)) int {
		req, err := http.NewRequest(method, m.web.URL+path, nil)
		must(t, err)
		req.Header = seen.Header.Clone()
		change(req.Header)
		resp, err := http.DefaultTransport.RoundTrip(req)
		must(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		return resp.StatusCode
	}
	same := func(http.Header) {}
	for range 5 {
		if got := send("GET", "/b", same); got != http.StatusOK {
			t.Errorf("a repeat: %d", got)
		}
	}
	for path, change := range map[string]func(http.Header){
		"/c": same, "/b?x": same, "/b": func(h http.Header) { h.Set("Range", "bytes=0-1") },
		"/a": func(h http.Header) { h.Set(mpp.HeaderIdempotencyKey, "another") }, "/b/": func(h http.Header) { h.Del(mpp.HeaderIdempotencyKey) },
	} {
		if got := send("GET", path, change); got < 400 {
			t.Errorf("%s: %d", path, got)
		}
	}
	credential := seen.Header.Get(mpp.HeaderCredential)
	for i := len("Payment "); i < len(credential); i += 3 {
		for _, flip := range []byte{1, 0x20} {
			b := []byte(credential)
			if b[i] ^= flip; b[i] < '!' || b[i] > '~' {
				continue
			}
			got := send("GET", "/b", func(h http.Header) { h.Set(mpp.HeaderCredential, string(b)) })
			if got < 400 {
				t.Errorf("byte %d: %d", i, got)
			}
		}
	}
	if _, after := m.records(); after.Charged != before.Charged || after.Paid < before.Paid || m.runs.Load() != 2 {
		t.Errorf("charged are %d msat after %d, the handler ran %d times", after.Charged, before.Charged, m.runs.Load())
	}
	m.settled(2_000)
}
