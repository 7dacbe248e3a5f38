// Package forward is a payer's local forward proxy: whatever goes through it is paid,
// as far as the user allowed it, and nothing else is. Files of Spillway's providers
// come through as bytes that were verified; any other resource of the Payment scheme
// is paid by a paywall.Transport.
//
// It decides nothing about money that the user's budgets, the payer's rules and the
// paywall's client do not decide. It never passes on who asked it, and never takes a
// payment over from its client. docs/proxies.md.
package forward

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store"
)

// Config is what a Proxy needs. Client, Buyer, Budgets and Cache must be set.
type Config struct {
	Client  *paywall.Client
	Buyer   *download.Buyer
	Budgets *Budgets
	// Cache is the folder that verified parts of files are kept in.
	Cache string
	// MaxCache is the most that they take on the disk, in bytes, beside what is being served;
	// what was not asked for the longest goes first. 0: nothing stays.
	MaxCache int64
	// Store, where it is set, keeps what is under way: a request that the end of the process
	// cuts off is gone on with by the next one, and what it was charged is paid once.
	Store store.Store
	// MaxPrepay is the most that is paid ahead of what came, and MaxDeposit the most that
	// is locked in one channel, in sat; MaxDeposit 0: 1,000,000.
	MaxPrepay, MaxDeposit uint64
	// Base sends the requests; default: as paywall.DefaultHTTP.
	Base http.RoundTripper
	// Token lets whoever has it in, Users are those whose processes are let in without;
	// TokenOnly: nobody is.
	Token     string
	Users     []uint32
	TokenOnly bool
	// Listen are the addresses that this proxy listens on: it does not ask itself.
	Listen string
	// Fund, where it is set, is asked for coins where the wallet has too few. It reports
	// whether a request is to be tried again.
	Fund func(ctx context.Context) bool
	// Parallel is how many chunks of a file are asked for at once; default 4.
	Parallel int
	// CA, where it is set, answers for allowed https hosts that are asked for by CONNECT.
	CA  *CA
	Log *slog.Logger
}

// Proxy is the handler.
type Proxy struct {
	cfg     Config
	name    string // in Via
	pays    *paywall.Transport
	pass    *httputil.ReverseProxy
	mu      sync.Mutex
	files   map[string]bool         // URLs that turned out to be files
	gates   map[string]*gate        // by origin
	buying  sync.WaitGroup          // blocks of files
	used    map[string]*usedChannel // of files, by id
	tunnel  map[*tunnelled]struct{} // CONNECT
	journal *journal
	cache   *cache
}

// maxFiles bounds how many URLs are remembered as files.
const maxFiles = 1 << 14

