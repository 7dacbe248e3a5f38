package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/internal/webtoolstest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
)

// street is a chain, an nginx behind proxy, a serve, and a pay-proxy before them.
type street struct {
	t           *testing.T
	dir         string
	chain       string
	node        *devnet.Node
	shop, files *provider // proxy and serve
	pay         *payingProxy
	payFlags    payProxyFlags
}

// a is an invocation with a data folder of its own.
func (s *street) app(data string) *app {
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	a.flags.data, a.flags.network, a.flags.chain = filepath.Join(s.dir, data), "regtest", []string{s.chain}
	return a
}

// newStreet builds a street with files: goods are sold as chunks, site lies on nginx.
func newStreet(t *testing.T, goods, site string, pay payProxyFlags) *street {
	t.Helper()
	s := &street{t: t, dir: t.TempDir(), payFlags: pay}
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	d, err := a.startDevnet("", "127.0.0.1:0", 0)
	s.must(err)
	t.Cleanup(func() { s.must(d.Close()) })
	s.chain, s.node = d.url, d.node
	if goods != "" {
		s.files, err = s.app("seller").startProvider(t.Context(), serveFlags{price: "1sat/16KiB", chunk: "256KiB", listen: "127.0.0.1:0", credit: 4, tower: towerUse{maxRate: 500}}, []string{goods}, nil)
		s.must(err)
		t.Cleanup(func() { s.must(s.files.Close()) })
		_, err = s.files.files.Refresh(t.Context())
		s.must(err)
	}
	if site != "" {
		upstream := webtoolstest.Nginx(t, site, "")
		s.shop, err = s.app("shop").startProxy(t.Context(), proxyFlags{upstream: upstream, price: "1sat/16KiB", listen: "127.0.0.1:0", maxBody: "1MiB", tower: towerUse{maxRate: 500}}, nil)
		s.must(err)
		t.Cleanup(func() { s.must(s.shop.Close()) })
	}
	s.open()
	t.Cleanup(func() {
		if s.pay != nil {
			s.must(s.pay.Close())
		}
	})
	return s
}

// open starts the pay-proxy, at the address that it had.
func (s *street) open() {
	s.t.Helper()
	f := s.payFlags
	if f.listen == "" {
		f.listen = "127.0.0.1:0"
	}
	if f.prepay == "" {
		f.prepay = "0sat"
	}
	if f.cache == "" {
		f.cache = "10GiB"
	}
	if f.deposit == "" {
		f.deposit = "1000000sat"
	}
	for i, allow := range f.allow {
		if s.shop != nil {
			allow = strings.Replace(allow, "SHOP", strings.TrimPrefix(s.shop.url, "http://"), 1)
		}
		if s.files != nil {
			allow = strings.Replace(allow, "FILES", strings.TrimPrefix(s.files.url, "http://"), 1)
		}
		f.allow[i] = allow
	}
	var err error
	s.pay, err = s.app("buyer").startPayProxy(s.t.Context(), f)
	s.must(err)
	s.payFlags.listen = strings.TrimPrefix(s.pay.url, "http://")
}

func (s *street) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// client is an http.Client that goes through the pay-proxy.
func (s *street) client() *http.Client {
	at, err := url.Parse(s.pay.url)
	s.must(err)
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(at), DisableCompression: true}}
}

// get fetches a URL through the pay-proxy.
func (s *street) get(target string, header ...string) (int, http.Header, []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, target, nil)
	s.must(err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client().Do(req)
	s.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	s.must(err)
	return resp.StatusCode, resp.Header, body
}

// run runs a program in a folder, through the pay-proxy.
func (s *street) run(dir, program string, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "http_proxy=" + s.pay.url, "no_proxy=", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %q: %v\n%s", filepath.Base(program), args, err, out)
	}
	return string(out)
}

// same compares a file with what it should be.
func (s *street) same(path string, want []byte) {
	s.t.Helper()
	got, err := os.ReadFile(path)
	s.must(err)
	if !bytes.Equal(got, want) {
		s.t.Fatalf("%s: %d bytes, not the %d of the original", filepath.Base(path), len(got), len(want))
	}
}

