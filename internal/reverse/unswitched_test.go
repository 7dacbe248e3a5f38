package reverse

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/paywall"
)

// upgradeFields ask for a WebSocket.
func upgradeFields(connection string) []string {
	all := []string{"Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
	if connection != "" {
		all = append(all, "Connection", connection)
	}
	return all
}

// Who asks a service that speaks no WebSocket for one pays for what it answers, by
// whatever it is sold; and nobody has it without paying.
func TestAnswerWithoutUpgradeIsCharged(t *testing.T) {
	content := strings.Repeat("x", 50_000)
	for name, c := range map[string]struct {
		price paywall.Price
		least uint64
	}{
		"request": {paywall.PerRequest(7000), 7000},
		"byte":    {paywall.Price{Msat: 1000, Per: 1000, Unit: "byte", Credit: 60_000}, 50_000},
		"second":  {paywall.PerSecond(1000), 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status := http.StatusOK
			m := newMarket(t, Config{Default: Rule{Price: c.price}}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "public, max-age=3600")
				w.WriteHeader(status)
				_, _ = io.WriteString(w, content)
			})
			m.pay("GET", "/f")
			for _, connection := range []string{"Upgrade", "", "close"} {
				before := m.charged()
				resp, body, err := m.tryPaid("/f", upgradeFields(connection)...)
				got := m.charged() - before
				if err == nil && resp.StatusCode == http.StatusOK && (got < c.least || body != content || resp.Header.Get("Cache-Control") != "private") {
					t.Errorf("Connection %q: %d bytes for %d msat: %v", connection, len(body), got, resp.Header)
				}
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("Connection %q: it is not sold: %v %v", connection, resp, err)
				}
			}
			records, err := m.Payer.Records(t.Context())
			must(t, err)
			if len(records) != 1 || records[0].Owed != m.charged() {
				t.Errorf("the payer's ledger says %d msat, %d msat were charged", records[0].Owed, m.charged())
			}
			before := m.charged()
			status = http.StatusNotFound
			if resp, _, err := m.tryPaid("/f", upgradeFields("Upgrade")...); err != nil || resp.StatusCode != http.StatusNotFound || m.charged() != before {
				t.Errorf("%v %v: %d msat for what is not there", resp, err, m.charged()-before)
			}
		})
	}
}

// A credential opens one connection: the same one, or the same key, has nothing of
// another one free.
func TestCredentialOpensOneWebSocket(t *testing.T) {
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerRequest(5000)}}, echoes(t))
	m.dial("/ws", m.paying)
	m.voucher(m.channel(), "/ws", 5000)
	var sent http.Header
	spy := roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") != "" {
			sent = r.Header.Clone()
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	paying, err := paywall.NewTransport(paywall.TransportConfig{Client: m.client, Hosts: []string{"127.0.0.1:*"}, MaxPerHost: 50_000, Base: spy})
	must(t, err)
	m.dial("/ws", paying)
	before := m.charged()
	if len(sent) == 0 {
		t.Fatal("no credential was seen")
	}
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.web.URL+"/ws", nil)
		must(t, err)
		req.Header = sent.Clone()
		resp, err := http.DefaultTransport.RoundTrip(req)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode == http.StatusSwitchingProtocols || resp.StatusCode < 400 {
			t.Fatalf("a credential that was used opens another connection: %s", resp.Status)
		}
	}
	if m.charged() != before {
		t.Errorf("%d msat for nothing", m.charged()-before)
	}
}

// A body that comes byte by byte, and never ends, holds its place for a while and no
// longer: nobody occupies all places with next to nothing, not even with a payment that
// turns out to be none.
func TestPitfall41_BodiesThatTrickle(t *testing.T) {
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerRequest(5000)}, Stall: 200 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})
	for _, head := range []string{"Authorization: Payment x\r\n", ""} {
		c, err := net.Dial("tcp", strings.TrimPrefix(m.web.URL, "http://"))
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_, err = io.WriteString(c, "POST /x HTTP/1.1\r\nHost: x\r\n"+head+"Content-Length: 1000000\r\n\r\n")
		must(t, err)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		begun := time.Now()
		for m.proxy.Deliveries() == 0 && head != "" && time.Since(begun) < 5*time.Second {
			<-tick.C
		}
		for m.proxy.Deliveries() > 0 {
			if <-tick.C; time.Since(begun) > 10*time.Second {
				t.Fatal("it holds its place")
			}
			_, _ = c.Write([]byte("x")) // it may have been given up
		}
	}
	a := &asking{stall: time.Second}
	at := time.Unix(1000, 0)
	if got := a.until(at); got != at.Add(time.Second) {
		t.Errorf("the first byte is due %v", got.Sub(at))
	}
	a.came = 100 << 10
	for late, want := range map[time.Duration]time.Duration{100 * time.Second: 101 * time.Second, 105 * time.Second: 105 * time.Second, time.Hour: 105 * time.Second} {
		if got := a.until(at.Add(late)); got != at.Add(want) {
			t.Errorf("after %v of 100 KiB: %v", late, got.Sub(at))
		}
	}
}

// A connection that is to be handed over while the proxy ends is none, and an error says so.
func TestHandedOverAtTheEnd(t *testing.T) {
	m := newMarket(t, Config{}, echoes(t))
	m.dial("/free", http.DefaultTransport)
	m.proxy.handed.end()
	if resp, _, err := m.tryPaid("/free", upgradeFields("Upgrade")...); err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		t.Error("it is handed over")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Two credentials are none: this proxy and what is behind it could each believe another
// one. Nothing is asked of the service.
func TestOneAuthorization(t *testing.T) {
	m := newMarket(t, Config{}, func(w http.ResponseWriter, r *http.Request) {})
	for _, all := range [][]string{{"Payment x", "Basic eA=="}, {"Basic eA==", "Payment x"}, {"Basic eA==", "Basic eQ=="}} {
		resp, _ := m.ask("GET", "/free", "Authorization", all[0], "Authorization", all[1])
		if r := m.last(); resp.StatusCode != http.StatusBadRequest || r != nil {
			t.Errorf("%q: %s, the service got %v", all, resp.Status, r)
		}
	}
}

// A dot behind a host's name, with a port or without, names the same host: its rules hold.
func TestHostWithADot(t *testing.T) {
	m := newMarket(t, Config{Rules: []Rule{{Match: "api.example/", Price: paywall.PerRequest(5000)}}}, func(w http.ResponseWriter, r *http.Request) {})
	for _, host := range []string{"api.example", "API.example", "api.example.", "api.example:80", "api.example.:80", "Api.Example.:4402"} {
		if resp, _ := m.ask("GET", "/x", "Host", host); resp.StatusCode != http.StatusPaymentRequired {
			t.Errorf("%s: %s", host, resp.Status)
		}
	}
	for in, want := range map[string]string{"[::1]": "[::1]", "[::1]:80": "[::1]:80", "A.b.:80": "a.b:80", "": "", "x:": "x:"} {
		if got := hostOf(in); got != want {
			t.Errorf("%q is %q", in, got)
		}
	}
}

// tryPaid asks with a payment.
func (m *market) tryPaid(path string, header ...string) (*http.Response, string, error) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.web.URL+path, nil)
	must(m.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := m.paying.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), errors.Join(err, resp.Body.Close())
}
