package paywall

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
)

// What a Transport refuses to pay. Both come wrapped in a *PaymentError.
var (
	// ErrNotAllowed: the host asks to be paid and is not on the allow-list.
	ErrNotAllowed = errors.New("this host may not be paid")
	// ErrDeposit: the provider takes no channel as small as the largest that is allowed.
	ErrDeposit = errors.New("the provider wants a larger deposit than is allowed")
	// ErrReplaced: an answer broke off, and its repeat is another one. What was read is
	// paid; the request has to be made anew.
	ErrReplaced = errors.New("the answer broke off and cannot be gone on with: it has changed")
	// ErrBody: a request has to be repeated, and its body cannot be read again.
	ErrBody = errors.New("the request's body cannot be sent again")
	// ErrAuthorization: a request has an Authorization of its own, where the payment goes.
	ErrAuthorization = errors.New("the request has an Authorization of its own; the payment needs the field")
	// ErrClosed: the transport is closed.
	ErrClosed = errors.New("the paying transport is closed")
)

// PaymentError is a request that was not paid, or not to the end. Err says why:
// ErrNotAllowed, ErrDeposit, channel.ErrBudget, channel.ErrPrepay, channel.ErrTerms,
// wallet.ErrInsufficient, ErrPriceChanged, ErrMisbehaved, ErrGone, ErrUnreachable and
// their like.
type PaymentError struct {
	URL     string
	Channel string // id; "" where it did not come to one
	Err     error
}

func (e *PaymentError) Error() string {
	if e.Channel == "" {
		return fmt.Sprintf("payment for %s: %v", e.URL, e.Err)
	}
	return fmt.Sprintf("payment for %s on channel %s: %v", e.URL, e.Channel, e.Err)
}

// Unwrap gives the reason.
func (e *PaymentError) Unwrap() error { return e.Err }

// TransportConfig is what a Transport may do. Client and MaxPerHost must be set, and
// Hosts: nothing is paid to a host that is not named.
type TransportConfig struct {
	Client *Client
	// Hosts may be paid: host names with a port where it is not the scheme's own
	// ("api.example", "127.0.0.1:8402"), or patterns of path.Match such as "*.example".
	Hosts []string
	// MaxPerHost is the most that is signed to one origin by this transport, in sat,
	// over all channels with it.
	MaxPerHost uint64
	// Left, where it is set, is what may still be signed to an origin, in sat, by whatever
	// else counts; MaxPerHost stays the most.
	Left func(origin string) uint64
	// MaxPrepay is the most that is paid ahead of what has come, in sat; 0: nothing is.
	MaxPrepay uint64
	// Deposit is what is locked in a new channel, in sat; default: MaxPerHost and dust,
	// within what the provider takes. What is not spent comes back.
	Deposit uint64
	// MaxDeposit is the most that is locked in a channel, in sat; default 1,000,000.
	MaxDeposit uint64
	// Construction is the kind of channel; default: the provider's first choice.
	Construction script.Construction
	// Asking, where it is set, is told of each request before its payment leaves, so that
	// what is under way when the process is killed can be found again; where it fails
	// nothing leaves. It is asked again for each repeat.
	Asking func(context.Context, Asked) error
	// Check, where it is set, has a say about each quote before anything is signed.
	Check func(*Quoted) error
	// Base sends the requests; default: what the Client sends with.
	Base http.RoundTripper
	// MaxBody is how many bytes of a request's body are kept to send it again, where
	// the request cannot say it again itself; default 1 MiB.
	MaxBody int64
	// Stall is how long a stream of events may say nothing before it counts as broken and
	// is gone on with; default a minute. Providers say something every 15 seconds.
	Stall time.Duration
	// Retries is how often a request without an answer, or an answer that broke off, is
	// repeated; default 4.
	Retries int
}

// Transport is an http.RoundTripper that pays: it meets a 402, opens a channel within
// its budget or uses one that is open, pays and repeats the request. Every request
// carries an Idempotency-Key, its own or the caller's, so that a repeat is never paid
// twice. An answer that is charged by the byte or chunk is paid as it is read, and one
// that breaks off is fetched again and gone on with. Its methods may be called from many
// goroutines.
//
// An answer that is charged by the request is owed once its header has come. Where a
// caller leaves an answer, up to the credit may be paid for what was under way.
type Transport struct {
	cfg  TransportConfig
	c    *Client
	base http.RoundTripper

	mu       sync.Mutex
	accounts map[string]*account // by origin
	closed   bool
	pushes   sync.WaitGroup
}

// NewTransport checks the configuration.
func NewTransport(cfg TransportConfig) (*Transport, error) {
	if cfg.Client == nil || cfg.Client.cfg.Payer == nil || cfg.MaxPerHost == 0 {
		return nil, errors.New("paywall: a transport needs a client and a budget for each host")
	}
	for _, p := range cfg.Hosts {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("paywall: the host %q: %w", p, err)
		}
	}
	if cfg.MaxDeposit == 0 {
		cfg.MaxDeposit = 1_000_000
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.Retries <= 0 {
		cfg.Retries = 4
	}
	byDefault(&cfg.Stall, time.Minute)
	t := &Transport{cfg: cfg, c: cfg.Client, base: cfg.Base, accounts: map[string]*account{}}
	if t.base == nil {
		t.base = cfg.Client.net.http.Transport
	}
	if t.base == nil {
		t.base = http.DefaultTransport
	}
	return t, nil
}