// spent is what was signed to a provider, by the payer's records.
func (s *street) spent(p *provider) (sat uint64) {
	s.t.Helper()
	records, err := payer.List(s.t.Context(), s.pay.buyer.store)
	s.must(err)
	for _, r := range records {
		if strings.HasPrefix(r.Origin, p.url) {
			sat += r.Signed
		}
	}
	return sat
}

// settles waits until a provider holds all that was signed to it, and no more is owed
// than what programs left before it came.
func (s *street) settles(p *provider) (sat uint64) {
	s.t.Helper()
	limit, tick := time.After(30*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		records, err := p.payee.Records(s.t.Context())
		s.must(err)
		owed, credit := uint64(0), uint64(0)
		sat = 0
		for _, r := range records {
			sat, owed, credit = sat+r.Paid, owed+r.Owed(), credit+r.Terms.Credit
		}
		// what a program left before it came stays owed: at most the credit
		if owed <= credit && sat > 0 && sat == s.spent(p) {
			return sat
		}
		select {
		case <-limit:
			s.t.Fatalf("%d msat stay unpaid", owed)
		case <-tick.C:
		}
	}
}

func putFile(t *testing.T, path string, size int, seed byte) []byte {
	t.Helper()
	data := make([]byte, size)
	x := uint64(0x9e3779b97f4a7c15) ^ uint64(seed)<<9
	for i := range data {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = byte(x)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return data
}

// Real programs fetch from a real web server through both proxies, whole, in ranges, and
// on from where they stopped: what they get is right, and what was charged is paid.
func TestProxiesWithRealPrograms(t *testing.T) {
	site, goods, work := t.TempDir(), t.TempDir(), t.TempDir()
	onNginx := putFile(t, filepath.Join(site, "page.bin"), 3_000_000, 1)
	sold := putFile(t, filepath.Join(goods, "f.bin"), 3_000_000, 2)
	s := newStreet(t, goods, site, payProxyFlags{budget: "100000sat", allow: []string{"SHOP=50000sat", "FILES"}})
	curl, wget, aria := webtoolstest.Path(t, "curl"), webtoolstest.Path(t, "wget"), webtoolstest.Path(t, "aria2c")
	for name, c := range map[string]struct {
		url  string
		data []byte
	}{"nginx behind proxy": {s.shop.url + "/page.bin", onNginx}, "serve": {s.files.url + "/f.bin", sold}} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t = t
			out := filepath.Join(work, strings.Fields(name)[0])
			s.run(work, curl, "-sSf", "-o", out+".curl", c.url)
			s.same(out+".curl", c.data)
			s.must(os.Truncate(out+".curl", 1_234_567))
			if text := s.run(work, curl, "-sSf", "-C", "-", "-o", out+".curl", "-w", "%{http_code} %{size_download}", c.url); text != "206 1765433" {
				t.Errorf("curl -C -: %s", text)
			}
			s.same(out+".curl", c.data)
			s.run(work, curl, "-sSf", "-r", "100-1299", "-o", out+".range", c.url)
			s.same(out+".range", c.data[100:1300])
			s.must(os.WriteFile(out+".wget", c.data[:777_777], 0o644))
			s.run(work, wget, "-q", "-c", "-O", out+".wget", c.url)
			s.same(out+".wget", c.data)
			s.run(work, aria, "-q", "-x4", "-s4", "-k1M", "--all-proxy="+s.pay.url, "--no-proxy=", "-d", work, "-o", filepath.Base(out)+".aria", c.url)
			s.same(out+".aria", c.data)
		})
	}
	if n := s.settles(s.files); n > 300 { // 3,000,000 bytes at 1 sat for 16 KiB are 184 sat, or the minimum charge
		if min := s.minimum(s.files); n != max(184, min) {
			t.Errorf("the file was paid with %d sat: it is to be paid once", n)
		}
	}
	if n := s.settles(s.shop); n < 184 {
		t.Errorf("nginx's pages were paid with %d sat", n)
	}
	if s.spent(s.shop)+s.spent(s.files) != s.pay.spent.Status().Spent {
		t.Errorf("spent %d and %d sat, the proxy counts %+v", s.spent(s.shop), s.spent(s.files), s.pay.spent.Status())
	}
}

