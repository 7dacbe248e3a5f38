package paywall_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/paywall"
)

// mall is a provider with a handler behind the middleware, and a payer with a transport.
type mall struct {
	*pairtest.Pair
	t      *testing.T
	wall   *paywall.Server
	web    *httptest.Server
	client *paywall.Client
	paying *paywall.Transport
	net    *cutNet
	runs   atomic.Int64      // of the handler
	base   http.RoundTripper // of the transport; nil: net

	mu      sync.Mutex
	handler http.Handler
}

// cutNet cuts connections: the n-th request never leaves, or its answer is lost, or
// breaks off after so many bytes.
type cutNet struct {
	mu       sync.Mutex
	requests int
	cutAt    int // from one; 0: none
	how      string
	after    int64
	hold     chan struct{} // payments that go by HEAD wait for it; nil: they don't
	bodies   int           // how many bodies of answers break off after so many bytes, whichever
	seen     []*http.Request
}

func (n *cutNet) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.requests++
	n.seen = append(n.seen, r)
	cut := n.cutAt == n.requests
	how, after, hold := n.how, n.after, n.hold
	n.mu.Unlock()
	if hold != nil && r.Method == http.MethodHead {
		select {
		case <-hold:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if cut && how == "never" {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errors.New("cut: it never left")
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusOK && r.Method == http.MethodGet {
		n.mu.Lock()
		if n.bodies > 0 {
			n.bodies--
			cut = true
		}
		n.mu.Unlock()
	}
	if err != nil || !cut {
		return resp, err
	}
	if how == "answer" {
		return nil, errors.Join(errors.New("cut: the answer is lost"), resp.Body.Close())
	}
	resp.Body = &cutBody{resp.Body, after}
	return resp, nil
}

type cutBody struct {
	io.ReadCloser
	left int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("cut: the body broke off")
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func newMall(t *testing.T, price paywall.Price, handler http.HandlerFunc) *mall {
	return newMallWith(t, paywall.MiddlewareConfig{Price: price}, handler)
}

func newMallWith(t *testing.T, cfg paywall.MiddlewareConfig, handler http.HandlerFunc) *mall {
	t.Helper()
	m := &mall{Pair: pairtest.New(t), t: t, net: &cutNet{}}
	m.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		h := m.handler
		m.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { // a stream that a failed test left would pause for minutes
		_ = m.web.Listener.Close() // or it would be gone on with
		m.web.CloseClientConnections()
		m.web.Close()
	})
	m.sell(cfg, handler)
	m.reclient()
	return m
}

// reclient makes the payer's side of the wire anew.
func (m *mall) reclient() {
	m.t.Helper()
	var err error
	m.client, err = paywall.NewClient(paywall.ClientConfig{
		HTTP: &http.Client{Transport: m.net}, Payer: m.Payer, Network: "regtest", Now: m.Now,
		Sleep: func(ctx context.Context, d time.Duration) error {
			_, err := m.Chain.Mine(1) // the clock stands: challenges live on
			return errors.Join(err, ctx.Err())
		},
	})
	must(m.t, err)
	m.travel(paywall.TransportConfig{})
}

// sell makes the provider's process anew.
func (m *mall) sell(cfg paywall.MiddlewareConfig, handler http.HandlerFunc) {
	m.t.Helper()
	m.RestartPayee()
	secret, err := m.PayeeKeys.ChallengeSecret(0)
	must(m.t, err)
	m.wall, err = paywall.NewServer(paywall.ServerConfig{
		Payee: m.Payee, Network: "regtest", Secret: secret, Realm: "mall", Recipient: strings.Repeat("ab", 32), Now: m.Now,
	})
	must(m.t, err)
	cfg.Server = m.wall
	charge, err := paywall.NewMiddleware(cfg)
	must(m.t, err)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handler = charge(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.runs.Add(1)
		handler(w, r)
	}))
}

// travel makes the transport anew.
func (m *mall) travel(cfg paywall.TransportConfig) {
	m.t.Helper()
	cfg.Client, cfg.Base = m.client, m.base
	if cfg.Hosts == nil {
		cfg.Hosts = []string{"127.0.0.1:*"}
	}
	if cfg.MaxPerHost == 0 {
		cfg.MaxPerHost = 50_000
	}
	var err error
	m.paying, err = paywall.NewTransport(cfg)
	must(m.t, err)
}

func (m *mall) http() *http.Client { return &http.Client{Transport: m.paying} }

// get reads a whole answer.
func (m *mall) get(path string) (*http.Response, []byte) {
	m.t.Helper()
	resp, err := m.http().Get(m.web.URL + path)
	must(m.t, err)
	body, err := io.ReadAll(resp.Body)
	must(m.t, errors.Join(err, resp.Body.Close()))
	return resp, body
}

// records are the one channel's, of both sides.
func (m *mall) records() (channel.PayerRecord, channel.PayeeRecord) {
	m.t.Helper()
	mine, err := m.Payer.Records(ctx)
	must(m.t, err)
	theirs, err := m.Payee.Records(ctx)
	must(m.t, err)
	if len(mine) != 1 || len(theirs) != 1 {
		m.t.Fatalf("%d and %d channels", len(mine), len(theirs))
	}
	return mine[0], theirs[0]
}

// settled closes, and holds what was charged (msat) against what was paid.
func (m *mall) settled(want uint64) {
	m.t.Helper()
	must(m.t, m.paying.Close(ctx))
	mine, theirs := m.records()
	if theirs.Charged != want || mine.Owed != want {
		m.t.Errorf("charged are %d msat, the payer's ledger says %d, want %d", theirs.Charged, mine.Owed, want)
	}
	if paid := max(channel.CeilSat(want), mine.Terms.MinimumCharge); theirs.Paid != paid || mine.Signed != paid {
		m.t.Errorf("paid are %d sat, signed %d, want %d", theirs.Paid, mine.Signed, paid)
	}
	if mine.Close == nil || theirs.Close == nil || len(theirs.Close.FinalTx) == 0 {
		m.t.Error("it is not closed")
	}
}
