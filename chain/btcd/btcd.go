// Package btcd asks one's own btcd about the chain, by RPC over a websocket.
//
// A btcd keeps committed filters (BIP 158) of all blocks unless it is told not to. So this package asks what the node
// knows at once (its set of unspent outputs, its mempool, its index of transactions where it has one) and finds the
// rest by those filters: the blocks that pay or spend a script are read, the others are not. A script that is new
// here is looked for in the newest Config.Window blocks, or from Config.Birthday on. Nothing is kept on disk.
//
// It never uses the node's wallet and keeps no keys. It trusts the node as its owner's, and still takes a transaction
// only from bytes that hash to its txid and a block only whole, and clamps fee rates.
package btcd

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcutil/v2/gcs"
	"github.com/btcsuite/btcd/btcutil/v2/gcs/builder"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
	"github.com/spillway/spillway/chain/internal/scan"
	"github.com/spillway/spillway/script"
)

// Sentinels of this package; all but ErrConfig come wrapped in chain.ErrUnavailable.
var (
	// ErrConfig says that a Config or a URL can't be used.
	ErrConfig = errors.New("btcd: bad configuration")
	// ErrNetwork says that the node follows another network than Config.Network.
	ErrNetwork = errors.New("btcd: the node follows another network")
	// ErrNonsense says that an answer can't be true, or is none.
	ErrNonsense = errors.New("btcd: nonsense")
	// ErrAuth says that the node refuses the user or the password.
	ErrAuth = errors.New("btcd: the node refuses the credentials")
	// ErrCertificate says that the node's TLS certificate is not the one of Config.CertFile, or no TLS is spoken.
	ErrCertificate = errors.New("btcd: the certificate of the node's RPC is not the one that was named")
	// ErrNoFilters says that the node was started with --nocfilters.
	ErrNoFilters = errors.New("btcd: the node keeps no committed filters")
)

// Defaults of Config.
const (
	DefaultWindow  = 4_320 // blocks, thirty days: twice the longest channel
	defaultTimeout = 30 * time.Second
	defaultMempool = 5 * time.Second
)

// Config says which node is asked and how.
type Config struct {
	// Address is the host and port of the node's RPC: 127.0.0.1:8334.
	Address string
	// User and Password are those of --rpcuser and --rpcpass, or of --rpclimituser: no call needs more.
	User, Password string
	// CertFile is the path of the node's rpc.cert, read at each connection; "": the system's authorities are
	// believed. Plain speaks no TLS at all, for a node on this machine that was started with --notls.
	CertFile string
	Plain    bool
	// Network, when set, is checked against the node's genesis block before anything else is believed.
	Network *chaincfg.Params
	// Window is how many of the newest blocks are looked through for a script; 0: DefaultWindow, on regtest a
	// million. Birthday, when set, is the height from which on they are instead: nothing of interest is on the
	// chain before.
	Window, Birthday uint32
	// Version3 says that the node relays transactions of version 3: btcd 0.26 does so only with --relaynonstd.
	Version3 bool
	// MempoolEvery is the least time between two looks at the mempool by script; 0: 5 seconds, on regtest none. What
	// is asked by txid or outpoint is always as of now.
	MempoolEvery time.Duration
	// Timeout bounds one call; 0: 30 seconds.
	Timeout time.Duration
	// Now is the clock of MempoolEvery; nil: time.Now.
	Now func() time.Time
	// MinFeeRate and MaxFeeRate clamp FeeRate further than chain.MinFeeRate and chain.MaxFeeRate do; 0: no further.
	MinFeeRate, MaxFeeRate script.FeeRate
	// Logger is told of long searches; nil: nobody.
	Logger *slog.Logger
}

// Client implements chain.Backend, chain.HealthChecker, chain.ScriptWatcher and chain.ScriptHinter. It is safe for
// concurrent use.
type Client struct {
	cfg  Config
	rpc  *rpc
	scan *scan.Scanner
	pool mempool

	mu      sync.Mutex
	checked bool // the network is the right one
	top     chain.Tip
}

