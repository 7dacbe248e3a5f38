package paywall

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/spillway/spillway/mpp"
)

// MiddlewareConfig is how handlers are charged for. Server must be set.
type MiddlewareConfig struct {
	Server *Server
	// Price is what every answer costs that no rule says otherwise for; zero: it is free.
	Price Price
	// Rules are other prices by the patterns of http.ServeMux, such as "GET /v1/" or
	// "/status". The most specific counts; a zero price is free.
	Rules map[string]Price
	// FreePerDay is how many unpaid requests a client (an IPv4 address, an IPv6 /64) has
	// answered in 24 hours.
	FreePerDay int
	// Client, where it is set, names whose quota a request uses instead; "": it has none.
	Client func(*http.Request) string
	// Limit is how often one payer (a channel) may ask, in all; a repeat does not count.
	// A price may have a limit of its own beside it. Zero: there is none.
	Limit Limit
	// Unpaid is how often a client (as in FreePerDay) may ask for what it does not pay:
	// challenges, credentials that are refused. Default: 200 a second, 400 at once;
	// PerSecond below zero: there is no limit.
	Unpaid Limit
	// MaxBody is how many bytes of a paid request's body are read before the handler
	// runs; default 1 MiB. A longer body goes through to the handler as it comes, and a
	// repeat of its request is another one, charged anew.
	MaxBody int64
	// Unread, where it is set, names requests whose body goes to the handler as it comes,
	// however short it is, such as one that is a stream itself.
	Unread func(*http.Request) bool
	// MaxKept bounds the answer that is kept for repeats, and MaxAllKept all of them, in
	// bytes; defaults 1 MiB and 64 MiB. One that is not kept is made again, uncharged.
	MaxKept, MaxAllKept int64
	// MaxRepeats is how often an answer that was paid is made again; default 3.
	MaxRepeats int
	// MaxWait bounds how long an answer pauses for a payment; default ten minutes.
	MaxWait time.Duration
	// Stall is how long a client may take nothing of what is sent, or send nothing of its
	// request's body; default a minute.
	Stall time.Duration
	// KeepAlive is after how long a stream of events in which nothing happens says that it
	// is alive; default 15 seconds.
	KeepAlive time.Duration
	// Memory, where it is set, is what the middleware remembers of its clients: given to
	// the one that takes its place, when prices change, nobody's count begins anew.
	Memory *Memory
}

// Middleware charges for a handler:
//
//	http.Handle("/", paywall.Middleware(server, paywall.PerRequest(1000))(handler))
//
// An unpaid request is answered 402 with a challenge, and the handler does not run. A
// paid one runs it, and what it answers is charged as it is handed to the connection,
// saved before the first byte: only answers of 2xx, and never more than the challenge
// said. While the credit is used up the answer pauses, until more is paid on any
// connection. A repeat with the same Idempotency-Key gets the answer that was bought,
// or has it made again uncharged. docs/api.md.
//
// A price that cannot be quoted answers every request with 500. NewMiddleware says so
// at once.
func Middleware(s *Server, p Price) func(http.Handler) http.Handler {
	m, err := NewMiddleware(MiddlewareConfig{Server: s, Price: p})
	if err == nil {
		return m
	}
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			writeProblem(w, r, mpp.NewProblem(mpp.ProblemInternalPaymentError, err.Error()))
		})
	}
}

// NewMiddleware is Middleware with everything that can be chosen.
// Errors: ErrQuote for a price that means nothing, and a pattern that is none.
func NewMiddleware(cfg MiddlewareConfig) (func(http.Handler) http.Handler, error) {
	if cfg.Server == nil {
		return nil, errors.New("paywall: the middleware needs a server")
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.MaxKept <= 0 {
		cfg.MaxKept = 1 << 20
	}
	if cfg.MaxAllKept <= 0 {
		cfg.MaxAllKept = 64 << 20
	}
	if cfg.MaxRepeats <= 0 {
		cfg.MaxRepeats = 3
	}
	byDefault(&cfg.MaxWait, defaultWait)
	byDefault(&cfg.Stall, time.Minute)
	byDefault(&cfg.KeepAlive, 15*time.Second)
	if cfg.Unpaid == (Limit{}) {
		cfg.Unpaid = Limit{PerSecond: 200, Burst: 400}
	}
	if cfg.Client == nil {
		cfg.Client = clientOf
	}
	if err := cfg.Price.check(); err != nil {
		return nil, err
	}
	rules := http.NewServeMux()
	for pattern, price := range cfg.Rules {
		if err := price.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", pattern, err)
		}
		if err := addRule(rules, pattern, price); err != nil {
			return nil, err
		}
	}
	if cfg.Memory == nil {
		cfg.Memory = &Memory{}
	}
	cfg.Memory.use(cfg)
	w := &wall{cfg: cfg, rules: rules, Memory: cfg.Memory}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.serve(rw, r, next) })
	}, nil
}

