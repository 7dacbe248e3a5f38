package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// The handlers that are measured, bare under /bare and charged for under /paid: a short
// answer, a long body, a stream of events.
const (
	hallPayers = 16
	hallBody   = 8 << 20
	hallEvents = 2000
	honestFrom = "127.0.0.2" // so that limits by address tell them from the hostile ones
)

// hall is a market whose provider has handlers, behind the middleware and bare.
type hall struct {
	*market
	conns  *paywall.Connections
	paying []*http.Client // one for each payer
	bare   *http.Client
}

func handlers() http.Handler {
	body := bytes.Repeat([]byte("0123456789abcdef"), 2048)
	mux := http.NewServeMux()
	mux.HandleFunc("/bare/say", say)
	mux.HandleFunc("/paid/say", say)
	pour := func(w http.ResponseWriter, _ *http.Request) {
		for sent := 0; sent < hallBody; sent += len(body) {
			if _, err := w.Write(body); err != nil {
				return
			}
		}
	}
	mux.HandleFunc("/bare/pour", pour)
	mux.HandleFunc("/paid/pour", pour)
	tell := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range hallEvents {
			if _, err := fmt.Fprintf(w, "id: %d\ndata: %064d\n\n", i, i); err != nil {
				return
			}
			if i%8 == 7 {
				w.(http.Flusher).Flush()
			}
		}
	}
	mux.HandleFunc("/bare/tell", tell)
	mux.HandleFunc("/paid/tell", tell)
	return mux
}