// minimum is the minimum charge of a provider's channels, in sat.
func (s *street) minimum(p *provider) uint64 {
	records, err := p.payee.Records(s.t.Context())
	s.must(err)
	for _, r := range records {
		return r.Terms.MinimumCharge
	}
	return 0
}

// apt fetches a package from a repository behind proxy, and from one that serve sells.
func TestAptThroughTheProxies(t *testing.T) {
	site := t.TempDir()
	payload := make([]byte, 400_000)
	deb := webtoolstest.Repository(t, site, "spillway-test", payload)
	raw, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	packages := fmt.Sprintf("Package: spillway-test\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nFilename: ./%s\nSize: %d\nSHA256: %s\nDescription: a package of a test\n\n",
		filepath.Base(deb), len(raw), hex.EncodeToString(sum[:]))
	if err := os.WriteFile(filepath.Join(site, "Packages"), []byte(packages), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newStreet(t, site, site, payProxyFlags{budget: "100000sat", allow: []string{"SHOP", "FILES"}})
	for name, from := range map[string]*provider{"nginx behind proxy": s.shop, "serve": s.files} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t = t
			dir := t.TempDir()
			for _, sub := range []string{"lists/partial", "cache/archives/partial", "got"} {
				s.must(os.MkdirAll(filepath.Join(dir, sub), 0o755))
			}
			for file, text := range map[string]string{
				"sources.list": "deb [trusted=yes] " + from.url + "/ ./\n", "status": "",
				"apt.conf": fmt.Sprintf("Dir::Etc::sourcelist \"%[1]s/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\nDir::State::lists \"%[1]s/lists\";\nDir::State::status \"%[1]s/status\";\nDir::Cache \"%[1]s/cache\";\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::AllowInsecureRepositories \"true\";\nAcquire::http::Proxy \"%[2]s\";\n", dir, s.pay.url),
			} {
				s.must(os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
			}
			apt := func(args ...string) {
				t.Helper()
				s.run(filepath.Join(dir, "got"), "env", append([]string{"APT_CONFIG=" + filepath.Join(dir, "apt.conf"), "apt-get", "-q"}, args...)...)
			}
			apt("update")
			apt("download", "spillway-test")
			s.same(filepath.Join(dir, "got", filepath.Base(deb)), raw)
			if s.settles(from) == 0 {
				t.Error("nothing was paid")
			}
		})
	}
}

