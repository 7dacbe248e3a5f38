package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/internal/webhook"
	"github.com/spillway/spillway/keys"
)

// hooked receives events, and notes everything of each request.
type hooked struct {
	*httptest.Server
	mu     sync.Mutex
	events []webhook.Event
	raw    bytes.Buffer
}

func newHooked(t *testing.T, secret []byte) *hooked {
	h := &hooked{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var e webhook.Event
		if err == nil {
			err = json.Unmarshal(body, &e)
		}
		if err == nil {
			err = webhook.Verify(secret, r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Header.Get("webhook-signature"), body, time.Now(), time.Minute)
		}
		if err != nil {
			t.Error(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.events = append(h.events, e)
		h.raw.Write(body)
		if err := r.Header.Write(&h.raw); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hooked) has(typ string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.events, func(e webhook.Event) bool { return e.Type == typ })
}

func (h *hooked) hookSettings(t *testing.T) string {
	return "[[webhook]]\nname = \"books\"\nurl = \"" + h.URL + "/in?key=hook-sesame\"\nsecret-file = \"" + secretOf(t) + "\"\npaid-every = \"1ms\"\n"
}

// TestPitfall45_NothingSecretIsTold: a provider sells, is asked, told on and stopped, with
// all that it can log, and its words, passphrase, keys and tokens are in nothing of it:
// not in the log, not in metrics, webhooks, answers, events or settings as they are shown.
func TestPitfall45_NothingSecretIsTold(t *testing.T) {
	h := newHooked(t, bytes.Repeat([]byte("k"), 40))
	t.Setenv(passphraseVariable, "sesame opens nothing here")
	s := sell(t, "log-level = \"debug\"\nlog-format = \"json\"\n"+h.hookSettings(t), "--admin-listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0")
	said := func(after string) string {
		_, rest, _ := strings.Cut(s.err.String(), after)
		at, _, _ := strings.Cut(rest, `"`)
		at, _, _ = strings.Cut(at, ";")
		return strings.TrimSuffix(at, ".")
	}
	admin, probes := said("The admin API is at "), said("Metrics and probes are at ")
	raw, err := os.ReadFile(filepath.Join(s.data, "payee/regtest/admin-token"))
	s.must(err)
	token := strings.TrimSpace(string(raw))
	s.buy()
	s.await("the payment's event", func() bool { return h.has(webhook.Paid) })
	var heard bytes.Buffer
	for _, url := range []string{probes + "/metrics", probes + "/healthz", probes + "/readyz", admin + "/metrics", admin + "/v1/status", admin + "/v1/channels", admin + "/v1/earnings", admin + "/v1/chain", admin + "/v1/alarms",
		admin + "/v1/webhooks", admin + "/v1/version", admin + "/v1/wallet/balance", admin + "/v1/channels/x", s.url + "/", s.url + "/f.bin"} {
		_, header, body := s.ask("GET", url, token, "")
		heard.WriteString(body)
		s.must(header.Write(&heard))
	}
	_, _, refused := s.ask("GET", admin+"/v1/status", "wrong", "")
	heard.WriteString(refused + s.run("config", "explain", "--config", filepath.Join(s.dir, "settings.toml")) + s.run("--json", "channels", "list") + s.run("--json", "webhooks"))
	s.stop()
	s.await("its events", func() bool { return h.has(webhook.Opened) })
	all := map[string]string{"the log": s.err.String(), "stdout": s.out.String(), "answers": heard.String(), "webhooks": h.raw.String()}

	words, err := keys.Open(filepath.Join(s.data, "payee/regtest", sealedSeed), "sesame opens nothing here")
	s.must(err)
	k, err := keys.FromMnemonic(words, &chaincfg.RegressionNetParams)
	s.must(err)
	identity, err := k.Identity()
	s.must(err)
	challenge, err := k.ChallengeSecret(0)
	s.must(err)
	secrets := []string{words, strings.Join(strings.Fields(words)[:3], " "), "sesame", token, strings.Repeat("k", 24), hex.EncodeToString(identity.Seed()), hex.EncodeToString(challenge[:]), "xprv", "tprv"}
	for name, text := range all {
		if len(text) < 100 {
			t.Errorf("%s is too short to say anything: %q", name, text)
		}
		for _, secret := range secrets {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s holds a secret (%.12s…): …%s", name, secret, text[max(0, i-100):i])
			}
		}
	}
	for line := range strings.Lines(all["the log"]) {
		if !json.Valid([]byte(line)) {
			t.Errorf("with --log-format json stderr holds %q", line)
		}
	}
	if id := h.events[0].Channel.ID; !strings.Contains(all["the log"], `"channel":"`+id+`"`) || strings.Contains(all["answers"], "# HELP") && strings.Contains(metricsOf(all["answers"]), id[:16]) {
		t.Errorf("the log names no channel, or the metrics do: %s", id)
	}
	info, err := os.Stat(filepath.Join(s.data, "payee/regtest/admin-token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

// metricsOf are the lines of a text that are metrics.
func metricsOf(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "spillway_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestEventsOutliveTheProvider: what was not taken when a provider stopped is told by the
// next one, with the ids that it had; what waits for a webhook that is gone is deleted.
func TestEventsOutliveTheProvider(t *testing.T) {
	h := newHooked(t, bytes.Repeat([]byte("k"), 40))
	gone := listenHere(t)
	nobody := "http://" + gone.Addr().String()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	hook := h.hookSettings(t)
	s := sell(t, strings.ReplaceAll(hook, h.URL, nobody)+"[[webhook]]\nname = \"other\"\nurl = \""+nobody+"\"\nsecret-file = \""+secretOf(t)+"\"\n")
	s.buy()
	var got struct{ Webhooks []webhook.State }
	s.await("a failed attempt", func() bool {
		got.Webhooks = nil
		s.must(json.Unmarshal([]byte(s.run("--json", "webhooks")), &got))
		return len(got.Webhooks) == 2 && got.Webhooks[0].Failed > 0 && got.Webhooks[0].Pending > 0
	})
	s.stop()
	s.start(hook)
	s.await("the events of before", func() bool { return h.has(webhook.Opened) && h.has(webhook.Paid) })
	if !strings.Contains(s.err.String(), "events of webhooks that are not there any more were deleted") {
		t.Error(s.err.String())
	}
	s.run("webhooks", "test", "books")
	s.await("the test's event", func() bool { return h.has(webhook.Test) })
	var said bytes.Buffer
	if exit := runUntil(t.Context(), []string{"webhooks", "test", "nobody"}, strings.NewReader(""), &said, &said); exit != exitUsage {
		t.Errorf("exit %d: %s", exit, said.String())
	}
}

// certFor writes a certificate that signs itself, and its key.
func certFor(t *testing.T, dir string, serial int64, days int) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Duration(days) * 24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestReload: prices, the certificate and the log's level are read again without a
// restart, what has a mistake stays as it was and is told, and connections go on.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := certFor(t, dir, 1, 90)
	prices := filepath.Join(dir, "prices")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(prices, "*.bin 7sat/KiB\n")
	s := sell(t, "log-level = \"error\"\n", "--tls-cert="+cert, "--tls-key="+key, "--prices="+prices)
	serial := func() int64 {
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{InsecureSkipVerify: true})
		s.must(err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if serial() != 1 {
		t.Fatal("another certificate")
	}
	certFor(t, dir, 2, 3)
	write(prices, "*.bin 9sat/KiB\n")
	write(filepath.Join(s.dir, "settings.toml"), "log-level = \"info\"\n")
	if out := s.run("reload"); !strings.Contains(out, "certificate") || !strings.Contains(out, "prices") || !strings.Contains(out, "log level") {
		t.Error(out)
	}
	if serial() != 2 {
		t.Error("the certificate was not read again")
	}
	s.await("the prices", func() bool { return strings.Contains(s.err.String(), "prices: read again") })
	s.await("the alarm of a certificate that ends", func() bool {
		return strings.Contains(s.run("--json", "webhooks"), "webhooks") && strings.Contains(s.out.String(), `"kind":"certificate"`)
	})
	write(key, "no key")
	write(prices, "nonsense\n")
	write(filepath.Join(s.dir, "settings.toml"), "log-level = \"loud\"\n")
	var said bytes.Buffer
	exit := runUntil(t.Context(), []string{"reload"}, strings.NewReader(""), &said, &said)
	for _, what := range []string{"certificate stays as it was", "prices stays as it was", "log level stays as it was"} {
		if exit != exitUsage || !strings.Contains(said.String(), what) {
			t.Errorf("exit %d, no %q: %s", exit, what, said.String())
		}
	}
	if serial() != 2 {
		t.Error("a mistake changed the certificate")
	}
}

// TestProbes: a provider is ready as long as it can sell, and says why it is not.
func TestProbes(t *testing.T) {
	s := sell(t, "", "--metrics-listen=127.0.0.1:0")
	at := s.at("Metrics and probes are at ")
	s.await("it to be ready", func() bool {
		status, _, _ := s.ask("GET", at+"/readyz", "", "")
		return status == http.StatusOK
	})
	if status, _, body := s.ask("GET", at+"/healthz", "", ""); status != http.StatusOK || !strings.Contains(body, `"watch":"ok"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := s.ask("POST", at+"/readyz", "", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("%d", status)
	}
	for _, path := range []string{"/", "/v1/status", "/v1/channels", "/debug/pprof/"} {
		if status, _, _ := s.ask("GET", at+path, "", ""); status != http.StatusNotFound {
			t.Errorf("%s answers %d without a token", path, status)
		}
	}
	if out := s.run("status"); !strings.Contains(out, "it can sell") {
		t.Error(out)
	}
}

// TestHealth: what readiness and health say of each trouble.
func TestHealth(t *testing.T) {
	fresh := func() *operations {
		o := &operations{p: &provider{url: "http://x", app: &app{out: &output{}}}, looked: time.Now(), good: time.Now()}
		o.tip.Height = 5
		return o
	}
	for what, c := range map[string]struct {
		change  func(*operations)
		check   string
		healthy bool
	}{
		"stopping":     {func(o *operations) { o.stopping = true }, "serving", true},
		"not begun":    {func(o *operations) { o.p.url = "" }, "serving", true},
		"no tip":       {func(o *operations) { o.tip.Height = 0 }, "chain", true},
		"stale":        {func(o *operations) { o.stale = io.ErrUnexpectedEOF }, "chain", true},
		"unsaved":      {func(o *operations) { o.stores = io.ErrUnexpectedEOF }, "store", true},
		"failing":      {func(o *operations) { o.failure, o.good = "why", time.Now().Add(-2*time.Minute) }, "watch", true},
		"hanging":      {func(o *operations) { o.began = time.Now().Add(-deadAfter - time.Second) }, "", false},
		"not stepping": {func(o *operations) { o.looked = time.Now().Add(-deadAfter - time.Second) }, "", false},
	} {
		o := fresh()
		c.change(o)
		checks, ok := o.ready(t.Context())
		if ok != (c.check == "") || c.check != "" && checks[c.check] == "ok" {
			t.Errorf("%s: ready %v, %v", what, ok, checks)
		}
		if _, ok := o.healthy(); ok != c.healthy {
			t.Errorf("%s: healthy %v", what, ok)
		}
	}
	if checks, ok := fresh().ready(t.Context()); !ok {
		t.Error(checks)
	}
}

// TestSystemd: serve, as a process of its own, tells its service manager that it is ready,
// alive, reloading, ready again and stopping; a SIGHUP does not end it.
func TestSystemd(t *testing.T) {
	s := sell(t, "")
	s.stop()
	socket := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	s.must(err)
	t.Cleanup(func() { _ = l.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "spillway", "serve", "--listen=127.0.0.1:0", filepath.Join(s.dir, "goods"))
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=300000")
	cmd.Stderr, cmd.Stdout = s.err, s.out
	s.must(cmd.Start())
	heard := []string{}
	until := func(want string) {
		t.Helper()
		for {
			s.must(l.SetReadDeadline(time.Now().Add(40 * time.Second)))
			raw := make([]byte, 1000)
			n, err := l.Read(raw)
			if err != nil {
				t.Fatalf("no %s: %v, after %q: %s", want, err, heard, s.err.String())
			}
			heard = append(heard, string(raw[:n]))
			if strings.HasPrefix(string(raw[:n]), want) {
				return
			}
		}
	}
	until("READY=1\nSTATUS=Selling at http://127.0.0.1:")
	until("WATCHDOG=1")
	until("WATCHDOG=1")
	s.must(cmd.Process.Signal(syscall.SIGHUP))
	until("RELOADING=1\nMONOTONIC_USEC=")
	until("READY=1")
	until("WATCHDOG=1")
	s.must(cmd.Process.Signal(syscall.SIGTERM))
	until("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, s.err.String())
	}
}

// TestReloadOfRules: a proxy's rules are read again at a reload, one with a mistake
// changes nothing, and what is set for an upstream is not shown.
func TestReloadOfRules(t *testing.T) {
	s := sell(t, "")
	s.stop()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.WriteString(w, r.Header.Get("X-Key")); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(up.Close)
	head := "[proxy]\nupstream = \"" + up.URL + "\"\nprice = \"5sat/request\"\n"
	path := s.file("settings.toml", head+"[[proxy.rule]]\nmatch = \"/a\"\nprice = \"free\"\nset = { X-Key = \"one-sesame\" }\n")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	out := &said{}
	go func() {
		done <- runUntil(ctx, []string{"proxy", "--json", "--config", path, "--listen=127.0.0.1:0"}, strings.NewReader(""), out, s.err)
	}()
	t.Cleanup(func() { cancel(); <-done })
	at := ""
	s.await("the proxy to listen", func() bool {
		var e struct{ URL string }
		first, _, _ := strings.Cut(out.String(), "\n")
		if json.Unmarshal([]byte(first), &e) == nil {
			at = e.URL
		}
		return at != ""
	})
	free := func(path, body string) {
		t.Helper()
		if status, _, got := s.ask("GET", at+path, "", ""); (status == http.StatusOK) != (body != "") || body != "" && got != body {
			t.Errorf("%s: %d %q, want %q", path, status, got, body)
		}
	}
	free("/a", "one-sesame")
	free("/b", "")
	s.file("settings.toml", head+"[[proxy.rule]]\nmatch = \"/b\"\nprice = \"free\"\nset = { X-Key = \"two-sesame\" }\n")
	if said := s.run("reload"); !strings.Contains(said, "rules") {
		t.Error(said)
	}
	free("/a", "")
	free("/b", "two-sesame")
	if shown := s.run("config", "explain", "--config", path); strings.Contains(shown, "sesame") || !strings.Contains(shown, "proxy rule[0].set.X-Key") {
		t.Error(shown)
	}
	for _, bad := range []string{"[[proxy.rule]]\nmatch = \"/c\"\nprice = \"cheap\"\n", "[[proxy.rule]]\nmach = \"/c\"\n", "[[proxy"} {
		s.file("settings.toml", head+bad)
		var said bytes.Buffer
		if exit := runUntil(t.Context(), []string{"reload"}, strings.NewReader(""), &said, &said); exit != exitUsage || !strings.Contains(said.String(), "rules stays as it was") {
			t.Errorf("%s: exit %d: %s", bad, exit, said.String())
		}
		free("/b", "two-sesame")
	}
}
