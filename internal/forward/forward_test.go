package forward

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/paywall"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// toll is an https service that charges 2 sat a request, and a pay-proxy.
type toll struct {
	*pairtest.Pair
	t       *testing.T
	service *httptest.Server
	proxy   *Proxy
	web     *httptest.Server // the pay-proxy
	budgets *Budgets
}

func newToll(t *testing.T, change func(*Config)) *toll {
	t.Helper()
	x := &toll{Pair: pairtest.New(t), t: t}
	secret, err := x.PayeeKeys.ChallengeSecret(0)
	must(t, err)
	wall, err := paywall.NewServer(paywall.ServerConfig{
		Payee: x.Payee, Network: "regtest", Secret: secret, Realm: "toll", Recipient: strings.Repeat("ab", 32), Now: x.Now,
	})
	must(t, err)
	charge, err := paywall.NewMiddleware(paywall.MiddlewareConfig{Server: wall, Price: paywall.PerRequest(2000), Rules: map[string]paywall.Price{"/free/": {}}})
	must(t, err)
	x.service = httptest.NewTLSServer(charge(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/paid?moved", http.StatusFound)
			return
		}
		if r.URL.Path == "/free/elsewhere" {
			w.Header().Set("Location", "http://other.example/x?y")
			w.WriteHeader(http.StatusFound)
			return
		}
		if _, err := fmt.Fprintf(w, "%s %s", r.Method, r.URL); err != nil {
			t.Error(err)
		}
	})))
	t.Cleanup(x.service.Close)
	roots := x509.NewCertPool()
	roots.AddCert(x.service.Certificate())
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	client, err := paywall.NewClient(paywall.ClientConfig{
		HTTP: &http.Client{Transport: base}, Payer: x.Payer, Network: "regtest", Now: x.Now,
		Sleep: func(ctx context.Context, _ time.Duration) error {
			_, err := x.Chain.Mine(1)
			return errors.Join(err, ctx.Err())
		},
	})
	must(t, err)
	buyer, err := download.New(download.Config{Client: client, Payer: x.Payer, Store: x.PayerDisk, Chain: x.Chain, Network: "regtest", Policy: x.Policy})
	must(t, err)
	x.budgets, err = NewBudgets(20_000, []Allow{{Host: "127.0.0.1:*", Budget: 5_000}}, nil, nil)
	must(t, err)
	cfg := Config{Client: client, Buyer: buyer, Budgets: x.budgets, Cache: t.TempDir(), Base: base, Users: []uint32{uint32(os.Getuid())}}
	if change != nil {
		change(&cfg)
	}
	x.proxy, err = New(cfg)
	must(t, err)
	x.web = httptest.NewUnstartedServer(x.proxy)
	x.web.Config.ConnContext = Conn
	x.web.Start()
	t.Cleanup(x.web.Close)
	t.Cleanup(func() { must(t, x.proxy.Close(context.Background(), true)) })
	return x
}

// at asks the proxy like a server.
func (x *toll) at(method, path string, header ...string) (*http.Response, string) {
	x.t.Helper()
	req, err := http.NewRequestWithContext(x.t.Context(), method, x.web.URL+path, nil)
	must(x.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	must(x.t, err)
	body, err := io.ReadAll(resp.Body)
	must(x.t, errors.Join(err, resp.Body.Close()))
	return resp, string(body)
}

// signed is what was signed in all, in sat.
func (x *toll) signed() (sat uint64) {
	x.t.Helper()
	records, err := x.Payer.Records(x.t.Context())
	must(x.t, err)
	for _, r := range records {
		sat += r.Signed
	}
	return sat
}

// An https service is paid when it is asked for at the proxy; its redirects stay there.
func TestAskedLikeAServer(t *testing.T) {
	x := newToll(t, nil)
	host := strings.TrimPrefix(x.service.URL, "https://")
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/https/" + host + "/paid?a=b&c", 200, "GET /paid?a=b&c"},
		{"POST", "/https/" + host + "/paid", 200, "POST /paid"},
		{"GET", "/https/" + host, 200, "GET /"},
		{"GET", "/https/" + host + "/a%20b//c", 200, "GET /a%20b//c"},
		{"GET", "/https/" + host + "/x/../free/y", 200, "GET /free/y"},
		{"HEAD", "/https/" + host + "/paid", 402, ""},
		{"GET", "/ftp/" + host + "/paid", 400, ""},
		{"GET", "/https/", 400, ""},
		{"GET", "/https/u:p@" + host + "/", 400, ""},
		{"GET", "/http/" + strings.TrimPrefix(x.web.URL, "http://") + "/http/x/", 508, ""},
		{"GET", "/https/127.0.0.1:1/", 502, ""},
	} {
		if resp, body := x.at(c.method, c.path); resp.StatusCode != c.status || c.says != "" && body != c.says {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, resp.StatusCode, body, c.status, c.says)
		}
	}
	if n := x.signed(); n != 8 {
		t.Errorf("%d sat for four requests of 2", n)
	}
	if resp, _ := x.at("GET", "/https/"+host+"/free/elsewhere"); resp.Header.Get("Location") != "/http/other.example/x?y" {
		t.Errorf("%v", resp.Header)
	}
	if resp, _ := x.at("GET", "/https/"+host+"/away"); resp.Header.Get("Location") != "/https/"+host+"/paid?moved" {
		t.Errorf("%v", resp.Header)
	}
	resp, body := x.at("GET", "/")
	var s Status
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.Budget != 20_000 || resp.StatusCode != http.StatusOK {
		t.Errorf("%s (%v)", body, err)
	}
}