// New checks the configuration.
func New(cfg Config) (*Proxy, error) {
	if cfg.Client == nil || cfg.Buyer == nil || cfg.Budgets == nil || cfg.Cache == "" {
		return nil, errors.New("forward: a client, a buyer, budgets and a cache are needed")
	}
	if cfg.Base == nil {
		cfg.Base = paywall.DefaultHTTP().Transport
	}
	if cfg.MaxDeposit == 0 {
		cfg.MaxDeposit = 1_000_000
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = 4
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	p := &Proxy{
		cfg: cfg, name: "spillway-" + hex.EncodeToString(id[:]), files: map[string]bool{}, gates: map[string]*gate{},
		used: map[string]*usedChannel{}, tunnel: map[*tunnelled]struct{}{}, journal: newJournal(cfg.Store, cfg.Log),
		cache: newCache(cfg.Cache, cfg.MaxCache, cfg.Log),
	}
	var err error
	p.pays, err = paywall.NewTransport(paywall.TransportConfig{
		Client: cfg.Client, Hosts: []string{"*"}, MaxPerHost: channel.MaxSat, Left: cfg.Budgets.Left,
		MaxPrepay: cfg.MaxPrepay, MaxDeposit: cfg.MaxDeposit, Check: notFile, Base: cfg.Base, Asking: p.asked,
	})
	if err != nil {
		return nil, err
	}
	p.pass = &httputil.ReverseProxy{
		Rewrite: p.rewrite, Transport: p, FlushInterval: -1, ModifyResponse: p.answer, ErrorHandler: p.failed,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return p, nil
}

// errFile: the resource is a file, which is bought as verified slices.
var errFile = errors.New("it is a file of chunks")

// notFile leaves files to their own way; nothing is signed for them by the transport.
func notFile(q *paywall.Quoted) error {
	if q.Request.MethodDetails.Root != "" {
		return errFile
	}
	return nil
}

// Find takes over what an earlier process left: the channels that mine says are this
// proxy's are used again, and closed when nobody uses them; requests that were cut off go
// on where they were. It is called once, before anything is served. It returns how many
// channels there are.
func (p *Proxy) Find(ctx context.Context, mine func(channel.PayerRecord) bool) (int, error) {
	if err := p.journal.open(ctx); err != nil {
		return 0, err
	}
	return p.pays.Found(ctx, func(r channel.PayerRecord) (bool, uint64) {
		origin := paywall.Origin(r.Origin)
		if !p.cfg.Budgets.Allowed(origin) || !mine(r) {
			return false, 0
		}
		left, cut := p.journal.lost[origin]
		if cut && left.File {
			left.Lost = max(left.Lost, r.Terms.Credit)
		}
		return true, left.Lost
	})
}

type targetKey struct{}

// wanted is what a request is about, for those that it comes by.
type wanted struct {
	url    *url.URL
	origin string
	plain  bool // asked like a server
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := p.mayAsk(r); err != nil {
		w.Header().Set("Proxy-Authenticate", `Basic realm="spillway pay-proxy"`)
		explain(w, r, http.StatusProxyAuthRequired, "This proxy pays for its user alone: "+err.Error()+".")
		return
	}
	if r.Method == http.MethodConnect {
		p.connect(w, r)
		return
	}
	u, plain, err := target(r)
	if plain && fromPage(r) {
		explain(w, r, http.StatusForbidden, "A page of another site may not spend this user's money.")
		return
	}
	if err != nil && plain && r.URL.Path == "/" {
		p.status(w, r)
		return
	}
	if err != nil {
		explain(w, r, http.StatusBadRequest, "Ask for http://HOST/PATH through this proxy, or for /https/HOST/PATH at it.")
		return
	}
	if p.loops(r, u) {
		explain(w, r, http.StatusLoopDetected, "That is this proxy itself.")
		return
	}
	p.serve(w, r, &wanted{url: u, origin: paywall.Origin(u.String()), plain: plain})
}

// loops reports whether a request would come back here.
func (p *Proxy) loops(r *http.Request, u *url.URL) bool {
	for _, via := range r.Header.Values("Via") {
		if strings.Contains(via, p.name) {
			return true
		}
	}
	return u.Host == p.cfg.Listen
}

// serve answers a request for a resource.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, q *wanted) {
	r = r.WithContext(context.WithValue(r.Context(), targetKey{}, q))
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if reads && p.cfg.Budgets.Allowed(q.origin) && !paysItself(r) && q.url.RawQuery == "" {
		switch p.isFile(q.url.String()) {
		case true:
			if p.file(w, r, q) {
				return
			}
			p.remember(q.url.String(), false) // it is none any more
		default:
		}
	}
	if asksForSocket(r) && p.cfg.Budgets.Allowed(q.origin) && !paysItself(r) && p.socket(w, r, q) {
		return
	}
	p.pass.ServeHTTP(w, r)
}

func (p *Proxy) isFile(u string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.files[u]
}

func (p *Proxy) remember(u string, file bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if delete(p.files, u); !file {
		return
	}
	if len(p.files) >= maxFiles {
		clear(p.files) // each is found out again by one request
	}
	p.files[u] = true
}

// gate is an origin's.
func (p *Proxy) gate(origin string) *gate {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gates[origin]
	if g == nil {
		g = newGate()
		p.gates[origin] = g
	}
	return g
}

// rewrite makes the request that leaves.
func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	q := pr.In.Context().Value(targetKey{}).(*wanted)
	u := *q.url
	pr.Out.URL, pr.Out.Host = &u, u.Host
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := pr.In.Header[name]; ok {
			pr.Out.Header[name] = values // nothing is hidden from the origin, and nothing added
		}
	}
	pr.Out.Header.Del("Proxy-Authorization")
	pr.Out.Header.Add("Via", "1.1 "+p.name)
}

// RoundTrip sends a request, and pays for it where that is allowed.
func (p *Proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.Context().Value(targetKey{}).(*wanted)
	switch {
	case !p.cfg.Budgets.Allowed(q.origin):
		return p.unpaid(r, fmt.Sprintf("This proxy paid nothing: %s is not on its allow-list. Start it with --allow %s=BUDGET to let it pay there.", hostOf(q.origin), hostOf(q.origin)))
	case r.Header.Get("Upgrade") != "", paysItself(r):
		return p.unpaid(r, "This proxy pays for no request that pays itself, and for none that switches to another protocol than WebSocket.")
	case r.Method == http.MethodHead || r.Method == http.MethodOptions:
		return p.unpaid(r, "This proxy pays for no "+r.Method+": the answer has nothing in it that could be sold.")
	}
	g := p.gate(q.origin)
	if err := g.enter(r.Context(), false); err != nil {
		return nil, err
	}
	r, asked := p.begins(r, q.origin)
	resp, err := p.paid(r)
	if err != nil {
		asked.ends()
		g.leave(false)
		return nil, err
	}
	resp.Body = &gated{bodyReader: resp.Body, leave: sync.OnceFunc(func() {
		asked.ends()
		g.leave(false)
	})}
	return resp, nil
}

