// Package gateway is a provider's HTTP server: the catalogue, the files with
// their manifests, slices and ranges, each behind the paywall, and an admin API
// for the operator's own commands.
//
// It releases bytes only under a grant of the paywall, and it holds no rule
// about money. What it limits is its own work: requests, deliveries, silence.
package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// Config is what a Gateway needs. Catalogue and Paywall must be set.
type Config struct {
	Catalogue *content.Catalogue
	Paywall   *paywall.Server
	Provider  string // identity, hex
	Network   string
	// Constructions are the kinds of channel that are on offer, for people.
	Constructions []string
	// CreditChunks is how many chunks may be charged before they are paid.
	CreditChunks uint64
	// MaxRequests is how many requests are served at once; default 1,024.
	MaxRequests int
	// MaxStreams is how many deliveries run at once, and MaxPerChannel how many on
	// one channel; defaults 512 and 16. A delivery that waits for a payment, or whose
	// client takes next to nothing, gives way to one that does not.
	MaxStreams, MaxPerChannel int
	// MaxSockets is how many connections of the compact transport there may be, and
	// MaxPerAddress how many from one client address, of an IPv6 address its /64;
	// defaults 4,096 and 256.
	MaxSockets, MaxPerAddress int
	// PerSecond is how many requests a client address may make, of an IPv6 address its
	// /64; default 200. One that charges something or raises what is paid does not
	// count.
	PerSecond float64
	// MaxWait bounds how long a stream pauses for a payment; default ten minutes.
	MaxWait time.Duration
	// Stall is how long a client may take nothing of what is sent; default a minute.
	Stall time.Duration
	// Slow is the rate in bytes per second at which a channel is sent, in all, chunks
	// that were sent three times; default 256 KiB.
	Slow int
	Now  func() time.Time // for the limits; default time.Now
	Log  *slog.Logger
}

// Gateway is the provider's handler.
type Gateway struct {
	cfg     Config
	slots   chan struct{}
	unpaid  buckets
	streams streams
	sent    sent
	lists   lists

	bytes    atomic.Uint64 // of content that were sent
	draining atomic.Bool   // no delivery begins any more
}

// New checks the configuration.
func New(cfg Config) (*Gateway, error) {
	if cfg.Catalogue == nil || cfg.Paywall == nil {
		return nil, errors.New("gateway: a catalogue and a paywall are needed")
	}
	byDefault(&cfg.MaxRequests, 1024)
	byDefault(&cfg.MaxStreams, 512)
	byDefault(&cfg.MaxPerChannel, 16)
	byDefault(&cfg.PerSecond, 200)
	byDefault(&cfg.MaxWait, 10*time.Minute)
	byDefault(&cfg.Stall, time.Minute)
	byDefault(&cfg.Slow, 256<<10)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Gateway{
		cfg: cfg, slots: make(chan struct{}, cfg.MaxRequests), unpaid: buckets{rate: cfg.PerSecond, now: cfg.Now},
		streams: streams{most: cfg.MaxStreams, perChannel: cfg.MaxPerChannel, now: cfg.Now},
		sent:    sent{rate: cfg.Slow},
	}, nil
}

func byDefault[T int | float64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cors(w.Header())
	if r.Method == http.MethodOptions {
		w.Header().Set("Allow", allowed)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	client := g.unpaid.of(r)
	if !client.take() {
		w.Header().Set("Retry-After", "1")
		fail(w, r, http.StatusTooManyRequests, "too many requests; nothing was charged for this one")
		return
	}
	if paywall.WantsCompact(r) {
		g.cfg.Paywall.Compact(w, r, g.compact())
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
	inner := r.WithContext(context.WithValue(r.Context(), bucketKey{}, client))
	inner.Body = http.MaxBytesReader(w, r.Body, maxBody) // of the copy: the server must know its own body, to answer without it
	g.route(w, inner)
}

type bucketKey struct{}

// worth gives a request back to its client's bucket: it was paid for.
func worth(r *http.Request) func() {
	client, ok := r.Context().Value(bucketKey{}).(*bucket)
	if !ok {
		return nil
	}
	return client.giveBack
}

func (g *Gateway) route(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" || strings.HasSuffix(name, "/") {
		g.catalogue(w, r, strings.TrimSuffix(name, "/"))
		return
	}
	entry, err := g.cfg.Catalogue.Lookup(name)
	if errors.Is(err, content.ErrNotFound) {
		if !g.describes(w, r) {
			g.unknown(w, r)
		}
		return
	} else if err != nil {
		fail(w, r, http.StatusBadRequest, err.Error())
		return
	}
	g.file(w, r, entry, false)
}

// unknown answers where no file is offered, or none any more. A channel that was
// opened for one can be paid, resumed and closed here all the same.
func (g *Gateway) unknown(w http.ResponseWriter, r *http.Request) {
	if (r.Method == http.MethodPost || r.Method == http.MethodHead) && r.Header.Get(mpp.HeaderCredential) != "" {
		g.cfg.Paywall.AdmitAlone(w, r, worth(r))
		return
	}
	for _, name := range []string{"ETag", "Accept-Ranges", "Link"} {
		w.Header().Del(name)
	}
	g.cfg.Paywall.Keep(r.Context(), r)
	g.absent(w, r, "no file of this name is offered; nothing was charged; the catalogue is at /")
}

// absent answers for a name that is not known. While the files are looked at for the
// first time it may be one that is on offer: the client is told to come again.
func (g *Gateway) absent(w http.ResponseWriter, r *http.Request, why string) {
	if g.preparing(w, r) {
		return
	}
	if !g.cfg.Catalogue.Complete() {
		w.Header().Set("Retry-After", "1")
		fail(w, r, http.StatusServiceUnavailable, "the provider has just started and is still reading its files; nothing was charged")
		return
	}
	fail(w, r, http.StatusNotFound, why)
}

const allowed = "GET, HEAD, POST, OPTIONS"

// cors lets pages of other origins read what a payment needs.
func cors(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", allowed)
	h.Set("Access-Control-Allow-Headers", "Authorization, Payment-Authorization, Idempotency-Key, Accept-Payment, Range, If-Range, If-Match, If-None-Match")
	h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Payment-Receipt, Content-Range, ETag, Link, Accept-Ranges, Retry-After, "+paywall.HeaderCompact)
	h.Set("Access-Control-Max-Age", "86400")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set(paywall.HeaderCompact, "1")
}

// fail writes a problem that has nothing to do with payment.
func fail(w http.ResponseWriter, r *http.Request, status int, detail string) {
	raw, err := json.Marshal(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
	if err != nil {
		http.Error(w, detail, status)
		return
	}
	w.Header().Set("Content-Type", mpp.ContentTypeProblem)
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