func say(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"weather":"fair"}`) // a client that left is noticed by the middleware
}

// newHall serves the handlers to so many payers with an open channel each.
func newHall(ctx context.Context, dir string) (_ *hall, err error) {
	h := &hall{market: &market{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if h.shop, err = emptyShop(ctx, dir, hallPayers); err != nil {
		return nil, err
	}
	h.credit = 1_000_000
	h.closed = append(h.closed, h.shop.Close)
	if err := h.sell(); err != nil {
		return nil, err
	}
	for i := range hallPayers {
		if err := h.customer(ctx, i, 1); err != nil {
			return nil, err
		}
		if err := h.traveller(h.buyers[i]); err != nil {
			return nil, err
		}
	}
	h.bare = &http.Client{Transport: h.dialling()}
	return h, h.save(ctx)
}

// sell starts the provider.
func (h *hall) sell() error {
	identity, err := h.ring.Identity()
	if err != nil {
		return err
	}
	server, err := paywall.NewServer(paywall.ServerConfig{
		Payee: h.payee, Keys: h.ring, Network: "regtest", Realm: "bench", Recipient: hex.EncodeToString(identity.Public().(ed25519.PublicKey)),
	})
	if err != nil {
		return err
	}
	charge, err := paywall.NewMiddleware(paywall.MiddlewareConfig{Server: server, Rules: map[string]paywall.Price{
		"/paid/say":  {Msat: 1, Credit: 1_000_000},
		"/paid/pour": {Msat: 1, Per: 1 << 10, Unit: bitcoin.UnitByte, Credit: 1_000_000},
		"/paid/tell": {Msat: 1, Unit: bitcoin.UnitEvent, Credit: 1_000_000},
	}})
	if err != nil {
		return err
	}
	if err := h.certify(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h.url = "https://" + l.Addr().String() + "/"
	h.server, h.conns = paywall.HTTPServer(charge(handlers()))
	h.server.ErrorLog = log.New(io.Discard, "", 0)
	h.conns.Most, h.conns.PerClient = 1000, 500
	h.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{h.cert}, MinVersion: tls.VersionTLS12}
	done := make(chan error, 1)
	go func() { done <- h.server.ServeTLS(h.conns.Listen(l), "", "") }()
	h.closed = append(h.closed, func() error {
		err := h.server.Close()
		if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	})
	return nil
}

// dialling is a transport from the honest ones' address, over HTTP/1.1.
func (h *hall) dialling() *http.Transport {
	t := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: h.roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: hallPayers, DisableCompression: true,
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(honestFrom)}}).DialContext, MaxResponseHeaderBytes: 64 << 10,
	}
	h.closed = append(h.closed, func() error { t.CloseIdleConnections(); return nil })
	return t
}

// traveller gives a payer a client that pays.
func (h *hall) traveller(c *customer) error {
	client, err := paywall.NewClient(paywall.ClientConfig{HTTP: &http.Client{Transport: h.dialling()}, Payer: c.payer, Network: "regtest"})
	if err != nil {
		return err
	}
	t, err := paywall.NewTransport(paywall.TransportConfig{Client: client, Hosts: []string{"127.0.0.1:*"}, MaxPerHost: 1_000_000_000})
	if err != nil {
		return err
	}
	h.paying = append(h.paying, &http.Client{Transport: t})
	return nil
}

// get reads a whole answer; paid says that it must have been charged.
func get(ctx context.Context, c *http.Client, url string, paid bool) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	err = errors.Join(err, resp.Body.Close())
	if err == nil && (resp.StatusCode != http.StatusOK || paid && resp.Header.Get(mpp.HeaderReceipt) == "") {
		err = fmt.Errorf("%s: %s, receipt %q", url, resp.Status, resp.Header.Get(mpp.HeaderReceipt))
	}
	return n, err
}

// Middleware measures what a handler behind the middleware delivers beside the same
// handler bare: short answers a second, one payer at a time and sixteen at once, bytes
// of a body and events of a stream, over TLS, saved durably. Then what an honest payer
// waits for an answer while hostile clients do what they can, beside what it waits when
// nobody does.
func Middleware(ctx context.Context, cfg Config, emit func(Figure) error) (err error) {
	cfg = cfg.defaults()
	cfg.say("middleware")
	dir, err := os.MkdirTemp(cfg.Dir, "spillway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	h, err := newHall(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	for _, m := range []struct {
		name, unit, path string
		payers           int
		scale            func(answers float64, bytes int64) float64
	}{
		{"middleware, short answers, one payer", "/s", "say", 1, func(a float64, _ int64) float64 { return a }},
		{"middleware, short answers, 16 payers", "/s", "say", hallPayers, func(a float64, _ int64) float64 { return a }},
		{"middleware, bytes of a body, one payer", "MB/s", "pour", 1, func(a float64, n int64) float64 { return a * float64(n) / 1e6 }},
		{"middleware, events of a stream, one payer", "/s", "tell", 1, func(a float64, _ int64) float64 { return a * hallEvents }},
	} {
		f, err := h.beside(ctx, cfg, m.name, m.unit, m.path, m.payers, m.scale)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if err := emit(f); err != nil {
			return err
		}
	}
	return h.besieged(ctx, cfg, emit)
}

// beside measures a path paid and bare in rounds that alternate.
func (h *hall) beside(ctx context.Context, cfg Config, name, unit, path string, payers int, scale func(float64, int64) float64) (Figure, error) {
	var p pairs
	for round := range cfg.Rounds + 1 {
		cfg.say("%s, round %d of %d", name, round, cfg.Rounds)
		var speeds [2]float64
		for i, where := range []string{"paid/", "bare/"} {
			n, bytes, begin := 0, int64(0), time.Now()
			for n < payers || time.Since(begin) < cfg.Time/time.Duration(2*cfg.Rounds) {
				sizes := make([]int64, payers)
				_, err := rate(ctx, payers, payers, func(ctx context.Context, i int) (err error) {
					c := h.bare
					if where == "paid/" {
						c = h.paying[i]
					}
					sizes[i], err = get(ctx, c, h.url+where+path, where == "paid/")
					return err
				})
				if err != nil {
					return Figure{}, err
				}
				n, bytes = n+payers, sizes[0]
			}
			speeds[i] = scale(float64(n)/time.Since(begin).Seconds(), bytes)
		}
		if round > 0 { // connections and caches are made in the first
			p.add(speeds[0], speeds[1])
		}
	}
	return p.figure(name, unit, "the handler bare"), nil
}