// paysItself reports whether a client brings a payment of its own, or says that it could:
// that is its affair.
func paysItself(r *http.Request) bool {
	scheme, _, _ := strings.Cut(strings.TrimSpace(r.Header.Get(mpp.HeaderCredential)), " ")
	return strings.EqualFold(scheme, "payment") || r.Header.Get(mpp.HeaderAlternateCredential) != "" || r.Header.Get(mpp.HeaderAccept) != ""
}

// gated is an answer's body that holds its origin's gate.
type gated struct {
	bodyReader
	leave func()
}

type bodyReader = interface {
	Read(p []byte) (int, error)
	Close() error
}

// Close implements io.Closer.
func (g *gated) Close() error {
	defer g.leave()
	return g.bodyReader.Close()
}

// paid sends a request that may be paid, once more where the wallet had to be filled.
func (p *Proxy) paid(r *http.Request) (*http.Response, error) {
	resp, err := p.pays.RoundTrip(r)
	if err == nil || !lacksCoins(err) || r.Method != http.MethodGet || p.cfg.Fund == nil || !p.cfg.Fund(r.Context()) {
		return resp, err
	}
	return p.pays.RoundTrip(r)
}

// unpaid sends a request without a payment; where it is asked for one the answer says
// why there is none.
func (p *Proxy) unpaid(r *http.Request, why string) (*http.Response, error) {
	resp, err := p.cfg.Base.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols && resp.Header.Get(paywall.HeaderSocket) != "" && r.Header.Get(paywall.HeaderSocket) == "" && !paysItself(r) {
		return unmetered(resp, why), nil
	}
	if err != nil || resp.StatusCode != http.StatusPaymentRequired {
		return resp, err
	}
	return decorate(resp, why), nil
}

// answer looks at what came: a file that is given away comes verified too, and a
// redirect of a resource that was asked for here stays here.
func (p *Proxy) answer(resp *http.Response) error {
	q := resp.Request.Context().Value(targetKey{}).(*wanted)
	reads := resp.Request.Method == http.MethodGet || resp.Request.Method == http.MethodHead
	if reads && q.url.RawQuery == "" && p.cfg.Budgets.Allowed(q.origin) && offersFile(resp) {
		return errFile
	}
	if q.plain {
		secludes(resp, q)
	}
	return nil
}

// offersFile reports whether an answer is about a file that is sold in chunks.
func offersFile(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusPaymentRequired, http.StatusNotModified:
	default:
		return false
	}
	link := strings.Join(resp.Header.Values("Link"), ",")
	return strings.HasPrefix(resp.Header.Get("ETag"), `"b3-`) && strings.Contains(link, `?manifest>; rel="describedby"`)
}

// failed answers where there is no answer to pass on.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	q := r.Context().Value(targetKey{}).(*wanted)
	if reads := r.Method == http.MethodGet || r.Method == http.MethodHead; errors.Is(err, errFile) && (!reads || q.url.RawQuery != "") {
		p.again402(w, r, "This proxy pays for files that are asked for by GET at their own address, and not by a query.")
		return
	}
	if errors.Is(err, errFile) {
		in := r.WithContext(context.WithValue(r.Context(), targetKey{}, q))
		p.remember(q.url.String(), true)
		if !p.file(w, in, q) {
			explain(w, r, http.StatusBadGateway, "This file's manifest cannot be read. Nothing was paid.")
		}
		return
	}
	p.refuse(w, r, err)
}

// refuse says why a request has no answer. What was refused for money is a 402.
func (p *Proxy) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody waits for it
	}
	status, why := meaning(err)
	p.cfg.Log.Info("a request has no answer", "url", r.URL.Redacted(), "status", status, "error", err)
	if status == http.StatusPaymentRequired {
		p.again402(w, r, why)
		return
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	}
	explain(w, r, status, why)
}

// again402 passes on the origin's own 402, asked for once more, with an explanation.
func (p *Proxy) again402(w http.ResponseWriter, r *http.Request, why string) {
	q := r.Context().Value(targetKey{}).(*wanted)
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.url.String(), nil)
	if err == nil && r.Method == http.MethodGet {
		if resp, err := p.cfg.Base.RoundTrip(req); err == nil {
			for _, ch := range resp.Header.Values(mpp.HeaderChallenge) {
				w.Header().Add(mpp.HeaderChallenge, ch)
			}
			if err := resp.Body.Close(); err != nil {
				p.cfg.Log.Debug("an answer did not close", "error", err)
			}
		}
	}
	explain(w, r, http.StatusPaymentRequired, why)
}

// status tells the user what may be paid and what was.
func (p *Proxy) status(w http.ResponseWriter, r *http.Request) {
	raw, err := json.Marshal(p.cfg.Budgets.Status())
	if err != nil {
		explain(w, r, http.StatusInternalServerError, "The status cannot be written.")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if _, err := w.Write(append(raw, '\n')); err != nil {
		return // the client is gone
	}
}