// A request that came through this proxy already is not sent on.
func TestLoopsEnd(t *testing.T) {
	x := newToll(t, nil)
	if resp, _ := x.at("GET", "/http/other.example/", "Via", "1.1 front, 1.1 "+x.proxy.name); resp.StatusCode != http.StatusLoopDetected {
		t.Fatal(resp.StatusCode)
	}
}

// through is a client that uses the proxy for everything; https goes by CONNECT.
func (x *toll) through(roots *x509.CertPool) *http.Client {
	u, err := url.Parse(x.web.URL)
	must(x.t, err)
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: &tls.Config{RootCAs: roots}}}
}

// What goes through a tunnel is not paid here, and not seen.
func TestTunnelsAreNotPaid(t *testing.T) {
	x := newToll(t, nil)
	roots := x509.NewCertPool()
	roots.AddCert(x.service.Certificate())
	client := x.through(roots)
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{"/free/x": 200, "/paid": 402} {
		resp, err := client.Get(x.service.URL + path)
		must(t, err)
		if must(t, resp.Body.Close()); resp.StatusCode != want || resp.Header.Get("Proxy-Status") != "" {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if x.signed() != 0 {
		t.Errorf("%d sat", x.signed())
	}
}

// With a CA of the user's own, programs that trust it have https of allowed hosts paid;
// others go through a tunnel as they are.
func TestOwnAuthorityAnswersForAllowedHosts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca, err := OpenCA(dir)
	must(t, err)
	again, err := OpenCA(dir)
	must(t, err)
	if !again.cert.Equal(ca.cert) {
		t.Fatal("another one was made")
	}
	x := newToll(t, func(c *Config) { c.CA = again })
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	client := x.through(roots)
	defer client.CloseIdleConnections()
	for range 2 {
		resp, err := client.Get(x.service.URL + "/paid?x")
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != http.StatusOK || string(body) != "GET /paid?x" {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	if x.signed() != 4 {
		t.Errorf("%d sat for two requests of 2", x.signed())
	}
	if x.budgets, err = NewBudgets(20_000, []Allow{{Host: "other.example"}}, nil, nil); err != nil {
		t.Fatal(err)
	}
	x.proxy.cfg.Budgets = x.budgets
	own := x509.NewCertPool()
	own.AddCert(x.service.Certificate())
	plain := x.through(own)
	defer plain.CloseIdleConnections()
	resp, err := plain.Get(x.service.URL + "/free/")
	must(t, err)
	if must(t, resp.Body.Close()); resp.StatusCode != http.StatusOK {
		t.Fatalf("%d: who is not allowed is answered by itself", resp.StatusCode)
	}
	must(t, os.Chmod(filepath.Join(dir, caKey), 0o644))
	if _, err := OpenCA(dir); !errors.Is(err, os.ErrPermission) {
		t.Fatalf("a key that others can read: %v", err)
	}
}

// A CONNECT that is none is refused, and bytes that come before its answer end it.
func TestBadConnects(t *testing.T) {
	x := newToll(t, nil)
	for text, want := range map[string]string{
		"CONNECT nowhere HTTP/1.1\r\nHost: nowhere\r\n\r\n":         "400",
		"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n": "502",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(x.web.URL, "http://"))
		must(t, err)
		_, err = io.WriteString(c, text)
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		line, err := bufio.NewReader(c).ReadString('\n')
		must(t, errors.Join(err, c.Close()))
		if !strings.Contains(line, want) {
			t.Errorf("%q: %s", text, line)
		}
	}
}

// The budgets hold whoever signs: over all channels, entries and origins, from what had
// been signed when they began.
func TestBudgets(t *testing.T) {
	record := func(id byte, origin string, signed uint64) channel.PayerRecord {
		var r channel.PayerRecord
		r.Terms.Outpoint.Hash[0], r.Origin, r.Signed = id, origin, signed
		return r
	}
	old := record(1, "https://a.example/f", 700)
	b, err := NewBudgets(1000, []Allow{{"a.example", 400}, {"*.example", 500}, {"b.test:8080", 0}}, []channel.PayerRecord{old}, map[string]uint64{old.Terms.ID(): 600})
	must(t, err)
	for i, c := range []struct {
		r    channel.PayerRecord
		more uint64
		want error
		left uint64 // for its origin, then
	}{
		{record(1, "https://a.example/f", 900), 200, nil, 100},
		{record(2, "https://a.example/g", 101), 101, channel.ErrBudget, 100},
		{record(2, "http://a.example:80/g", 100), 100, nil, 0}, // http is the same host
		{record(3, "https://x.example/", 300), 300, nil, 200},
		{record(4, "https://y.example/", 201), 201, channel.ErrBudget, 200}, // of the same entry
		{record(4, "https://y.example/", 100), 100, nil, 100},
		{record(5, "http://b.test/", 1), 1, paywall.ErrNotAllowed, 0},
		{record(5, "http://b.test:8080/", 201), 201, channel.ErrBudget, 200}, // of the total
		{record(5, "http://b.test:8080/", 200), 200, nil, 0},
		{record(4, "https://y.example/", 101), 1, channel.ErrBudget, 0},
		{record(5, "http://b.test:8080/", 200), 200, nil, 0}, // counted already
		{record(6, "https://evil.test/", 1), 1, paywall.ErrNotAllowed, 0},
		{record(7, "no origin", 1), 1, paywall.ErrNotAllowed, 0},
	} {
		if err := b.Spend(c.r, c.more); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%d: %v, want %v", i, err, c.want)
		}
		if left := b.Left(paywall.Origin(c.r.Origin)); left != c.left {
			t.Errorf("%d: %d sat are left, want %d", i, left, c.left)
		}
	}
	if s := b.Status(); s.Spent != 1000 || s.Lines[0].Spent != 400 || s.Lines[1].Spent != 400 || s.Lines[2].Spent != 200 {
		t.Errorf("%+v", s)
	}
	for _, bad := range []string{"", "[", "a/b"} {
		if _, err := NewBudgets(1, []Allow{{Host: bad}}, nil, nil); err == nil {
			t.Errorf("%q: taken", bad)
		}
	}
}

// Which socket is whose: this process's own connection is this user's, and what is not
// there is nobody's.
func TestOwnerOfAConnection(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		must(t, err)
		mine, err := net.Dial("tcp", l.Addr().String())
		must(t, err)
		theirs, err := l.Accept()
		must(t, err)
		if uid, err := ownerOf(theirs.RemoteAddr(), theirs.LocalAddr()); err != nil || uid != uint32(os.Getuid()) {
			t.Errorf("%s: %d, %v", address, uid, err)
		}
		must(t, errors.Join(mine.Close(), theirs.Close(), l.Close()))
		if _, err := ownerOf(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, theirs.LocalAddr()); err == nil {
			t.Error("a socket that is not there has an owner")
		}
	}
	if _, err := ownerOf(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2}); err == nil {
		t.Error("another machine has an owner here")
	}
}

// What is asked for is understood as far as it decides what is bought ahead, and never
// as more than that.
func TestSpan(t *testing.T) {
	for field, want := range map[string][2]uint64{
		"": {0, 1000}, "bytes=0-9": {0, 10}, "bytes=990-2000": {990, 1000}, "bytes=-10": {990, 1000}, "bytes=-2000": {0, 1000}, "bytes=500-": {500, 1000},
		"bytes=1000-": {1000, 1000}, "bytes=5-2": {0, 0}, "bytes=1-2,5-6": {0, 0}, "items=1-2": {0, 0}, "bytes=": {0, 0}, "bytes=a-b": {0, 0}, "bytes=0-99999999999999999999": {0, 0},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if field != "" {
			r.Header.Set("Range", field)
		}
		if from, end := span(r, 1000, `"t"`); from != want[0] || end != want[1] {
			t.Errorf("%q: %d to %d, want %v", field, from, end, want)
		}
		r.Header.Set("If-Range", `"another"`)
		if from, end := span(r, 1000, `"t"`); from != 0 || end != 1000 {
			t.Errorf("%q of another version: %d to %d", field, from, end)
		}
	}
}
