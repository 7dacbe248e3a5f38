package paywall

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payer"
)

const (
	// safeCredential is the longest credential header, in bytes, that T1 travels
	// in; with a larger one the payer broadcasts it and names its id.
	safeCredential = 8 << 10
	// maxRemembered bounds how many challenges and keys are kept in memory.
	maxRemembered = 1024
	// soon is how much of a challenge's life must be left for it to be echoed.
	soon = 5 * time.Second
	// offerLife is how long after its challenge's expiry an opening is still sent
	// for the first time; providers prove their offers for a day.
	offerLife = 12 * time.Hour
	// openAttempts bounds how often an action without an answer is repeated.
	openAttempts = 5
)

// ClientConfig is what a Client needs. Only Payer must be set.
type ClientConfig struct {
	// HTTP sends the requests; default: DefaultHTTP. Its way with redirects is
	// not used: nothing is paid across origins.
	HTTP *http.Client
	// Payer signs and saves.
	Payer *payer.Payer
	// Network is the payer's, such as "regtest". Offers of others are refused.
	Network string
	// Now is the clock; default: time.Now.
	Now func() time.Time
	// Sleep waits; default: a timer. It ends early with the context.
	Sleep func(ctx context.Context, d time.Duration) error
	// Stall is how long a connection may be silent; default: a minute.
	Stall time.Duration
	// Compact lets vouchers, and the answers that they pay for, go over the compact
	// transport where a provider offers it; HTTP is used where that does not get through.
	// CloseIdle closes what is left of it.
	Compact bool
	// Rand is where Idempotency-Keys come from; default: crypto/rand.
	Rand io.Reader
	// Log is told what happens, never a secret; default: nothing.
	Log *slog.Logger
}

// Client pays providers over HTTP. It checks every challenge before anything is
// signed for it, puts a MAC and an Idempotency-Key into every request, and never
// sends a payment to another origin than the one that it was meant for. What is
// signed is decided and saved by the payer; the client only carries it. Its
// methods may be called from many goroutines.
type Client struct {
	cfg   ClientConfig
	net   *transport
	keyOf func(ctx context.Context, id string) ([32]byte, error) // what both ends of a channel share

	compacts compacts

	mu     sync.Mutex
	newest map[string]*Quoted  // by resource
	macs   map[string][32]byte // by channel: what both ends share
}

// NewClient checks the configuration.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Payer == nil || cfg.Network == "" {
		return nil, errors.New("paywall: a client needs a payer and a network")
	}
	return newClient(cfg, cfg.Payer.MACKey), nil
}

func newClient(cfg ClientConfig, keyOf func(context.Context, string) ([32]byte, error)) *Client {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleepTimer
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg, net: newTransport(cfg.HTTP, cfg.Stall), keyOf: keyOf, newest: map[string]*Quoted{}, macs: map[string][32]byte{}}
}

func sleepTimer(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Get fetches something that is free, such as a manifest, of at most limit bytes.
// It follows redirects within the origin only and returns the URL that answered.
// Errors: ErrUnreachable, ErrRedirected, ErrMisbehaved, *RefusedError.
func (c *Client) Get(ctx context.Context, target string, header http.Header, limit int64) (body []byte, at string, err error) {
	return c.net.get(ctx, target, header, limit)
}

// closeAnswer closes a body that was read as far as it is wanted. What a broken
// connection says then is of no interest.
func closeAnswer(body io.Closer) error {
	if err := body.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return unreachable("%w", err)
	}
	return nil
}

// NewKey draws an Idempotency-Key for a request and all its repeats.
func (c *Client) NewKey() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(c.cfg.Rand, b[:]); err != nil {
		return "", fmt.Errorf("no randomness: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// resourceOf names what a challenge is for: a URL without its query.
func resourceOf(target string) (string, error) {
	u, err := url.Parse(target)
	if err != nil || originOf(u) == "" || u.User != nil {
		return "", fmt.Errorf("%w: %q is no http or https URL", ErrNotProvider, target)
	}
	return originOf(u) + u.EscapedPath(), nil
}

// remember keeps the newest challenge of a resource for the next request.
func (c *Client) remember(q *Quoted) {
	name, err := resourceOf(q.URL)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.newest) >= maxRemembered {
		clear(c.newest)
	}
	c.newest[name] = q
}

// recall returns the newest challenge of a resource where it can be echoed still.
func (c *Client) recall(target string) *Quoted {
	name, err := resourceOf(target)
	if err != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.newest[name]
	if q == nil || q.Challenge.Expired(c.cfg.Now().Add(soon)) {
		return nil
	}
	return q
}

func (c *Client) forget(target string) {
	if name, err := resourceOf(target); err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.newest, name)
	}
}

// macKey is a channel's MAC key, derived once.
func (c *Client) macKey(ctx context.Context, id string) ([32]byte, error) {
	c.mu.Lock()
	key, ok := c.macs[id]
	c.mu.Unlock()
	if ok {
		return key, nil
	}
	key, err := c.keyOf(ctx, id)
	if err != nil {
		return key, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.macs) >= maxRemembered {
		clear(c.macs)
	}
	c.macs[id] = key
	return key, nil
}

// credential seals a payload for a challenge and returns the header of the request.
func (c *Client) credential(ctx context.Context, id string, q *Quoted, p bitcoin.Payload, key string, more http.Header) (http.Header, error) {
	mac, err := c.macKey(ctx, id)
	if err != nil {
		return nil, err
	}
	sealed, err := bitcoin.Seal(p, mac, q.Challenge.ID, key)
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	for name, values := range more {
		h[http.CanonicalHeaderKey(name)] = values
	}
	h.Set(q.Challenge.Field(), mpp.Credential{Challenge: q.Challenge, Payload: json.RawMessage(sealed)}.Encode())
	h.Set(mpp.HeaderIdempotencyKey, key)
	return h, nil
}
