package reverse

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/paywall"
)

// stall is a service behind a proxy, and a payer with a transport.
type market struct {
	*pairtest.Pair
	t      *testing.T
	web    *httptest.Server // the proxy
	proxy  *Proxy
	client *paywall.Client
	paying *paywall.Transport

	mu   sync.Mutex
	seen []*http.Request // what the upstream got
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newMarket puts a proxy before a handler.
func newMarket(t *testing.T, cfg Config, handler http.HandlerFunc) *market {
	t.Helper()
	m := &market{Pair: pairtest.New(t), t: t}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.seen = append(m.seen, r)
		m.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(up.Close)
	u, err := url.Parse(up.URL)
	must(t, err)
	if cfg.Default.Upstream == nil {
		cfg.Default.Upstream = u
	}
	m.open(cfg)
	return m
}

// open starts the proxy and the payer's side.
func (m *market) open(cfg Config) {
	m.t.Helper()
	secret, err := m.PayeeKeys.ChallengeSecret(0)
	must(m.t, err)
	cfg.Wall, err = paywall.NewServer(paywall.ServerConfig{
		Payee: m.Payee, Network: "regtest", Secret: secret, Realm: "market", Recipient: strings.Repeat("ab", 32), Now: m.Now,
	})
	must(m.t, err)
	m.proxy, err = New(cfg)
	must(m.t, err)
	m.web = httptest.NewUnstartedServer(m.proxy)
	m.web.Config = Server(m.proxy, nil)
	m.web.Start()
	m.t.Cleanup(func() {
		m.proxy.Close()
		m.web.CloseClientConnections()
		m.web.Close()
	})
	m.client, err = paywall.NewClient(paywall.ClientConfig{
		Payer: m.Payer, Network: "regtest", Now: m.Now,
		Sleep: func(ctx context.Context, _ time.Duration) error {
			_, err := m.Chain.Mine(1)
			return errors.Join(err, ctx.Err())
		},
	})
	must(m.t, err)
	m.paying, err = paywall.NewTransport(paywall.TransportConfig{Client: m.client, Hosts: []string{"127.0.0.1:*"}, MaxPerHost: 50_000})
	must(m.t, err)
}

// ask sends a request, unpaid, and returns the whole answer.
func (m *market) ask(method, path string, header ...string) (*http.Response, string) {
	m.t.Helper()
	return m.by(http.DefaultTransport, method, path, header...)
}

// pay sends a request that is paid.
func (m *market) pay(method, path string, header ...string) (*http.Response, string) {
	m.t.Helper()
	return m.by(m.paying, method, path, header...)
}

func (m *market) by(through http.RoundTripper, method, path string, header ...string) (*http.Response, string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.web.URL+path, nil)
	must(m.t, err)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := through.RoundTrip(req)
	must(m.t, err)
	body, err := io.ReadAll(resp.Body)
	must(m.t, errors.Join(err, resp.Body.Close()))
	return resp, string(body)
}

// last is the newest request that the upstream got; nil: it got none since.
func (m *market) last() *http.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.seen) == 0 {
		return nil
	}
	r := m.seen[len(m.seen)-1]
	m.seen = nil
	return r
}

// charged is what was charged in all, in msat.
func (m *market) charged() (msat uint64) {
	m.t.Helper()
	records, err := m.Payee.Records(m.t.Context())
	must(m.t, err)
	for _, r := range records {
		msat += r.Charged
	}
	return msat
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	must(t, err)
	return u
}

