// Package reverse is a provider's reverse proxy: it stands in front of any HTTP
// service and charges for it with the paywall, by host, method and path.
//
// It holds no money and no rule about money, and the service behind it never sees
// how a request was paid: credentials end here. What a client says about itself in
// headers that a proxy is trusted with does not go on, and neither does anything
// that could make two requests of one. docs/proxies.md.
package reverse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// Rule is what happens to the requests that match a pattern.
type Rule struct {
	// Match is a pattern of http.ServeMux: "[METHOD ][HOST]/[PATH]"; the most specific
	// counts. "" in Config.Default.
	Match string
	// Price is what an answer costs; the zero value is free.
	Price paywall.Price
	// Upstream is where requests go: an http or https URL, or h2c for HTTP/2 without TLS.
	// Its path is put before the request's. nil: that of Config.Default.
	Upstream *url.URL
	// Set are fields of the request that the upstream gets, whatever the client sent in
	// them: its API keys, for instance. Remove are fields that it never gets.
	Set    map[string]string
	Remove []string
	// KeepHost passes the client's Host on, where the upstream wants that.
	KeepHost bool
}

// Config is what a Proxy needs. Wall and Default.Upstream must be set.
type Config struct {
	Wall    *paywall.Server
	Default Rule
	Rules   []Rule
	// FreePerDay is how many unpaid requests a client has answered in 24 hours.
	FreePerDay int
	// MaxBody bounds a request's body, in bytes; default 64 MiB.
	MaxBody int64
	// MaxRequests is how many requests are served at once; default 1,024.
	MaxRequests int
	// Stall is how long a client may send nothing of its request, or take nothing of its
	// answer; default a minute.
	Stall time.Duration
	// FirstByte is how long the upstream may take to begin its answer; default two minutes.
	FirstByte time.Duration
	// RootCAs verify an upstream's certificate; nil: the system's.
	RootCAs *x509.CertPool
	Log     *slog.Logger
}

// Proxy is the handler.
type Proxy struct {
	cfg       Config
	now       atomic.Pointer[ruleSet] // in force
	memory    paywall.Memory
	direct    http.Handler // behind the paywall
	handed    handed
	slots     chan struct{}
	running   atomic.Int64
	sent      atomic.Uint64
	draining  atomic.Bool
	plain     *http.Transport // HTTP/1 and 2 over TLS, HTTP/1 without
	prior     *http.Transport // HTTP/2 without TLS
	upgrading *http.Transport // HTTP/1, for what switches protocols
}

