// Package bitcoind asks one's own Bitcoin node (Bitcoin Core or a node with the same RPC) about the chain, over
// JSON-RPC: archival or pruned, with or without -txindex.
//
// A bitcoind has no index by script and none of spends. So this package asks what the node knows at once (its set of
// unspent outputs, its mempool) and looks through blocks for the rest: the newest Config.Window of them, each
// summarized once in a Bloom filter and read again only where that says so. What lies before the window is found
// while it is unspent, and is said to be out of reach otherwise: ErrBeyond. Everything is keyed by block hashes, so
// that a reorg makes nothing stale. Nothing is kept on disk.
//
// It never makes a wallet in the node, imports nothing into one, and keeps no keys. It trusts the node as its
// owner's, and still takes a transaction only from bytes that hash to its txid, bounds every answer and clamps fee
// rates.
package bitcoind

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
	"github.com/spillway/spillway/script"
)

// Sentinels of this package; all but ErrConfig come wrapped in chain.ErrUnavailable.
var (
	// ErrConfig says that a Config or a URL can't be used.
	ErrConfig = errors.New("bitcoind: bad configuration")
	// ErrNetwork says that the node follows another network than Config.Network.
	ErrNetwork = errors.New("bitcoind: the node follows another network")
	// ErrNonsense says that an answer can't be true, or is none.
	ErrNonsense = errors.New("bitcoind: nonsense")
	// ErrAuth says that the node takes neither the cookie nor the password.
	ErrAuth = errors.New("bitcoind: the node refuses the credentials")
	// ErrBeyond says that the answer lies in a block that is older than the window, or pruned.
	ErrBeyond = errors.New("bitcoind: the block is older than what is looked through")
)

// Defaults of Config.
const (
	DefaultWindow  = 4_320 // blocks, thirty days: twice the longest channel
	defaultTimeout = 30 * time.Second
	defaultScan    = 20 * time.Minute
	defaultMempool = 5 * time.Second
)

// Config says which node is asked and how.
type Config struct {
	// URL is the node's RPC endpoint, http or https, without credentials: http://127.0.0.1:8332.
	URL string
	// User and Password are those of -rpcauth or -rpcuser; Cookie is the path of the node's .cookie file, read again
	// whenever the node refuses what it said before. One of the two must be set.
	User, Password, Cookie string
	// Network, when set, is checked against the node's genesis block before anything else is believed.
	Network *chaincfg.Params
	// Window is how many of the newest blocks are looked through; 0: DefaultWindow, on regtest a million.
	Window uint32
	// Birthday is a height before which nothing of interest is on the chain: no older block is looked through, and
	// the set of unspent outputs is not searched. 0: unknown.
	Birthday uint32
	// MempoolEvery is the least time between two looks at the mempool by script; 0: 5 seconds, on regtest none. What
	// is asked by txid or outpoint is always as of now.
	MempoolEvery time.Duration
	// Timeout bounds one call; 0: 30 seconds. ScanTimeout bounds a search of the set of unspent outputs, which takes
	// minutes on mainnet; 0: 20 minutes.
	Timeout, ScanTimeout time.Duration
	// HTTP sends the requests; nil: a client of its own, which follows no redirect.
	HTTP *http.Client
	// Now is the clock of MempoolEvery; nil: time.Now.
	Now func() time.Time
	// MinFeeRate and MaxFeeRate clamp FeeRate further than chain.MinFeeRate and chain.MaxFeeRate do; 0: no further.
	MinFeeRate, MaxFeeRate script.FeeRate
	// Logger is told of long searches; nil: nobody.
	Logger *slog.Logger
}

// Client implements chain.Backend, chain.PackageSubmitter, chain.HealthChecker and chain.ScriptWatcher over
// JSON-RPC. It is safe for concurrent use.
type Client struct {
	cfg Config
	rpc *rpc

	mu      sync.Mutex
	checked bool // the network is the right one

	turn chan struct{} // holds one value: who looks through blocks, one at a time
	win  window
	pool mempool
	// moved says that this client sent something since the last look at the mempool.
	moved atomic.Bool
	// coins are, by script, the outputs that were ever found; old marks the scripts whose coins before the window
	// are among them.
	coins map[string]map[wire.OutPoint]candidate
	old   map[string]bool
}

var (
	_ chain.Backend          = (*Client)(nil)
	_ chain.PackageSubmitter = (*Client)(nil)
	_ chain.HealthChecker    = (*Client)(nil)
	_ chain.ScriptWatcher    = (*Client)(nil)
)