// Prices, upstreams and fields go by host, method and path, however these are written.
func TestRulesByHostMethodAndPath(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.WriteString(w, "other "+r.URL.Path+" "+r.Header.Get("X-Api-Key")+" "+r.Host); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(other.Close)
	m := newMarket(t, Config{
		Default: Rule{Price: paywall.PerRequest(2000), Set: map[string]string{"X-Api-Key": "default"}, Remove: []string{"Cookie"}},
		Rules: []Rule{
			{Match: "GET /health"},
			{Match: "/free/"},
			{Match: "API.example/v1/", Upstream: parse(t, other.URL+"/base"), Set: map[string]string{"X-Api-Key": "secret"}, KeepHost: true},
		},
	}, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.WriteString(w, "here "+r.URL.Path+" "+r.Header.Get("X-Api-Key")+r.Header.Get("Cookie")); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		method, path, host string
		status             int
		says               string
	}{
		{"GET", "/", "", 402, ""},
		{"GET", "/health", "", 200, "here /health minea=b"},
		{"POST", "/health", "", 402, ""},
		{"GET", "/free/a", "", 200, "here /free/a minea=b"},
		{"GET", "/free/../paid", "", 402, ""},
		{"GET", "/free/%2e%2e/paid", "", 402, ""},
		{"GET", "/./free/./a", "", 200, "here /free/a minea=b"},
		{"GET", "/free/..%2fpaid", "", 400, ""},
		{"GET", "/free/%5c..%5cpaid", "", 400, ""},
		{"GET", "/free/..;x/paid", "", 400, ""},
		{"GET", "/free/a%0d%0ab", "", 400, ""},
		{"GET", "/v1/x", "", 402, ""},
		{"GET", "/v1/x", "api.example", 200, "other /base/v1/x secret api.example"},
		{"GET", "/v1/x", "API.EXAMPLE:443", 200, "other /base/v1/x secret api.example:443"},
		{"GET", "/v1/x", "api.example.", 200, "other /base/v1/x secret api.example"},
		{"TRACE", "/health", "", 405, ""},
	} {
		header := []string{"X-Api-Key", "mine", "Cookie", "a=b"}
		if c.host != "" {
			header = append(header, "Host", c.host)
		}
		if resp, body := m.ask(c.method, c.path, header...); resp.StatusCode != c.status || c.says != "" && body != c.says {
			t.Errorf("%s %s%s: %d %q, want %d %q", c.method, c.host, c.path, resp.StatusCode, body, c.status, c.says)
		}
	}
	if resp, body := m.pay("GET", "/paid", "X-Api-Key", "mine", "Cookie", "a=b"); resp.StatusCode != http.StatusOK || body != "here /paid default" || m.charged() != 2000 {
		t.Fatalf("%d %q, %d msat", resp.StatusCode, body, m.charged())
	}
	if resp, body := m.pay("GET", "/paid", "X_Api_Key", "mine"); resp.StatusCode != http.StatusOK || body != "here /paid default" || m.last().Header.Get("X_Api_Key") != "" {
		t.Fatalf("%d %q: a field that folds into one that is set went on", resp.StatusCode, body)
	}
	if resp, _ := m.ask("GET", "/free/a", "X-Token", "1", "X_Token", "2"); resp.StatusCode != http.StatusBadRequest {
		t.Fatalf("%d: two fields that fold into one", resp.StatusCode)
	}
}

// No credential and no claim of a client about itself reaches the service, and nothing
// that the service says of payments reaches the client.
func TestNothingOfAPaymentReachesTheService(t *testing.T) {
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerRequest(1000)}, Rules: []Rule{{Match: "/free/"}}}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Payment-Receipt", "forged")
		w.Header().Add("WWW-Authenticate", `Payment id="forged"`)
		w.Header().Add("WWW-Authenticate", "Basic realm=x")
		w.WriteHeader(http.StatusUnauthorized)
	})
	claims := []string{
		"X-Forwarded-For", "6.6.6.6", "X-Forwarded-Host", "evil.example", "X-Forwarded-Prefix", "/x", "Forwarded", "for=6.6.6.6", "X-Real-Ip", "6.6.6.6",
		"X-Original-Url", "/admin", "X-Rewrite-Url", "/admin", "X-Http-Method-Override", "DELETE", "X-Accel-Redirect", "/x", "Accept-Payment", "*", "X_Client_Ip", "6.6.6.6",
		"Connection", "X-Forwarded-For, X-Keep", "X-Keep", "1", "Via", "1.0 front",
	}
	for _, c := range []struct {
		path string
		by   func(method, path string, header ...string) (*http.Response, string)
	}{{"/free/x", m.ask}, {"/paid", m.pay}} {
		resp, _ := c.by("GET", c.path, claims...)
		r := m.last()
		if r == nil || resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%s: %d, the upstream got %v", c.path, resp.StatusCode, r)
		}
		for name, values := range r.Header {
			if text := strings.Join(values, ","); strings.Contains(text, "6.6.6.6") || strings.Contains(text, "evil") || strings.Contains(text, "admin") || strings.HasPrefix(strings.ToLower(text), "payment") {
				t.Errorf("%s: the upstream got %s: %s", c.path, name, text)
			}
		}
		for _, name := range []string{"Authorization", "Payment-Authorization", "Accept-Payment", "X-Keep", "X-Http-Method-Override", "X-Forwarded-Prefix", "X-Accel-Redirect"} {
			if r.Header.Get(name) != "" {
				t.Errorf("%s: the upstream got %s", c.path, name)
			}
		}
		if r.Header.Get("X-Forwarded-For") != "127.0.0.1" || r.Header.Get("X-Forwarded-Proto") != "http" || strings.Join(r.Header.Values("Via"), ", ") != "1.0 front, 1.1 spillway" {
			t.Errorf("%s: %v", c.path, r.Header)
		}
		if resp.Header.Get("Payment-Receipt") != "" || strings.Join(resp.Header.Values("WWW-Authenticate"), ",") != "Basic realm=x" {
			t.Errorf("%s: the client got %v", c.path, resp.Header)
		}
	}
	if m.charged() != 0 {
		t.Errorf("%d msat for refusals", m.charged())
	}
	m.ask("GET", "/free/x", "Authorization", "Payment e30")
	if r := m.last(); r == nil || r.Header.Get("Authorization") != "" {
		t.Errorf("a credential on a free path went on: %v", r)
	}
	m.ask("GET", "/free/x", "Authorization", "Basic bWU6aXQ=")
	if r := m.last(); r == nil || r.Header.Get("Authorization") == "" {
		t.Errorf("the service's own credential did not go on: %v", r)
	}
}