// New checks the configuration. Errors: for a pattern that is none or stands against
// another one, an upstream that cannot be, paywall.ErrQuote for a price.
func New(cfg Config) (*Proxy, error) {
	if cfg.Wall == nil {
		return nil, errors.New("reverse: a paywall is needed")
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 64 << 20
	}
	if cfg.MaxRequests <= 0 {
		cfg.MaxRequests = 1024
	}
	if cfg.Stall <= 0 {
		cfg.Stall = time.Minute
	}
	if cfg.FirstByte <= 0 {
		cfg.FirstByte = 2 * time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{cfg: cfg, slots: make(chan struct{}, cfg.MaxRequests)}
	p.transports()
	p.direct = p.upstream()
	if err := p.Replace(cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// Check refuses rules and upstreams that New would, without a paywall.
func Check(cfg Config) error {
	_, _, err := rulesOf(cfg)
	return err
}

// rulesOf are the rules by their patterns, and their prices.
func rulesOf(cfg Config) (*http.ServeMux, map[string]paywall.Price, error) {
	rules, prices := http.NewServeMux(), map[string]paywall.Price{}
	if cfg.Default.Upstream == nil {
		return nil, nil, errors.New("reverse: an upstream is needed")
	}
	if err := checkUpstream(cfg.Default.Upstream); err != nil {
		return nil, nil, err
	}
	for i := range cfg.Rules {
		r := cfg.Rules[i]
		if r.Upstream == nil {
			r.Upstream = cfg.Default.Upstream
		}
		if err := checkUpstream(r.Upstream); err != nil {
			return nil, nil, err
		}
		r.Match = lowerHost(r.Match)
		if _, twice := prices[r.Match]; twice {
			return nil, nil, fmt.Errorf("two rules for %q", r.Match)
		}
		prices[r.Match] = r.Price
		if err := add(rules, r.Match, &r); err != nil {
			return nil, nil, err
		}
	}
	return rules, prices, nil
}

// checkUpstream refuses what cannot be asked.
func checkUpstream(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c":
		return fmt.Errorf("the upstream %q: http, https or h2c is wanted", u.Redacted())
	case u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return fmt.Errorf("the upstream %q: a scheme, a host and perhaps a path are wanted, no user and no query", u.Redacted())
	}
	return nil
}

// lowerHost writes the host of a pattern in small letters, as requests' hosts are.
func lowerHost(pattern string) string {
	method, rest, found := strings.Cut(pattern, " ")
	if !found {
		method, rest = "", pattern
	}
	rest = strings.TrimLeft(rest, " \t")
	if i := strings.IndexByte(rest, '/'); i > 0 {
		rest = strings.ToLower(rest[:i]) + rest[i:]
	}
	if method == "" {
		return rest
	}
	return method + " " + rest
}

// add adds a rule. Errors: where its pattern is none, or stands against another one.
func add(rules *http.ServeMux, pattern string, r *Rule) (err error) {
	defer func() {
		if why := recover(); why != nil { // ServeMux says so no other way
			err = fmt.Errorf("the rule %q: %v", pattern, why)
		}
	}()
	rules.Handle(pattern, r)
	return nil
}

// ServeHTTP implements http.Handler; a mux only finds rules, they serve nothing.
func (*Rule) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

// ruleKey is where a request's rule is kept in its context.
type ruleKey struct{}

// rule is the rule of a request, found as the middleware finds its price.
func (s *ruleSet) rule(r *http.Request) *Rule {
	clean := path.Clean("/" + r.URL.Path)
	if strings.HasSuffix(r.URL.Path, "/") && clean != "/" {
		clean += "/"
	}
	at := &http.Request{Method: r.Method, Host: r.Host, URL: &url.URL{Path: clean}}
	if h, pattern := s.rules.Handler(at); pattern != "" {
		if found, ok := h.(*Rule); ok {
			return found
		}
	}
	return &s.byDefault
}

// transports makes what asks the upstreams. Nothing is unpacked on the way: entity
// tags, lengths and ranges stay true.
func (p *Proxy) transports() {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.Proxy = nil
	base.DisableCompression = true
	base.MaxIdleConnsPerHost = 64
	base.MaxResponseHeaderBytes = 256 << 10
	base.ResponseHeaderTimeout = p.cfg.FirstByte
	base.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	secure := func() *tls.Config { return &tls.Config{RootCAs: p.cfg.RootCAs, MinVersion: tls.VersionTLS12} }
	base.TLSClientConfig = secure() // before the first copy is made, which settles the protocols
	p.upgrading, p.prior = base.Clone(), base.Clone()
	p.upgrading.TLSClientConfig = secure()
	p.upgrading.Protocols = new(http.Protocols)
	p.upgrading.Protocols.SetHTTP1(true)
	p.prior.Protocols = new(http.Protocols)
	p.prior.Protocols.SetUnencryptedHTTP2(true)
	p.plain = base
}

// RoundTrip asks the upstream of a request.
func (p *Proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case r.URL.Scheme == "h2c":
		r.URL.Scheme = "http" // of the copy that the proxy made
		return p.prior.RoundTrip(r)
	case r.Header.Get("Upgrade") != "":
		return p.upgrading.RoundTrip(r)
	}
	return p.plain.RoundTrip(r)
}

// flushEvery is how long bytes of an answer of known length may wait for more of them;
// one that streams is passed on as it comes.
const flushEvery = 50 * time.Millisecond

// upstream is the proxy proper, behind the paywall.
func (p *Proxy) upstream() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: p.rewrite, ModifyResponse: p.answer, Transport: p, FlushInterval: flushEvery, BufferPool: &buffers{},
		ErrorLog:     slog.NewLogLogger(p.cfg.Log.Handler(), slog.LevelDebug),
		ErrorHandler: p.failed,
	}
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if status, why := refuse(r); status != 0 {
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		}
		fail(w, r, status, why)
		return
	}
	if p.draining.Load() && !settles(r) {
		p.cfg.Wall.Keep(r.Context(), r)
		w.Header().Set("Retry-After", "5")
		fail(w, r, http.StatusServiceUnavailable, "the provider stops; nothing was charged for this request; ask again when it is back")
		return
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		fail(w, r, http.StatusServiceUnavailable, "the provider is busy; nothing was charged for this request")
		return
	}
	p.running.Add(1)
	defer p.running.Add(-1)
	in := clean(r)
	now := p.now.Load()
	rule := now.rule(in)
	in = in.WithContext(context.WithValue(in.Context(), ruleKey{}, rule))
	out := &answering{ResponseWriter: w, control: http.NewResponseController(w), stall: p.cfg.Stall, sent: &p.sent, handed: &p.handed}
	switch {
	case in.Body == nil || in.Body == http.NoBody:
	case streams(in):
		in.Body = http.MaxBytesReader(w, in.Body, p.cfg.MaxBody) // it may be silent for long
	default:
		in.Body = &asking{readCloser: http.MaxBytesReader(w, in.Body, p.cfg.MaxBody), control: out.control, stall: p.cfg.Stall}
	}
	metered := rule.Price.Unit == bitcoin.UnitEvent || in.Header.Get(paywall.HeaderSocket) != ""
	in.Header.Del(paywall.HeaderSocket)
	if price := rule.Price; price.Msat > 0 && in.Header.Get("Upgrade") != "" && !metered {
		p.upgrade(out, in, price)
		return
	}
	now.paid.ServeHTTP(out, in)
}

