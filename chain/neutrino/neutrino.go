// Package neutrino is an embedded light client: it follows the chain by its headers and committed filters (BIP 157
// and 158) over the peer-to-peer network, and reads the few blocks that concern it. No node of one's own is needed.
//
// What it knows is what blocks hold. It has no mempool, no fee estimates and is not told why a transaction was
// refused: Capabilities says so. It verifies the work of every header and that a block is what its header says; that
// a filter is left out or wrong is noticed where its peers disagree, so one honest peer among them is needed. A
// transaction, or what spends an output, is found by a script that was asked about or hinted at (chain.Hint); what
// was found is kept in the data folder. Peers learn which blocks are read, not which scripts are looked for.
//
// It keeps no keys, listens on no port and takes no connection from others.
package neutrino

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcwallet/walletdb"
	_ "github.com/btcsuite/btcwallet/walletdb/bdb" // the database of headers and of what was found
	"github.com/lightninglabs/neutrino"
	"github.com/lightninglabs/neutrino/banman"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/scan"
	"github.com/spillway/spillway/script"
)

// Sentinels of this package; all but ErrConfig and ErrInUse come wrapped in chain.ErrUnavailable.
var (
	// ErrConfig says that a Config or a URL can't be used.
	ErrConfig = errors.New("neutrino: bad configuration")
	// ErrInUse says that other processes use all of the data folder's places.
	ErrInUse = errors.New("neutrino: the light client's folder is in use")
	// ErrNoPeers says that no peer is connected that serves committed filters.
	ErrNoPeers = errors.New("neutrino: no peer is connected")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("neutrino: the light client is closed")
)

// Defaults of Config.
const (
	DefaultWindow = 4_320 // blocks, thirty days: twice the longest channel
	// DefaultMaxFeeRate caps what is guessed from blocks: 500 sat/vB.
	DefaultMaxFeeRate script.FeeRate = 500_000

	defaultTimeout = 30 * time.Second
	dialTimeout    = 10 * time.Second
	dbTimeout      = 10 * time.Second
	places         = 8 // processes that may use one folder at once
)

// Config says which network is followed and where things are kept.
type Config struct {
	// Dir is the folder for headers and for what was found. Several processes may name the same: each takes a place
	// of its own in it, with headers of its own.
	Dir string
	// Network is the one to follow; it is needed.
	Network *chaincfg.Params
	// Peers are hosts, each with a port or without, that are asked, and no others; none: those that the network's DNS
	// seeds name.
	Peers []string
	// Window is how many of the newest blocks are looked through for a script that is new here; 0: DefaultWindow, on
	// regtest a million. Birthday, when set, is the height from which on they are instead: nothing of interest is on
	// the chain before.
	Window, Birthday uint32
	// NoVersion3 says that the peers relay no transactions of version 3, as a btcd's.
	NoVersion3 bool
	// Timeout bounds one question to the network; 0: 30 seconds.
	Timeout time.Duration
	// Patience is how long a peer may take to ask for a transaction that is offered; 0: 8 seconds, on regtest 3. A
	// bitcoind lets those that connect to it wait for 2, and for 4 where it has peers that announce by witness.
	Patience time.Duration
	// MinFeeRate and MaxFeeRate clamp FeeRate; 0: chain.MinFeeRate and DefaultMaxFeeRate.
	MinFeeRate, MaxFeeRate script.FeeRate
	// Logger is told of long searches; nil: nobody.
	Logger *slog.Logger
}

// Client implements chain.Backend, chain.HealthChecker, chain.ScriptWatcher and chain.ScriptHinter. It is safe for
// concurrent use.
type Client struct {
	cfg   Config
	place *os.File // locked while the folder's place is ours
	db    walletdb.DB
	svc   *neutrino.ChainService
	scan  *scan.Scanner
	fees  fees

	mu     sync.Mutex
	met    bool // a peer was connected once
	closed bool
	busy   sync.WaitGroup // questions to the network that nobody waits for any more
	quit   chan struct{}  // closed with the client
}

var (
	_ chain.Backend       = (*Client)(nil)
	_ chain.HealthChecker = (*Client)(nil)
	_ chain.ScriptWatcher = (*Client)(nil)
	_ chain.ScriptHinter  = (*Client)(nil)
)

// Open starts a light client; it connects and catches up by itself from then on. Errors: ErrConfig, ErrInUse, those
// of the folder.
func Open(ctx context.Context, cfg Config) (_ *Client, err error) {
	if cfg, err = cfg.complete(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, quit: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.release())
		}
	}()
	dir, err := c.takePlace()
	if err != nil {
		return nil, err
	}
	if err := c.openDB(filepath.Join(dir, "headers.db")); err != nil {
		return nil, err
	}
	if err := c.pardon(); err != nil {
		return nil, err
	}
	c.svc, err = neutrino.NewChainService(neutrino.Config{DataDir: dir, Database: c.db, ChainParams: *cfg.Network, ConnectPeers: cfg.Peers,
		Dialer: dial, NameResolver: c.resolve})
	if err != nil {
		return nil, fmt.Errorf("neutrino: open %s: %w", dir, err)
	}
	if err := c.svc.Start(ctx); err != nil {
		return nil, fmt.Errorf("neutrino: start: %w", err)
	}
	if err := private(dir); err != nil {
		return nil, err
	}
	c.scan = scan.New(scan.Config{Source: source{c}, Window: cfg.Window, Birthday: cfg.Birthday, Keeper: keeper{c.db}, Logger: cfg.Logger})
	return c, nil
}