var (
	_ chain.Backend       = (*Client)(nil)
	_ chain.HealthChecker = (*Client)(nil)
	_ chain.ScriptWatcher = (*Client)(nil)
	_ chain.ScriptHinter  = (*Client)(nil)
)

// New makes a client; it connects at the first question. Errors: ErrConfig.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.Address == "":
		return nil, fmt.Errorf("%w: no address", ErrConfig)
	case cfg.User == "" || cfg.Password == "":
		return nil, fmt.Errorf("%w: no user or no password", ErrConfig)
	case cfg.Plain && cfg.CertFile != "":
		return nil, fmt.Errorf("%w: a certificate without TLS", ErrConfig)
	case cfg.MinFeeRate < 0, cfg.MaxFeeRate < 0, cfg.MaxFeeRate > 0 && cfg.MinFeeRate > cfg.MaxFeeRate:
		return nil, fmt.Errorf("%w: fee rates %d to %d", ErrConfig, cfg.MinFeeRate, cfg.MaxFeeRate)
	case cfg.Timeout < 0, cfg.MempoolEvery < 0:
		return nil, fmt.Errorf("%w: a negative time", ErrConfig)
	}
	regtest := cfg.regtest()
	if cfg.Window == 0 && regtest {
		cfg.Window = 1 << 20
	}
	if cfg.MempoolEvery == 0 && !regtest {
		cfg.MempoolEvery = defaultMempool
	}
	cfg.Window = cmp.Or(cfg.Window, DefaultWindow)
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, rpc: newRPC(cfg), pool: newMempool()}
	c.scan = scan.New(scan.Config{Source: source{c}, Window: cfg.Window, Birthday: cfg.Birthday, Logger: cfg.Logger})
	return c, nil
}

func (cfg Config) regtest() bool {
	return cfg.Network != nil && (cfg.Network.Name == chaincfg.RegressionNetParams.Name || cfg.Network.Name == chaincfg.SimNetParams.Name)
}

// String names the node without its credentials.
func (c *Client) String() string { return Scheme + "://" + c.cfg.Address }

// Close ends the connection. The client can't be used any more.
func (c *Client) Close() error {
	c.rpc.close()
	return nil
}

// Capabilities implements chain.Backend.
func (c *Client) Capabilities() chain.Capabilities {
	return chain.Capabilities{Mempool: true, FeeEstimates: true, RejectReasons: true, NoVersion3: !c.cfg.Version3}
}

// CheckNetwork compares the node's genesis block with Config.Network, once; every other method does so first.
// Errors: ErrNetwork within chain.ErrUnavailable.
func (c *Client) CheckNetwork(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return said.Unavailable("begin", err)
	}
	c.mu.Lock()
	done := c.checked || c.cfg.Network == nil
	c.mu.Unlock()
	if done {
		return nil
	}
	hash, err := c.blockHash(ctx, 0)
	if err != nil {
		return said.Failed(err)
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

// Tip implements chain.Backend.
func (c *Client) Tip(ctx context.Context) (tip chain.Tip, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return tip, err
	}
	var best struct {
		Hash   string `json:"hash"`
		Height *int64 `json:"height"`
	}
	if err := c.rpc.call(ctx, &best, "getbestblock"); err != nil {
		return tip, said.Failed(err)
	}
	hash, err := parseHash(best.Hash)
	if err != nil {
		return tip, err
	}
	if best.Height == nil || *best.Height < 0 || *best.Height > 1<<31-1 {
		return tip, nonsense("the newest block has no height")
	}
	c.mu.Lock()
	top := c.top
	c.mu.Unlock()
	if top.Hash == hash && top.Height == uint32(*best.Height) {
		return top, nil
	}
	header, err := c.header(ctx, hash)
	if err != nil {
		return tip, err
	}
	tip = chain.Tip{Height: uint32(*best.Height), Hash: hash, Time: header.Timestamp}
	c.mu.Lock()
	c.top = tip
	c.mu.Unlock()
	return tip, nil
}

