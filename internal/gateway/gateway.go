// Package gateway is a provider's HTTP server: the catalogue, the files with
// their manifests, slices and ranges, each behind the paywall, and an admin API
// for the operator's own commands.
//
// It releases bytes only under a grant of the paywall, and it holds no rule
// about money.
package gateway

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/paywall"
)

// Config is what a Gateway needs. Catalogue and Paywall must be set.
type Config struct {
	Catalogue *content.Catalogue
	Paywall   *paywall.Server
	Provider  string // identity, hex
	Network   string
	// CreditChunks is how many chunks may be charged before they are paid.
	CreditChunks uint64
	// MaxRequests is how many requests are served at once; default 512.
	MaxRequests int
	// PerSecond is how many requests a client address may make; default 200.
	PerSecond float64
	// MaxWait bounds how long a stream pauses for a payment; default ten minutes.
	MaxWait time.Duration
	// Slow is the rate in bytes per second at which a chunk is sent once it was
	// sent three times; default 256 KiB.
	Slow int
	Log  *slog.Logger
}

// Gateway is the provider's handler.
type Gateway struct {
	cfg     Config
	slots   chan struct{}
	mu      sync.Mutex
	clients map[string]*rate.Limiter
	sent    map[sentKey]uint64
}

// sentKey names what was sent to a channel.
type sentKey struct {
	channel string
	root    content.Hash
	chunk   uint64
}

// maxRemembered bounds the maps of clients and of what was sent.
const maxRemembered = 1 << 16

// New checks the configuration.
func New(cfg Config) (*Gateway, error) {
	if cfg.Catalogue == nil || cfg.Paywall == nil {
		return nil, errors.New("gateway: a catalogue and a paywall are needed")
	}
	if cfg.MaxRequests <= 0 {
		cfg.MaxRequests = 512
	}
	if cfg.PerSecond <= 0 {
		cfg.PerSecond = 200
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 10 * time.Minute
	}
	if cfg.Slow <= 0 {
		cfg.Slow = 256 << 10
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Gateway{
		cfg: cfg, slots: make(chan struct{}, cfg.MaxRequests),
		clients: map[string]*rate.Limiter{}, sent: map[sentKey]uint64{},
	}, nil
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cors(w.Header())
	if r.Method == http.MethodOptions {
		w.Header().Set("Allow", allowed)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if !g.admit(r) {
		w.Header().Set("Retry-After", "1")
		fail(w, r, http.StatusTooManyRequests, "too many requests; nothing was charged for this one")
		return
	}
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		fail(w, r, http.StatusServiceUnavailable, "the provider is busy; nothing was charged for this request")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 1<<10)
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" || strings.HasSuffix(name, "/") {
		g.catalogue(w, r, strings.TrimSuffix(name, "/"))
		return
	}
	entry, err := g.cfg.Catalogue.Lookup(name)
	if errors.Is(err, content.ErrNotFound) {
		fail(w, r, http.StatusNotFound, "no file of this name is offered; the catalogue is at /")
		return
	} else if err != nil {
		fail(w, r, http.StatusBadRequest, err.Error())
		return
	}
	g.file(w, r, entry)
}

// admit limits the requests of one client address.
func (g *Gateway) admit(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.clients[host]
	if l == nil {
		if len(g.clients) >= maxRemembered {
			clear(g.clients)
		}
		l = rate.NewLimiter(rate.Limit(g.cfg.PerSecond), int(2*g.cfg.PerSecond))
		g.clients[host] = l
	}
	return l.Allow()
}

const allowed = "GET, HEAD, POST, OPTIONS"

// cors lets pages of other origins read what a payment needs.
func cors(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", allowed)
	h.Set("Access-Control-Allow-Headers", "Authorization, Idempotency-Key, Accept-Payment, Range, If-Range, If-None-Match")
	h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Payment-Receipt, Content-Range, ETag, Link, Retry-After")
	h.Set("X-Content-Type-Options", "nosniff")
}

// fail writes a problem that has nothing to do with payment.
func fail(w http.ResponseWriter, r *http.Request, status int, detail string) {
	raw, err := json.Marshal(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
	if err != nil {
		http.Error(w, detail, status)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		write(w, raw)
	}
}

// write writes an answer's body; a client that is gone needs none.
func write(w http.ResponseWriter, raw []byte) {
	if _, err := w.Write(raw); err != nil {
		return
	}
}

// again notes that bytes of a chunk were sent and reports whether it has been
// sent more than three times its length.
func (g *Gateway) again(k sentKey, bytes, length uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.sent) >= maxRemembered {
		clear(g.sent)
	}
	before := g.sent[k]
	g.sent[k] = before + bytes
	return before >= 3*length
}
