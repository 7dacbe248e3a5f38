// Package esplora asks any Esplora HTTP API about the chain: a public one, one's own, or the devnet's.
//
// It trusts the server with what only a full node can know (what is in the best chain, what a mempool holds) and
// with nothing else: a transaction is taken only from bytes that hash to the txid asked for, a spend and a coin
// only when those bytes say the same, answers are bounded in size and parsed strictly, fee rates are clamped. It
// keeps no keys, never follows a redirect to another host, and verifies no proof of work: who must not trust one
// server asks two.
package esplora

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

// Sentinels of this package; both come wrapped in chain.ErrUnavailable where a call fails because of them.
var (
	// ErrConfig says that a Config can't be used; it is New's alone.
	ErrConfig = errors.New("esplora: bad configuration")
	// ErrNetwork says that the server follows another network than Config.Network.
	ErrNetwork = errors.New("esplora: the server follows another network")
	// ErrNonsense says that an answer can't be true: not JSON, too long, or bytes that do not hash to their txid.
	ErrNonsense = errors.New("esplora: nonsense")
)

// Config says which server is asked and how.
type Config struct {
	// URL is the base of the API, http or https, for example https://blockstream.info/api.
	URL string
	// HTTP sends the requests; nil: a client of its own. A client without CheckRedirect gets one that stays on
	// the host.
	HTTP *http.Client
	// Network, when set, is checked against the server's genesis block before anything else is believed.
	Network *chaincfg.Params
	// Timeout bounds one request; 0: 20 seconds.
	Timeout time.Duration
	// Tries is how often a request is sent that a busy server puts off (429, 502, 503, 504); 0: 3.
	Tries int
	// Sleep waits between tries; nil: a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// MinFeeRate and MaxFeeRate clamp FeeRate further than chain.MinFeeRate and chain.MaxFeeRate do; 0: no further.
	MinFeeRate, MaxFeeRate script.FeeRate
}

// Client implements chain.Backend over HTTP. It is safe for concurrent use.
type Client struct {
	cfg  Config
	base string
	http *http.Client

	mu      sync.Mutex
	checked bool // the network is the right one
	blocks  map[chainhash.Hash]chain.Tip
	txs     map[chainhash.Hash]*wire.MsgTx
}

var _ chain.Backend = (*Client)(nil)

// badPort reports whether a URL's port is none; "" is the scheme's.
func badPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return text != "" && (err != nil || n == 0)
}

// New makes a client; it asks the server nothing yet. Errors: ErrConfig.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: URL: %w", ErrConfig, err)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("%w: %q is not the http or https URL of an API", ErrConfig, cfg.URL)
	case badPort(u.Port()):
		return nil, fmt.Errorf("%w: the port of %q is 1 to 65535", ErrConfig, cfg.URL)
	case cfg.MinFeeRate < 0, cfg.MaxFeeRate < 0, cfg.MaxFeeRate > 0 && cfg.MinFeeRate > cfg.MaxFeeRate:
		return nil, fmt.Errorf("%w: fee rates %d to %d", ErrConfig, cfg.MinFeeRate, cfg.MaxFeeRate)
	case cfg.Timeout < 0, cfg.Tries < 0:
		return nil, fmt.Errorf("%w: negative timeout or tries", ErrConfig)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 20 * time.Second
	}
	if cfg.Tries == 0 {
		cfg.Tries = 3
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	if cfg.HTTP != nil {
		own := *cfg.HTTP
		client = &own
	}
	if client.CheckRedirect == nil {
		client.CheckRedirect = sameHost
	}
	return &Client{cfg: cfg, base: u.String(), http: client,
		blocks: map[chainhash.Hash]chain.Tip{}, txs: map[chainhash.Hash]*wire.MsgTx{}}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func sameHost(r *http.Request, via []*http.Request) error {
	if len(via) > 5 || r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
		return errors.New("a redirect leads away from the server")
	}
	return nil
}

// Close drops idle connections. The client can still be used.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// URL is the base of the API that is asked.
func (c *Client) URL() string { return c.base }

// CheckNetwork compares the server's genesis block with Config.Network, once; every other method does so first.
// Errors: ErrNetwork within chain.ErrUnavailable.
func (c *Client) CheckNetwork(ctx context.Context) error {
	c.mu.Lock()
	done := c.checked || c.cfg.Network == nil
	c.mu.Unlock()
	if done {
		return nil
	}
	body, err := c.get(ctx, "/block-height/0", maxText)
	if err != nil {
		return unlessNotFound(err, "it knows no genesis block")
	}
	hash, err := parseHash(string(body))
	if err != nil {
		return err
	}
	if hash != *c.cfg.Network.GenesisHash {
		return fmt.Errorf("%w: %w: its genesis block is %s, that of %s is %s", chain.ErrUnavailable, ErrNetwork, hash,
			c.cfg.Network.Name, c.cfg.Network.GenesisHash)
	}
	c.mu.Lock()
	c.checked = true
	c.mu.Unlock()
	return nil
}

// Capabilities implements chain.Backend.
func (c *Client) Capabilities() chain.Capabilities {
	return chain.Capabilities{Mempool: true, FeeEstimates: true, RejectReasons: true}
}

// IsDevnet says whether the server is a Spillway devnet, which has a faucet and mines by itself.
// Errors: chain.ErrUnavailable when nothing answers.
func (c *Client) IsDevnet(ctx context.Context) (bool, error) {
	body, err := c.get(ctx, "/devnet", maxText)
	var refused *statusError
	switch {
	case errors.Is(err, chain.ErrNotFound), errors.Is(err, ErrNonsense), errors.As(err, &refused) && !errors.Is(err, chain.ErrUnavailable):
		return false, nil
	case err != nil:
		return false, err
	}
	var is struct {
		Devnet string `json:"devnet"`
	}
	return json.Unmarshal(body, &is) == nil && is.Devnet == "spillway", nil
}

// Faucet asks a devnet to pay an amount in satoshi to a script, and gives the txid.
// Errors: chain.ErrRejected, also when the faucet is empty; chain.ErrNotFound on a server that has no faucet;
// chain.ErrUnavailable.
func (c *Client) Faucet(ctx context.Context, pkScript []byte, sat int64) (txid chainhash.Hash, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return txid, err
	}
	var answer struct {
		Txid string `json:"txid"`
	}
	err = c.post(ctx, "/faucet", map[string]any{"script": fmt.Sprintf("%x", pkScript), "sat": sat}, &answer)
	if err != nil {
		return txid, err
	}
	return parseHash(answer.Txid)
}

// Mine asks a devnet for so many blocks. Errors: as Faucet.
func (c *Client) Mine(ctx context.Context, blocks int) error {
	if err := c.CheckNetwork(ctx); err != nil {
		return err
	}
	var answer struct {
		Height uint32 `json:"height"`
	}
	return c.post(ctx, "/mine", map[string]any{"blocks": blocks}, &answer)
}

// post sends a request of the devnet's own, once: a payment that was put off may have been made.
func (c *Client) post(ctx context.Context, path string, ask, answer any) error {
	raw, err := json.Marshal(ask)
	if err != nil {
		return fmt.Errorf("esplora: ask %s: %w", path, err)
	}
	body, _, err := c.once(ctx, http.MethodPost, path, "application/json", raw, maxJSON)
	var refused *statusError
	if errors.As(err, &refused) && !errors.Is(err, chain.ErrUnavailable) {
		return &chain.RejectError{Reason: refused.text}
	}
	if err != nil {
		return err
	}
	return parseJSON(body, answer)
}