// allowed reports whether a host may be paid.
func (t *Transport) allowed(host string) bool {
	host = strings.ToLower(host)
	for _, p := range t.cfg.Hosts {
		if ok, err := path.Match(strings.ToLower(p), host); ok && err == nil {
			return true
		}
	}
	return false
}

// account is what is known of one origin.
type account struct {
	t       *Transport
	origin  string
	opening chan struct{} // holds a token while nobody chooses or opens a channel

	mu      sync.Mutex
	known   bool
	limit   uint64            // sat, of what is signed in all channels together
	signed  map[string]uint64 // sat, by channel
	lanes   map[string]*lane
	current *lane
}

func (t *Transport) account(origin string) (*account, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	a := t.accounts[origin]
	if a == nil {
		a = &account{t: t, origin: origin, opening: make(chan struct{}, 1), signed: map[string]uint64{}, lanes: map[string]*lane{}}
		a.opening <- struct{}{}
		t.accounts[origin] = a
	}
	return a, nil
}

// recall reads what was signed to the origin before: the budget counts from there.
func (a *account) recall(records []channel.PayerRecord) {
	a.mu.Lock()
	defer a.mu.Unlock()
	sum := uint64(0)
	for _, r := range records {
		if Origin(r.Origin) != a.origin {
			continue
		}
		if _, ok := a.signed[r.Terms.ID()]; !ok {
			a.signed[r.Terms.ID()] = r.Signed
		}
		sum += r.Signed
	}
	if !a.known {
		a.known, a.limit = true, sum+min(a.t.cfg.MaxPerHost, channel.MaxSat)
	}
}

// left is what may still be signed to the origin, and limits what that means for one
// channel, in sat.
func (a *account) left() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	sum := uint64(0)
	for _, n := range a.signed {
		sum += n
	}
	left := a.limit - min(a.limit, sum)
	if a.t.cfg.Left != nil {
		left = min(left, a.t.cfg.Left(a.origin))
	}
	return left
}

func (a *account) limits(l *lane, prepay uint64) channel.Limits {
	left := a.left()
	a.mu.Lock()
	defer a.mu.Unlock()
	return channel.Limits{Budget: a.signed[l.id] + left, Prepay: prepay}
}

func (a *account) spent(id string, signed uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.signed[id] = max(a.signed[id], signed)
}

// tariff is a quote as the payer counts it.
type tariff struct {
	msat, per uint64 // msat for per units
	unit      string
	unitBytes uint64
	credit    uint64 // msat, by the quote
}

// tariffOf reads a quote's price. Errors: ErrMisbehaved for one that cannot be counted.
func tariffOf(q *Quoted) (tariff, error) {
	d := q.Request.MethodDetails
	t := tariff{msat: q.Request.Amount * 1000, per: d.UnitsPerAmount, unit: q.Request.UnitType, unitBytes: d.UnitBytes, credit: d.CreditMsat}
	switch {
	case q.Request.Amount > channel.MaxSat || t.per == 0:
		return t, misbehaved("its price is out of range")
	case slices.Contains(units, t.unit) && (t.unit != bitcoin.UnitChunk || t.unitBytes > 0):
		return t, nil
	}
	return t, fmt.Errorf("%w: it is sold by the %s, which an http.Client cannot count", ErrNotProvider, t.unit)
}

// cost is what so many units cost, in msat, rounded up.
func (t tariff) cost(units uint64) uint64 {
	hi, lo := bits.Mul64(units, t.msat)
	if hi >= t.per {
		return bitcoin.MaxMsat
	}
	n, rest := bits.Div64(hi, lo, t.per)
	if rest > 0 {
		n++
	}
	return min(n, bitcoin.MaxMsat)
}

// first is what a request is charged before anything of its answer comes, in msat.
func (t tariff) first() uint64 {
	switch t.unit {
	case bitcoin.UnitByte:
		if t.credit == 0 {
			return t.cost(maxBlock)
		}
		return t.cost(blockOf(t.buys(t.credit/4), t.buys(maxTrifle)))
	}
	return t.cost(1)
}

// buys is how many units an amount (msat) is the price of.
func (t tariff) buys(msat uint64) uint64 {
	hi, lo := bits.Mul64(msat, t.per)
	if hi >= t.msat {
		return 1 << 53
	}
	n, _ := bits.Div64(hi, lo, t.msat)
	return min(n, 1<<53)
}

// ahead is what has to be paid before it comes, beyond the credit, in msat.
func (t tariff) ahead() uint64 {
	first := t.first()
	return first - min(first, t.credit)
}

func (t *Transport) fail(target, id string, err error) error {
	var already *PaymentError
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &already) {
		return err
	}
	return &PaymentError{URL: target, Channel: id, Err: err}
}