// Nothing is paid to who is not allowed, never more than a budget, and what was spent is
// remembered when the proxy starts anew: each refusal is a 402 that says why.
func TestPayProxyKeepsToItsBudgets(t *testing.T) {
	site, goods := t.TempDir(), t.TempDir()
	page := putFile(t, filepath.Join(site, "page.bin"), 100_000, 3)
	sold := putFile(t, filepath.Join(goods, "f.bin"), 20<<20, 4)
	s := newStreet(t, goods, site, payProxyFlags{budget: "100000sat", allow: []string{"FILES=900sat"}})
	refused := func(target, want string) {
		t.Helper()
		status, h, body := s.get(target)
		var problem struct{ Detail string }
		if err := json.Unmarshal(body, &problem); err != nil || status != http.StatusPaymentRequired || !strings.Contains(problem.Detail, want) {
			t.Fatalf("%d %s (%v), want %q", status, body, err, want)
		}
		if h.Get("WWW-Authenticate") == "" || !strings.Contains(h.Get("Proxy-Status"), "details=") {
			t.Fatalf("%v", h)
		}
	}
	refused(s.shop.url+"/page.bin", "not on its allow-list")
	if records, err := s.shop.payee.Records(t.Context()); err != nil || len(records) > 0 {
		t.Fatalf("%d channels at who is not allowed (%v)", len(records), err)
	}
	refused(s.files.url+"/f.bin", "1280 sat, 900 sat are left") // all of it is more than is allowed
	if n := s.pay.spent.Status().Spent; n != 0 {
		t.Fatalf("%d sat were spent for what could not be had whole", n)
	}
	status, _, body := s.get(s.files.url+"/f.bin", "Range", "bytes=0-9999999")
	if status != http.StatusPartialContent || !bytes.Equal(body, sold[:10_000_000]) {
		t.Fatalf("%d, %d bytes", status, len(body))
	}
	s.settles(s.files)
	s.must(s.pay.Close()) // which waits for what is being paid
	s.open()
	before := s.spent(s.files)
	if n := s.pay.spent.Status().Spent; n != before || before < 600 {
		t.Fatalf("%d sat are remembered of %d", n, before)
	}
	status, _, body = s.get(s.files.url+"/f.bin", "Range", "bytes=100-9999") // what is there stays there
	if status != http.StatusPartialContent || !bytes.Equal(body, sold[100:10_000]) || s.spent(s.files) != before {
		t.Fatalf("%d, %d bytes, %d sat", status, len(body), s.spent(s.files))
	}
	status, _, _ = s.get(s.files.url+"/f.bin", "Range", "bytes=10000000-")
	if status != http.StatusPaymentRequired || s.spent(s.files) != before {
		t.Fatalf("%d, %d sat", status, s.spent(s.files))
	}
	// the total is for all hosts together, and a new budget begins from nothing
	s.must(s.pay.Close())
	s.payFlags.allow, s.payFlags.budget = []string{"FILES", "SHOP"}, fmt.Sprintf("%dsat", before+10)
	s.open()
	status, _, _ = s.get(s.shop.url + "/page.bin")
	if status != http.StatusPaymentRequired || s.spent(s.shop) != 0 {
		t.Fatalf("%d, %d sat: the total was used up elsewhere", status, s.spent(s.shop))
	}
	s.must(s.pay.Close())
	s.payFlags.anew = true
	s.open()
	s.payFlags.anew = false
	status, _, body = s.get(s.shop.url + "/page.bin")
	if status != http.StatusOK || !bytes.Equal(body, page) {
		t.Fatalf("%d, %d bytes: %s", status, len(body), body[:min(len(body), 300)])
	}
	if s.pay.spent.Status().Spent != s.spent(s.shop) {
		t.Fatalf("%+v, %d sat", s.pay.spent.Status(), s.spent(s.shop))
	}
}

// Who may ask: processes of this user, those with the token where there is one, and no
// page of another site. A second proxy on the folder is refused.
func TestPayProxyAnswersItsUserAlone(t *testing.T) {
	goods := t.TempDir()
	sold := putFile(t, filepath.Join(goods, "f.bin"), 300_000, 5)
	s := newStreet(t, goods, "", payProxyFlags{budget: "100000sat", allow: []string{"FILES"}})
	at := s.pay.url + "/http/" + strings.TrimPrefix(s.files.url, "http://") + "/f.bin"
	direct := func(header ...string) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
		s.must(err)
		for i := 0; i < len(header); i += 2 {
			if header[i] == "Host" {
				req.Host = header[i+1]
				continue
			}
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		s.must(err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		s.must(err)
		return resp.StatusCode, body
	}
	if status, body := direct(); status != http.StatusOK || !bytes.Equal(body, sold) {
		t.Fatalf("%d, %d bytes", status, len(body))
	}
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Host", "rebound.example:4403"}} {
		if status, _ := direct(header...); status != http.StatusForbidden {
			t.Errorf("%v: %d", header, status)
		}
	}
	if _, err := s.app("buyer").startPayProxy(t.Context(), payProxyFlags{budget: "1sat", allow: []string{"x"}, prepay: "0sat", deposit: "1sat", listen: "127.0.0.1:0", cache: "1GiB"}); explain(err).code != "locked" {
		t.Errorf("a second one: %v", err)
	}
	s.must(s.pay.Close())
	token := filepath.Join(t.TempDir(), "token")
	s.must(os.WriteFile(token, []byte("0123456789abcdef0123456789abcdef\n"), 0o600))
	s.payFlags.tokenFile = token
	s.open()
	if status, _ := direct(); status != http.StatusProxyAuthRequired {
		t.Errorf("without the token: %d", status)
	}
	if status, _ := direct("Proxy-Authorization", "Bearer 0123456789abcdef0123456789abcdee"); status != http.StatusProxyAuthRequired {
		t.Errorf("with another token: %d", status)
	}
	if status, _ := direct("Proxy-Authorization", "Bearer 0123456789abcdef0123456789abcdef"); status != http.StatusOK {
		t.Errorf("with the token: %d", status)
	}
	out := filepath.Join(t.TempDir(), "f")
	s.run(t.TempDir(), webtoolstest.Path(t, "curl"), "-sSf", "-x", strings.Replace(s.pay.url, "//", "//me:0123456789abcdef0123456789abcdef@", 1), "-o", out, s.files.url+"/f.bin")
	s.same(out, sold)
}

