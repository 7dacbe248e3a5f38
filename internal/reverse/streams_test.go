package reverse

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
)

// grpcServer is a real gRPC service with its health service, which sends a trailer.
func grpcServer(t *testing.T) (*url.URL, *health.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if len(md.Get("authorization")) > 0 {
			return nil, status.Error(codes.InvalidArgument, "a payment came through")
		}
		if err := grpc.SetTrailer(ctx, metadata.Pairs("x-key", strings.Join(md.Get("x-api-key"), ","))); err != nil {
			return nil, err
		}
		return handler(ctx, req)
	}))
	h := health.NewServer()
	h.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(s, h)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		must(t, <-ended)
	})
	return &url.URL{Scheme: "h2c", Host: l.Addr().String()}, h
}

// gRPC goes through with its trailers, its errors and its streams, and is paid like
// anything else.
func TestGRPC(t *testing.T) {
	up, h := grpcServer(t)
	m := newMarket(t, Config{
		Default: Rule{Upstream: up, Price: paywall.PerRequest(3000), Set: map[string]string{"X-Api-Key": "injected"}},
		Rules:   []Rule{{Match: "/grpc.health.v1.Health/", Set: map[string]string{"X-Api-Key": "injected"}}, {Match: "POST paid.example/", Price: paywall.PerRequest(3000)}},
	}, nil)
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(m.web.URL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	client := grpc_health_v1.NewHealthClient(conn)
	var trailer metadata.MD
	answer, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&trailer))
	must(t, err)
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING || strings.Join(trailer.Get("x-key"), "") != "injected" {
		t.Fatalf("%v, trailers %v", answer, trailer)
	}
	if _, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "unknown"}); status.Code(err) != codes.NotFound {
		t.Fatalf("%v", err)
	}
	watch, err := client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	must(t, err)
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING} {
		got, err := watch.Recv()
		must(t, err)
		if got.GetStatus() != want {
			t.Fatalf("%v, want %v", got, want)
		}
		h.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	}
	two := &http.Transport{Protocols: new(http.Protocols)}
	two.Protocols.SetUnencryptedHTTP2(true)
	defer two.CloseIdleConnections()
	paying, err := paywall.NewTransport(paywall.TransportConfig{Client: m.client, Hosts: []string{"127.0.0.1:*"}, MaxPerHost: 50_000, Base: two})
	must(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.web.URL+"/grpc.health.v1.Health/Check", bytes.NewReader(make([]byte, 5)))
	must(t, err)
	req.Host = "paid.example"
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := paying.RoundTrip(req)
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK || len(body) < 5 || resp.Trailer.Get("Grpc-Status") != "0" || m.charged() != 3000 {
		t.Fatalf("HTTP/%d %d, %d bytes, trailers %v, %d msat", resp.ProtoMajor, resp.StatusCode, len(body), resp.Trailer, m.charged())
	}
}

// echoes answers each message of a WebSocket with the same.
func echoes(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a payment came through")
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.CloseNow() }() // it may be closed already
		for {
			kind, p, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, p) != nil {
				return
			}
		}
	}
}

// By the message a WebSocket is metered as docs/protocol.md, section 22, has it, and by
// everything else for clients that speak that: each message of the service's is charged
// before it comes, and what came is paid.
func TestMeteredWebSocket(t *testing.T) {
	m := newMarket(t, Config{Rules: []Rule{
		{Match: "/event", Price: paywall.PerEvent(1000)}, {Match: "/request", Price: paywall.PerRequest(5000)},
		{Match: "/byte", Price: paywall.Price{Msat: 1000, Per: 10, Unit: "byte", Credit: 20_000}},
	}}, echoes(t))
	before := uint64(0)
	for path, want := range map[string]uint64{"/event": 40_000, "/request": 5_000, "/byte": 40_000} {
		s, err := m.paying.Socket(t.Context(), m.web.URL+path, nil)
		must(t, err)
		for i := range 40 {
			text := fmt.Sprintf("message %02d", i)
			must(t, s.Write(t.Context(), websocket.MessageText, []byte(text)))
			kind, got, err := s.Read(t.Context())
			if must(t, err); kind != websocket.MessageText || string(got) != text {
				t.Fatalf("%v %q, want %q", kind, got, text)
			}
		}
		must(t, s.Close())
		if got := m.charged() - before; got != want {
			t.Errorf("%s: %d msat are charged, want %d", path, got, want)
		}
		before = m.charged()
	}
	if resp, _ := m.ask("GET", "/event", upgradeFields("Upgrade")...); resp.StatusCode != http.StatusSwitchingProtocols && resp.StatusCode != http.StatusPaymentRequired {
		t.Fatal(resp.StatusCode)
	}
}