// complete checks a configuration and fills its defaults in.
func (cfg Config) complete() (Config, error) {
	switch {
	case cfg.Network == nil || cfg.Dir == "":
		return cfg, fmt.Errorf("%w: a network and a folder are needed", ErrConfig)
	case cfg.MinFeeRate < 0, cfg.MaxFeeRate < 0, cfg.MaxFeeRate > 0 && cfg.MinFeeRate > cfg.MaxFeeRate:
		return cfg, fmt.Errorf("%w: fee rates %d to %d", ErrConfig, cfg.MinFeeRate, cfg.MaxFeeRate)
	case cfg.Timeout < 0, cfg.Patience < 0:
		return cfg, fmt.Errorf("%w: a negative time", ErrConfig)
	case cfg.private() && len(cfg.Peers) == 0:
		return cfg, fmt.Errorf("%w: on %s a peer has to be named", ErrConfig, cfg.Network.Name)
	}
	patience := 8 * time.Second
	if cfg.private() {
		patience = 3 * time.Second
		cfg.Window = cmp.Or(cfg.Window, 1<<20)
	}
	cfg.Window = cmp.Or(cfg.Window, DefaultWindow)
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	cfg.Patience = cmp.Or(cfg.Patience, patience)
	cfg.MaxFeeRate = cmp.Or(cfg.MaxFeeRate, max(DefaultMaxFeeRate, cfg.MinFeeRate))
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	peers := slices.Clone(cfg.Peers)
	for i, p := range peers {
		if _, _, err := net.SplitHostPort(p); err != nil {
			peers[i] = net.JoinHostPort(strings.Trim(p, "[]"), cfg.Network.DefaultPort)
		}
	}
	cfg.Peers = peers
	return cfg, nil
}

// private reports whether the network is one's own, where nobody mines by himself.
func (cfg Config) private() bool {
	return cfg.Network.Name == chaincfg.RegressionNetParams.Name || cfg.Network.Name == chaincfg.SimNetParams.Name
}

// takePlace locks the first place of the folder that no other process has.
func (c *Client) takePlace() (dir string, err error) {
	for i := range places {
		dir = filepath.Join(c.cfg.Dir, fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("neutrino: %w", err)
		}
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return "", fmt.Errorf("neutrino: %w", err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			c.place = f
			return dir, nil
		}
		if cerr := f.Close(); !errors.Is(err, syscall.EWOULDBLOCK) || cerr != nil {
			return "", fmt.Errorf("neutrino: lock %s: %w", f.Name(), errors.Join(err, cerr))
		}
	}
	return "", fmt.Errorf("%w: %d other processes have one of %s", ErrInUse, places, c.cfg.Dir)
}

// private keeps others of the machine from reading a place's files: the library makes them readable for all.
func private(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("neutrino: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if !f.Type().IsRegular() {
			continue
		}
		if err := os.Chmod(path, 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("neutrino: %w", err)
		}
	}
	return nil
}

func (c *Client) openDB(path string) (err error) {
	if _, serr := os.Stat(path); errors.Is(serr, os.ErrNotExist) {
		c.db, err = walletdb.Create("bdb", path, true, dbTimeout, false)
	} else {
		c.db, err = walletdb.Open("bdb", path, true, dbTimeout, false)
	}
	if err != nil {
		return fmt.Errorf("neutrino: open %s: %w (it holds nothing that cannot be fetched again: it may be moved away)", path, err)
	}
	return nil
}

// pardon lifts the bans of peers that were named: they are named because their owner has mended them.
func (c *Client) pardon() error {
	bans, err := banman.NewStore(c.db)
	if err != nil {
		return fmt.Errorf("neutrino: %w", err)
	}
	for _, p := range c.cfg.Peers {
		host, _, err := net.SplitHostPort(p)
		if err != nil || net.ParseIP(host) == nil {
			continue // a name is resolved when it is dialled
		}
		ip, err := banman.ParseIPNet(p, nil)
		if err != nil {
			return fmt.Errorf("neutrino: %w", err)
		}
		if err := bans.UnbanIPNet(ip); err != nil {
			return fmt.Errorf("neutrino: %w", err)
		}
	}
	return nil
}

func dial(addr net.Addr) (net.Conn, error) {
	return net.DialTimeout(addr.Network(), addr.String(), dialTimeout)
}

// resolve looks names up, but no DNS seed where peers were named.
func (c *Client) resolve(host string) ([]net.IP, error) {
	named := slices.ContainsFunc(c.cfg.Peers, func(p string) bool {
		h, _, err := net.SplitHostPort(p)
		return err == nil && h == host
	})
	if len(c.cfg.Peers) > 0 && !named {
		return nil, fmt.Errorf("%w: %s is not one of the peers", ErrConfig, host)
	}
	return net.LookupIP(host)
}

// String names the light client and its peers.
func (c *Client) String() string { return Scheme + "://" + strings.Join(c.cfg.Peers, ",") }

// Capabilities implements chain.Backend: none of a node's.
func (c *Client) Capabilities() chain.Capabilities {
	return chain.Capabilities{NoVersion3: c.cfg.NoVersion3}
}

// Close ends all connections and gives the folder back. The client can't be used any more.
func (c *Client) Close() error {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.mu.Unlock()
	if was {
		return nil
	}
	close(c.quit)
	err := c.svc.Stop()
	c.busy.Wait()
	return errors.Join(err, c.release())
}

func (c *Client) release() error {
	var failed []error
	if c.db != nil {
		failed = append(failed, c.db.Close())
	}
	if c.place != nil {
		failed = append(failed, private(filepath.Dir(c.place.Name())), c.place.Close())
	}
	return errors.Join(failed...)
}