// What a provider sends wrong never reaches the client, and is not paid.
func TestPayProxyPassesNothingOnUnverified(t *testing.T) {
	goods := t.TempDir()
	sold := putFile(t, filepath.Join(goods, "f.bin"), 1<<20, 6)
	s := newStreet(t, goods, "", payProxyFlags{budget: "100000sat", allow: []string{"*"}})
	to, err := url.Parse(s.files.url)
	s.must(err)
	var from atomic.Int64 // slices that begin here or behind it are wrong
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:  func(pr *httputil.ProxyRequest) { pr.SetURL(to) },
		ErrorLog: log.New(io.Discard, "", 0),
		ModifyResponse: func(resp *http.Response) error {
			resp.Header.Del(paywall.HeaderCompact) // slices are to come as answers of their own
			first, _, _ := strings.Cut(resp.Request.URL.Query().Get("slice"), "-")
			if n, err := strconv.ParseInt(first, 10, 64); err == nil && n >= from.Load() && resp.StatusCode == http.StatusOK {
				resp.Body = &bitFlipped{ReadCloser: resp.Body, at: 100}
			}
			return nil
		},
	})
	t.Cleanup(front.Close)
	status, _, body := s.get(front.URL + "/f.bin")
	if status != http.StatusBadGateway || s.pay.spent.Status().Spent > 0 {
		t.Fatalf("%d, %d sat were paid for wrong bytes: %s", status, s.pay.spent.Status().Spent, body[:min(len(body), 300)])
	}
	from.Store(512 << 10)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/f.bin", nil)
	s.must(err)
	resp, err := s.client().Do(req)
	s.must(err)
	got, err := io.ReadAll(resp.Body)
	s.must(resp.Body.Close())
	if err == nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, sold[:512<<10]) {
		t.Fatalf("%d, %d bytes came, %v", resp.StatusCode, len(got), err)
	}
	if n := s.pay.spent.Status().Spent; n != 32 {
		t.Fatalf("%d sat were paid for two right chunks of 16", n)
	}
	from.Store(math.MaxInt64)
	status, _, body = s.get(front.URL + "/f.bin")
	if status != http.StatusOK || !bytes.Equal(body, sold) {
		t.Fatalf("%d, %d bytes", status, len(body))
	}
}

// bitFlipped changes one bit of a body.
type bitFlipped struct {
	io.ReadCloser
	at int
}

func (f *bitFlipped) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if f.at >= 0 && f.at < n {
		p[f.at] ^= 1
	}
	f.at -= n
	return n, err
}

// command runs a command until the returned function is called, which gives its exit
// code, and waits for its first event of a kind, or its failure.
func (s *street) command(kind string, args ...string) (event map[string]any, stop func() int) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := runUntil(ctx, append([]string{"--json", "--data", filepath.Join(s.dir, "commands"), "--chain", s.chain}, args...), strings.NewReader(""), in, io.Discard)
		if err := in.Close(); err != nil {
			code = -1
		}
		ended <- code
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		event = nil
		if s.must(json.Unmarshal(lines.Bytes(), &event)); event["type"] == kind || event["type"] == "error" {
			break
		}
	}
	return event, func() int {
		cancel()
		_, err := io.Copy(io.Discard, out)
		s.must(err)
		return <-ended
	}
}