func (c *Client) header(ctx context.Context, hash chainhash.Hash) (h wire.BlockHeader, err error) {
	var raw string
	if err := c.rpc.call(ctx, &raw, "getblockheader", hash.String(), false); err != nil {
		return h, said.Failed(err)
	}
	if err := h.Deserialize(hex.NewDecoder(strings.NewReader(raw))); err != nil || h.BlockHash() != hash {
		return h, nonsense("the header of block %s", hash)
	}
	return h, nil
}

// BlockHash implements chain.Backend.
func (c *Client) BlockHash(ctx context.Context, height uint32) (hash chainhash.Hash, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return hash, err
	}
	return c.blockHash(ctx, height)
}

func (c *Client) blockHash(ctx context.Context, height uint32) (hash chainhash.Hash, err error) {
	if height > 1<<31-1 {
		return hash, fmt.Errorf("%w: no block at height %d", chain.ErrNotFound, height)
	}
	var text string
	err = c.rpc.call(ctx, &text, "getblockhash", height)
	if isCode(err, codeRange) {
		return hash, fmt.Errorf("%w: no block at height %d", chain.ErrNotFound, height)
	}
	if err != nil {
		return hash, said.Failed(err)
	}
	return parseHash(text)
}

// source shows the node to the scanner.
type source struct{ c *Client }

// Tip implements scan.Source.
func (s source) Tip(ctx context.Context) (chain.Tip, error) { return s.c.Tip(ctx) }

// BlockHashes implements scan.Source.
func (s source) BlockHashes(ctx context.Context, from uint32, count int) ([]chainhash.Hash, error) {
	asks := make([][]any, count)
	for i := range asks {
		asks[i] = []any{int64(from) + int64(i)}
	}
	var all []chainhash.Hash
	over := false
	err := s.c.rpc.batch(ctx, "getblockhash", asks, func(_ int, a answer) error {
		var text string
		err := a.read(&text)
		if over = over || isCode(err, codeRange); over {
			return nil
		}
		if err != nil {
			return said.Failed(err)
		}
		hash, err := parseHash(text)
		all = append(all, hash)
		return err
	})
	return all, err
}

// Filters implements scan.Source.
func (s source) Filters(ctx context.Context, blocks []chainhash.Hash) ([]*gcs.Filter, error) {
	asks := make([][]any, len(blocks))
	for i, b := range blocks {
		asks[i] = []any{b.String(), int(wire.GCSFilterRegular)}
	}
	all := make([]*gcs.Filter, len(blocks))
	err := s.c.rpc.batch(ctx, "getcfilter", asks, func(i int, a answer) error {
		var text string
		if err := a.read(&text); err != nil {
			if strings.Contains(err.Error(), "CF index") {
				return fmt.Errorf("%w: %w: %w", chain.ErrUnavailable, ErrNoFilters, err)
			}
			return said.Failed(err)
		}
		raw, err := hex.DecodeString(text)
		if err != nil {
			return nonsense("the filter of block %s", blocks[i])
		}
		if all[i], err = gcs.FromNBytes(builder.DefaultP, builder.DefaultM, raw); err != nil {
			return nonsense("the filter of block %s: %v", blocks[i], err)
		}
		return nil
	})
	return all, err
}

// Block implements scan.Source.
func (s source) Block(ctx context.Context, hash chainhash.Hash) (*wire.MsgBlock, error) {
	var raw string
	if err := s.c.rpc.call(ctx, &raw, "getblock", hash.String(), 0); err != nil {
		return nil, said.Failed(err)
	}
	b := &wire.MsgBlock{}
	if err := b.Deserialize(hex.NewDecoder(strings.NewReader(raw))); err != nil {
		return nil, nonsense("block %s: %v", hash, err)
	}
	return b, nil
}

// HintScripts implements chain.ScriptHinter.
func (c *Client) HintScripts(scripts ...[]byte) { c.scan.Hint(scripts...) }

// WatchScripts implements chain.ScriptWatcher: all scripts are looked for at once.
func (c *Client) WatchScripts(ctx context.Context, scripts ...[]byte) error {
	c.scan.Hint(scripts...)
	return c.scan.At(ctx, func(scan.View) error { return nil })
}