// settles reports whether a request deals with a channel and asks for nothing.
func settles(r *http.Request) bool {
	pays := r.Header.Get(mpp.HeaderCredential) != "" || r.Header.Get(mpp.HeaderAlternateCredential) != ""
	return pays && (r.Method == http.MethodHead || r.Method == http.MethodPost && r.ContentLength == 0)
}

// failed answers where the upstream does not.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		fail(w, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("a request has at most %d bytes here; nothing was charged", long.Limit))
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // nobody waits for it
	case errors.Is(err, errUnpaid):
		fail(w, r, http.StatusServiceUnavailable, "the answer was not paid for in time; nothing was charged")
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		fail(w, r, http.StatusGatewayTimeout, "the service behind this address takes too long; nothing was charged")
	default:
		p.cfg.Log.Warn("the upstream does not answer", "host", r.URL.Host, "error", err)
		fail(w, r, http.StatusBadGateway, "the service behind this address does not answer; nothing was charged")
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
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
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(raw); err != nil {
		return // the client is gone
	}
}

// Sent is how many bytes of answers went to clients.
func (p *Proxy) Sent() uint64 { return p.sent.Load() }

// Deliveries is how many requests are being answered.
func (p *Proxy) Deliveries() int { return int(p.running.Load()) }

// drainTick is how often Drain looks whether answers are under way still.
const drainTick = 20 * time.Millisecond

// Drain lets answers that are under way finish and begins nothing new; what pays,
// resumes or closes a channel is still taken. Errors: the context's.
func (p *Proxy) Drain(ctx context.Context) error {
	p.draining.Store(true)
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for p.running.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Close ends connections that speak another protocol by now, and those to upstreams that
// nobody uses.
func (p *Proxy) Close() {
	p.handed.end()
	for _, t := range []*http.Transport{p.plain, p.prior, p.upgrading} {
		t.CloseIdleConnections()
	}
}

// Server wraps a proxy in a server with limits: slow headers, silent connections and
// many streams on one connection end. HTTP/2 is spoken with TLS and without.
func Server(p *Proxy, errorLog *log.Logger) *http.Server {
	s := &http.Server{
		Handler: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 128 << 10, ErrorLog: errorLog,
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 100, SendPingTimeout: time.Minute, WriteByteTimeout: p.cfg.Stall},
		Protocols: new(http.Protocols),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.RegisterOnShutdown(p.Close)
	return s
}