// Rules of the settings file: prices, an upstream with a path, fields with keys; and a
// file that everybody can read is refused. The command stops in order.
func TestProxyRulesOfTheSettingsFile(t *testing.T) {
	site := t.TempDir()
	putFile(t, filepath.Join(site, "health"), 10, 1)
	putFile(t, filepath.Join(site, "base", "v1", "x"), 100, 2)
	s := newStreet(t, "", site, payProxyFlags{budget: "100000sat", allow: []string{"*"}})
	seen := make(chan http.Header, 10)
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	t.Cleanup(up.Close)
	nginx := webtoolstest.Nginx(t, site, "")
	file := filepath.Join(t.TempDir(), "config.toml")
	s.must(os.WriteFile(file, fmt.Appendf(nil, `
[proxy]
upstream = %q
price = "7sat/request"
listen = "127.0.0.1:0"
set = { X-Key = "k" }
remove = ["Cookie"]
[[proxy.rule]]
match = "GET /health"
price = "free"
upstream = %q
[[proxy.rule]]
match = "api.example/v1/"
price = "free"
upstream = "%s/base"
`, up.URL, nginx, nginx), 0o644))
	if event, stop := s.command("serving", "proxy", "--config", file); event["code"] != "permissions" || stop() != exitLocal {
		t.Fatalf("%v", event)
	}
	s.must(os.Chmod(file, 0o600))
	event, stop := s.command("serving", "proxy", "--config", file)
	at, ok := event["url"].(string)
	if !ok {
		t.Fatalf("%v", event)
	}
	ask := func(path, host string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+path, nil)
		s.must(err)
		req.Host = host
		resp, err := http.DefaultTransport.RoundTrip(req)
		s.must(err)
		s.must(resp.Body.Close())
		return resp.StatusCode
	}
	if a, b, c := ask("/health", ""), ask("/v1/x", "api.example"), ask("/v1/x", ""); a != 200 || b != 200 || c != 402 {
		t.Errorf("%d, %d, %d", a, b, c)
	}
	if status, _, _ := s.get(at+"/", "Cookie", "a=b", "X-Key", "mine"); status != http.StatusOK {
		t.Errorf("%d", status)
	}
	if h := <-seen; h.Get("X-Key") != "k" || h.Get("Cookie") != "" {
		t.Errorf("the service got %v", h)
	}
	s.must(s.pay.proxy.CloseIdle(t.Context(), 0))
	if code := stop(); code != exitDone {
		t.Errorf("exit %d", code)
	}
	for _, c := range [][2]string{
		{`price = "free"`, `price = "freee"`}, {`match = "GET /health"`, `match = "GET health"`}, {`match = "GET /health"`, ``}, {`set = {`, `sets = {`}, {`X-Key`, `Content-Length`},
		{nginx, "ftp://h"}, {`["Cookie"]`, `["a b"]`}, {`match = "GET /health"`, `match = "api.example/v1/"`},
	} {
		raw, err := os.ReadFile(file)
		s.must(err)
		bad := filepath.Join(t.TempDir(), "bad.toml")
		s.must(os.WriteFile(bad, []byte(strings.Replace(string(raw), c[0], c[1], 1)), 0o600))
		if event, stop := s.command("serving", "proxy", "--config", bad); event["code"] != "usage" || stop() != exitUsage {
			t.Errorf("%s for %s: %v", c[1], c[0], event)
		}
	}
}