// dial opens a WebSocket through the proxy.
func (m *market) dial(path string, by http.RoundTripper) *websocket.Conn {
	m.t.Helper()
	c, _, err := websocket.Dial(m.t.Context(), m.web.URL+path, &websocket.DialOptions{HTTPClient: &http.Client{Transport: by}, CompressionMode: websocket.CompressionDisabled})
	must(m.t, err)
	c.SetReadLimit(1 << 20)
	m.t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// A WebSocket goes through, free or paid by the request, the byte or the second; by the
// byte it pauses while the credit is used up, and goes on with a payment from elsewhere.
func TestWebSocket(t *testing.T) {
	m := newMarket(t, Config{
		Rules: []Rule{
			{Match: "/request", Price: paywall.PerRequest(5000)}, {Match: "/second", Price: paywall.PerSecond(1000)}, {Match: "/event", Price: paywall.PerEvent(1000)},
			{Match: "/byte", Price: paywall.Price{Msat: 1000, Per: 100, Unit: "byte", Credit: 20_000}},
		},
	}, echoes(t))
	exchange := func(c *websocket.Conn, n int) {
		t.Helper()
		sent := bytes.Repeat([]byte("x"), n)
		must(t, c.Write(t.Context(), websocket.MessageBinary, sent))
		_, got, err := c.Read(t.Context())
		must(t, err)
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes of %d", len(got), n)
		}
	}
	exchange(m.dial("/free", http.DefaultTransport), 1000)
	if resp, _ := m.ask("GET", "/request", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="); resp.StatusCode != http.StatusPaymentRequired {
		t.Fatal(resp.StatusCode)
	}
	exchange(m.dial("/request", m.paying), 1000)
	if m.charged() != 5000 {
		t.Fatalf("%d msat by the request", m.charged())
	}
	id := m.channel()
	m.voucher(id, "/request", 5000)
	c := m.dial("/byte", m.paying)
	done := make(chan error, 1)
	go func() {
		err := c.Write(t.Context(), websocket.MessageBinary, make([]byte, 10_000))
		if err == nil {
			_, _, err = c.Read(t.Context())
		}
		done <- err
	}()
	m.paused(done)
	if over := m.charged() - 5000; over > 20_000 {
		t.Fatalf("%d msat are lent, 20,000 were to be", over)
	}
	m.voucher(id, "/byte", 101_000) // what the message and its frames cost
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("a payment did not wake the connection")
	}
	if n := m.charged() - 5000; n < 100_000 || n > 101_000 {
		t.Fatalf("%d msat for 10,000 bytes", n)
	}
	before := m.charged()
	exchange(m.dial("/second", m.paying), 10)
	if n := m.charged() - before; n < 1000 {
		t.Fatalf("%d msat by the second", n)
	}
}

// channel is the one channel's id.
func (m *market) channel() string {
	m.t.Helper()
	records, err := m.Payer.Records(m.t.Context())
	must(m.t, err)
	if len(records) != 1 {
		m.t.Fatalf("%d channels", len(records))
	}
	return records[0].Terms.ID()
}

// voucher pays msat by itself.
func (m *market) voucher(id, path string, msat uint64) {
	m.t.Helper()
	u, err := m.Payer.Pay(m.t.Context(), id, payer.Payment{Verified: msat}, channel.Limits{Budget: channel.MaxSat})
	must(m.t, err)
	_, err = m.client.Voucher(m.t.Context(), paywall.Paid{Channel: id, URL: m.web.URL + path, Update: u})
	must(m.t, err)
}

// paused waits until nothing more is charged without a payment.
func (m *market) paused(done <-chan error) {
	m.t.Helper()
	last, same := m.charged(), 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for same < 10 {
		select {
		case err := <-done:
			m.t.Fatalf("it did not pause: %v", err)
		case <-tick.C:
		}
		if now := m.charged(); now == last {
			same++
		} else {
			last, same = now, 0
		}
	}
}

// An https upstream is verified with the certificates that it is to have, and asked over
// HTTP/2 where it offers that; one that nobody vouches for is not asked.
func TestUpstreamOverTLS(t *testing.T) {
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-End")
		if _, err := io.WriteString(w, r.Proto); err != nil {
			t.Error(err)
		}
		w.Header().Set("X-End", "yes")
	}))
	up.EnableHTTP2 = true
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	up.StartTLS()
	t.Cleanup(up.Close)
	roots := x509.NewCertPool()
	roots.AddCert(up.Certificate())
	for _, c := range []struct {
		roots  *x509.CertPool
		status int
		says   string
	}{{roots, http.StatusOK, "HTTP/2.0"}, {x509.NewCertPool(), http.StatusBadGateway, ""}} {
		m := newMarket(t, Config{Default: Rule{Upstream: parse(t, up.URL)}, RootCAs: c.roots}, nil)
		resp, body := m.ask("GET", "/")
		if resp.StatusCode != c.status || c.says != "" && (body != c.says || resp.Trailer.Get("X-End") != "yes") {
			t.Errorf("%d %q, trailers %v", resp.StatusCode, body, resp.Trailer)
		}
	}
}