// byDefault sets what is not set.
func byDefault(d *time.Duration, most time.Duration) {
	if *d <= 0 {
		*d = most
	}
}

// addRule adds a price under a pattern. Errors: where the pattern is none, or stands
// against another one.
func addRule(rules *http.ServeMux, pattern string, price Price) (err error) {
	defer func() {
		if why := recover(); why != nil { // ServeMux says so no other way
			err = fmt.Errorf("paywall: the rule %q: %v", pattern, why)
		}
	}()
	rules.Handle(pattern, rule{price})
	return nil
}

// rule is a price in a mux.
type rule struct{ price Price }

// ServeHTTP implements http.Handler; the mux only finds rules, it serves nothing.
func (rule) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

// wall is a middleware.
type wall struct {
	cfg   MiddlewareConfig
	rules *http.ServeMux
	*Memory
}

// price is what a request costs. The rule is found by the path as a handler reads it,
// decoded and without dots, whatever way it was written.
func (w *wall) price(r *http.Request) Price {
	clean := path.Clean("/" + r.URL.Path)
	if strings.HasSuffix(r.URL.Path, "/") && clean != "/" {
		clean += "/"
	}
	at := r.Clone(context.Background())
	at.URL.Path, at.URL.RawPath, at.RequestURI = clean, "", ""
	if h, pattern := w.rules.Handler(at); pattern != "" {
		if found, ok := h.(rule); ok {
			p := found.price.of(r)
			p.rule = pattern
			return p
		}
	}
	return w.cfg.Price.of(r)
}

func (w *wall) serve(rw http.ResponseWriter, r *http.Request, next http.Handler) {
	price, err := w.cfg.Server.fixed(r, w.price(r))
	if err != nil {
		w.cfg.Server.unavailable(&visit{s: w.cfg.Server, w: rw, r: r}, err)
		return
	}
	unpaid := !w.cfg.Server.Pays(r)
	if compactOf(r) == nil {
		rw.Header().Set(HeaderCompact, "1")
	}
	switch {
	case WantsCompact(r):
		w.cfg.Server.Compact(rw, r, CompactConfig{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.serve(rw, r, next) })})
	case price.free() && !unpaid && (r.Method == http.MethodHead || r.Method == http.MethodPost && r.ContentLength == 0):
		if client, ok := w.asks(rw, r); ok {
			w.cfg.Server.AdmitAlone(rw, r, func() { w.unpaid.giveBack(client, w.cfg.Unpaid) }) // a channel can be settled anywhere
		}
	case price.free(), r.Method == http.MethodOptions, unpaid && r.Method != http.MethodHead && w.quota.take(w.cfg.Client(r)):
		next.ServeHTTP(rw, r)
	case wantsSocket(r):
		w.socket(rw, r, next, price, unpaid)
	default:
		w.sell(rw, r, next, price, unpaid)
	}
}

// asks counts a request that may turn out to be unpaid, by its client. false: there were
// too many, and it is answered.
func (w *wall) asks(rw http.ResponseWriter, r *http.Request) (client string, ok bool) {
	client = w.cfg.Client(r)
	ok, wait := w.unpaid.take(client, w.cfg.Unpaid)
	if !ok {
		limited(rw, r, &LimitError{wait})
	}
	return client, ok
}

// mayAsk counts a paid request by its payer. What one limit refuses uses nothing of the
// other. Errors: *LimitError.
func (w *wall) mayAsk(channel string, p Price) error {
	if ok, wait := w.payers.take(channel, w.cfg.Limit); !ok {
		return &LimitError{wait}
	}
	if ok, wait := w.payers.take(channel+" "+p.rule, p.Limit); !ok {
		w.payers.giveBack(channel, w.cfg.Limit)
		return &LimitError{wait}
	}
	return nil
}

// clientOf is the address that a request came from, of an IPv6 address its /64.
func clientOf(r *http.Request) string { return clientAt(r.RemoteAddr) }

func clientAt(addrPort string) string {
	at, err := netip.ParseAddrPort(addrPort)
	if err != nil {
		return ""
	}
	addr := at.Addr().Unmap()
	if addr.Is6() {
		if net, err := addr.WithZone("").Prefix(64); err == nil {
			return net.String()
		}
	}
	return addr.String()
}