// A file through the pay-proxy answers as one on a web server does, and what needs no
// bytes costs nothing. A file that is given away comes verified too.
func TestPayProxyFileAnswers(t *testing.T) {
	goods := t.TempDir()
	sold := putFile(t, filepath.Join(goods, "f.bin"), 1_000_000, 7)
	gift := putFile(t, filepath.Join(goods, "gift.txt"), 50_000, 8)
	empty := putFile(t, filepath.Join(goods, "empty"), 0, 9)
	prices := filepath.Join(t.TempDir(), "prices")
	if err := os.WriteFile(prices, []byte("gift.txt free\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &street{t: t, dir: t.TempDir(), payFlags: payProxyFlags{budget: "100000sat", allow: []string{"FILES"}}}
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	d, err := a.startDevnet("", "127.0.0.1:0", 0)
	s.must(err)
	t.Cleanup(func() { s.must(d.Close()) })
	s.chain = d.url
	s.files, err = s.app("seller").startProvider(t.Context(), serveFlags{price: "1sat/16KiB", prices: prices, chunk: "64KiB", listen: "127.0.0.1:0", credit: 1, tower: towerUse{maxRate: 500}}, []string{goods}, nil)
	s.must(err)
	t.Cleanup(func() { s.must(s.files.Close()) })
	_, err = s.files.files.Refresh(t.Context())
	s.must(err)
	s.open()
	t.Cleanup(func() { s.must(s.pay.Close()) })
	ask := func(method, name string, header ...string) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.files.url+"/"+name, nil)
		s.must(err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := s.client().Do(req)
		s.must(err)
		body, err := io.ReadAll(resp.Body)
		s.must(errors.Join(err, resp.Body.Close()))
		return resp, body
	}
	resp, _ := ask("HEAD", "f.bin")
	tag := resp.Header.Get("ETag")
	if resp.StatusCode != 200 || resp.ContentLength != 1_000_000 || tag == "" || resp.Header.Get("Accept-Ranges") != "bytes" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	for _, c := range []struct {
		name   string
		header []string
		status int
		body   []byte
	}{
		{"f.bin", []string{"If-None-Match", tag}, 304, nil},
		{"f.bin", []string{"If-Match", `"another"`}, 412, nil},
		{"f.bin", []string{"Range", "bytes=2000000-"}, 416, nil},
		{"gift.txt", nil, 200, gift},
		{"gift.txt", []string{"Range", "bytes=-100"}, 206, gift[49_900:]},
		{"empty", nil, 200, empty},
		{"absent", nil, 404, nil},
	} {
		if resp, body := ask("GET", c.name, c.header...); resp.StatusCode != c.status || c.body != nil && !bytes.Equal(body, c.body) {
			t.Errorf("%s %v: %d, %d bytes", c.name, c.header, resp.StatusCode, len(body))
		}
	}
	for name, c := range map[string][]string{
		"POST f.bin": nil, "GET f.bin?slice=0-9": nil, "GET f.bin": {"Accept-Payment", "bitcoin/session"},
	} {
		method, path, _ := strings.Cut(name, " ")
		if resp, _ := ask(method, path, c...); resp.StatusCode != 402 || method == "GET" && resp.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %v", name, resp.StatusCode, resp.Header)
		}
	}
	if n := s.pay.spent.Status().Spent; n != 0 {
		t.Fatalf("%d sat for answers without a byte that is sold", n)
	}
	for _, c := range []struct {
		header []string
		status int
		body   []byte
	}{
		{[]string{"Range", "bytes=0-0"}, 206, sold[:1]},
		{[]string{"Range", "bytes=-1"}, 206, sold[999_999:]},
		{[]string{"Range", "bytes=70000-", "If-Range", tag}, 206, sold[70_000:]},
		{[]string{"Range", "bytes=5-9", "If-Range", `"b3-0"`}, 200, sold},
		{[]string{"Range", "bytes=10-19"}, 206, sold[10:20]},
	} {
		if resp, body := ask("GET", "f.bin", c.header...); resp.StatusCode != c.status || !bytes.Equal(body, c.body) {
			t.Errorf("%v: %d, %d bytes", c.header, resp.StatusCode, len(body))
		}
	}
	resp, body := ask("GET", "f.bin", "Range", "bytes=1-2,500000-500001")
	if resp.StatusCode != 206 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "multipart/byteranges") || !bytes.Contains(body, sold[500_000:500_002]) {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	s.must(s.pay.proxy.CloseIdle(t.Context(), 0))
	if n := s.spent(s.files); n != max(62, s.minimum(s.files)) { // 1,000,000 bytes at 1 sat for 16 KiB
		t.Errorf("%d sat", n)
	}
}

// Without a budget, or without a host that may be paid, nothing is opened: consent is
// what is missing.
func TestPayProxyWantsConsent(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, args := range [][]string{{}, {"--allow=h"}, {"--budget=1sat"}} {
		var out bytes.Buffer
		code := runUntil(t.Context(), append([]string{"--json", "--data", data, "pay-proxy"}, args...), strings.NewReader(""), &out, io.Discard)
		var said map[string]any
		if err := json.Unmarshal(out.Bytes(), &said); err != nil || code != exitConsent || said["code"] != "consent" {
			t.Errorf("%q: exit %d, %s (%v)", args, code, out.String(), err)
		}
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("a folder was made")
	}
}