// New makes a client; it asks the node nothing yet. Errors: ErrConfig.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.User == "" && cfg.Cookie == "":
		return nil, fmt.Errorf("%w: neither a user nor a cookie file", ErrConfig)
	case cfg.User != "" && cfg.Cookie != "":
		return nil, fmt.Errorf("%w: a user and a cookie file", ErrConfig)
	case cfg.MinFeeRate < 0, cfg.MaxFeeRate < 0, cfg.MaxFeeRate > 0 && cfg.MinFeeRate > cfg.MaxFeeRate:
		return nil, fmt.Errorf("%w: fee rates %d to %d", ErrConfig, cfg.MinFeeRate, cfg.MaxFeeRate)
	case cfg.Timeout < 0, cfg.ScanTimeout < 0, cfg.MempoolEvery < 0:
		return nil, fmt.Errorf("%w: a negative time", ErrConfig)
	}
	regtest := cfg.Network != nil && cfg.Network.Name == chaincfg.RegressionNetParams.Name
	if cfg.Window == 0 && regtest {
		cfg.Window = 1 << 20
	}
	if cfg.MempoolEvery == 0 && !regtest {
		cfg.MempoolEvery = defaultMempool
	}
	cfg.Window = orDefault(cfg.Window, DefaultWindow)
	cfg.Timeout = orDefault(cfg.Timeout, defaultTimeout)
	cfg.ScanTimeout = orDefault(cfg.ScanTimeout, defaultScan)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := newRPC(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, rpc: r, turn: make(chan struct{}, 1), win: newWindow(), pool: newMempool(),
		coins: map[string]map[wire.OutPoint]candidate{}, old: map[string]bool{}}
	c.turn <- struct{}{}
	return c, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// String names the node without its credentials.
func (c *Client) String() string { return c.rpc.name }

// Close drops idle connections. The client can still be used.
func (c *Client) Close() error {
	c.rpc.http.CloseIdleConnections()
	return nil
}

// take waits for the turn to look through blocks; the returned function gives it back.
func (c *Client) take(ctx context.Context) (func(), error) {
	select {
	case <-ctx.Done():
		return nil, said.Unavailable("wait", ctx.Err())
	case <-c.turn:
		return func() { c.turn <- struct{}{} }, nil
	}
}

// CheckNetwork compares the node's genesis block with Config.Network, once; every other method does so first.
// Errors: ErrNetwork within chain.ErrUnavailable.
func (c *Client) CheckNetwork(ctx context.Context) error {
	c.mu.Lock()
	done := c.checked || c.cfg.Network == nil
	c.mu.Unlock()
	if done {
		if err := ctx.Err(); err != nil {
			return said.Unavailable("begin", err)
		}
		return nil
	}
	var text string
	if err := c.rpc.call(ctx, &text, "getblockhash", 0); err != nil {
		return said.Failed(err)
	}
	hash, err := parseHash(text)
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
	return chain.Capabilities{Mempool: true, FeeEstimates: true, RejectReasons: true, Packages: true}
}

// blockInfo is what is asked of a header.
type blockInfo struct {
	Hash   string `json:"hash"`
	Height *int64 `json:"height"`
	Time   int64  `json:"time"`
}

// Tip implements chain.Backend.
func (c *Client) Tip(ctx context.Context) (tip chain.Tip, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return tip, err
	}
	var text string
	if err := c.rpc.call(ctx, &text, "getbestblockhash"); err != nil {
		return tip, said.Failed(err)
	}
	hash, err := parseHash(text)
	if err != nil {
		return tip, err
	}
	return c.header(ctx, hash)
}

// header is a block's height and time; a block that the node does not know is nonsense.
func (c *Client) header(ctx context.Context, hash chainhash.Hash) (tip chain.Tip, err error) {
	var b blockInfo
	if err := c.rpc.call(ctx, &b, "getblockheader", hash.String()); err != nil {
		return tip, said.Failed(err)
	}
	if b.Height == nil || *b.Height < 0 || *b.Height > 1<<32-1 || b.Time < 0 {
		return tip, nonsense("block %s has no height or time", hash)
	}
	return chain.Tip{Height: uint32(*b.Height), Hash: hash, Time: time.Unix(b.Time, 0)}, nil
}

// codes of the node's RPC errors that mean something here.
const (
	codeParameter = -8 // a height beyond the tip
	codeNotFound  = -5
	codeWarmup    = -28
)

// BlockHash implements chain.Backend.
func (c *Client) BlockHash(ctx context.Context, height uint32) (hash chainhash.Hash, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return hash, err
	}
	if height > 1<<31-1 {
		return hash, fmt.Errorf("%w: no block at height %d", chain.ErrNotFound, height)
	}
	var text string
	err = c.rpc.call(ctx, &text, "getblockhash", height)
	if isCode(err, codeParameter) {
		return hash, fmt.Errorf("%w: no block at height %d", chain.ErrNotFound, height)
	}
	if err != nil {
		return hash, said.Failed(err)
	}
	return parseHash(text)
}