// Ranges, entity tags and what may be cached are the service's, through both kinds of
// path; what is paid is private, what is not changed is not charged.
func TestRangesTagsAndCaches(t *testing.T) {
	data := strings.Repeat("0123456789", 1000)
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerByte(1000, 100)}, Rules: []Rule{{Match: "/free/"}}}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.Header().Set("Vary", "Accept-Encoding")
		http.ServeContent(w, r, "x.txt", time.Unix(1_600_000_000, 0), strings.NewReader(data))
	})
	for _, path := range []string{"/free/x", "/paid"} {
		by := m.ask
		if path == "/paid" {
			by = m.pay
		}
		before := m.charged()
		resp, body := by("GET", path, "Range", "bytes=100-299")
		if resp.StatusCode != http.StatusPartialContent || body != data[100:300] || resp.Header.Get("Content-Range") != "bytes 100-299/10000" || resp.Header.Get("ETag") != `"v1"` || resp.Header.Get("Accept-Ranges") != "bytes" || resp.Header.Get("Last-Modified") == "" {
			t.Errorf("%s: %d, %d bytes, %v", path, resp.StatusCode, len(body), resp.Header)
		}
		if path == "/paid" && (m.charged()-before != 2000 || resp.Header.Get("Cache-Control") != "private") {
			t.Errorf("%d msat for 200 bytes, %v", m.charged()-before, resp.Header)
		}
		if path != "/paid" && resp.Header.Get("Cache-Control") != "public, max-age=60" {
			t.Errorf("%v", resp.Header)
		}
		before = m.charged()
		if resp, body := by("GET", path, "If-None-Match", `"v1"`); resp.StatusCode != http.StatusNotModified || body != "" || m.charged() != before {
			t.Errorf("%s: %d %q, %d msat more", path, resp.StatusCode, body, m.charged()-before)
		}
		if resp, body := by("GET", path, "Range", "bytes=0-9", "If-Range", `"v0"`); resp.StatusCode != http.StatusOK || body != data {
			t.Errorf("%s: %d, %d bytes: the range is of another version", path, resp.StatusCode, len(body))
		}
		if resp, _ := by("GET", path, "Range", "bytes=99999-"); resp.StatusCode != http.StatusRequestedRangeNotSatisfiable {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if resp, _ := m.ask("GET", "/paid"); resp.StatusCode != http.StatusPaymentRequired || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// Where the service is away, slow or breaks off nothing is charged that did not come.
func TestAServiceThatFails(t *testing.T) {
	release := make(chan struct{})
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerRequest(1000)}, FirstByte: 50 * time.Millisecond, Rules: []Rule{{Match: "/away", Price: paywall.PerRequest(1000), Upstream: parse(t, "http://127.0.0.1:1")}}},
		func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-release
			}
		})
	t.Cleanup(func() { close(release) })
	for path, status := range map[string]int{"/away": http.StatusBadGateway, "/slow": http.StatusGatewayTimeout} {
		if resp, body := m.pay("GET", path); resp.StatusCode != status || !strings.Contains(body, "nothing was charged") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	if m.charged() != 0 {
		t.Errorf("%d msat", m.charged())
	}
}

// A provider that stops takes what pays, and begins nothing.
func TestDrainTakesPayments(t *testing.T) {
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerRequest(1000)}}, func(w http.ResponseWriter, _ *http.Request) {
		if _, err := io.WriteString(w, "ok"); err != nil {
			t.Error(err)
		}
	})
	if resp, _ := m.pay("GET", "/"); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.StatusCode)
	}
	must(t, m.proxy.Drain(t.Context()))
	if resp, _ := m.ask("GET", "/"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	must(t, m.paying.Close(t.Context()))
	records, err := m.Payee.Records(t.Context())
	must(t, err)
	if len(records) != 1 || records[0].Phase != channel.Closing || records[0].Owed() != 0 {
		t.Fatalf("%+v", records)
	}
}

// Rules that contradict each other, and upstreams that cannot be, are refused.
func TestBadRules(t *testing.T) {
	good := parse(t, "http://127.0.0.1:1")
	for name, cfg := range map[string]Config{
		"no upstream":   {},
		"another proto": {Default: Rule{Upstream: parse(t, "ftp://h")}},
		"user":          {Default: Rule{Upstream: parse(t, "http://u:p@h")}},
		"pattern":       {Default: Rule{Upstream: good}, Rules: []Rule{{Match: "no path"}}},
		"twice":         {Default: Rule{Upstream: good}, Rules: []Rule{{Match: "H/x"}, {Match: "h/x"}}},
		"crossing":      {Default: Rule{Upstream: good}, Rules: []Rule{{Match: "/a/{x}/c"}, {Match: "/a/b/{y}"}}},
		"rule upstream": {Default: Rule{Upstream: good}, Rules: []Rule{{Match: "/x", Upstream: parse(t, "http://h/?q")}}},
	} {
		if err := Check(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
