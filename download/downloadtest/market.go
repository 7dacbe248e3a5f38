// Package downloadtest is a whole market in memory for tests: a regtest chain, a
// provider behind its real gateway, and buyers that can be stopped anywhere and
// started again over what they saved.
//
// It is for tests only; nothing of it waits for real time.
package downloadtest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/watch"
)

// Network is the market's network.
const Network = "regtest"

// Config is what is on sale. The zero value sells one small file.
type Config struct {
	Files  map[string][]byte // by name; default: f.bin of 300,000 bytes
	Price  string            // default: 1sat/1KiB
	Chunk  content.ChunkSpec // default: 64 KiB
	Credit *uint64           // chunks; default: 1
	Policy *channel.Policy   // of both sides; default: regtest's
	Kinds  []script.Construction
	Log    io.Writer    // where both sides log to; default: nowhere
	Node   *devnet.Node // default: a new one
}

// Market is a chain, a provider, and the coins of one buyer.
type Market struct {
	T         testing.TB
	Node      *devnet.Node
	Policy    channel.Policy
	Catalogue *content.Catalogue
	Payee     *payee.Payee
	Store     *memory.Store // the provider's
	Server    *httptest.Server
	Identity  content.ProviderKey
	Dir       string // of the files on sale
	Log       *slog.Logger

	keys    *keys.Keyring
	wall    *paywall.Server
	credit  uint64
	chunk   content.ChunkSpec
	mu      sync.Mutex
	wrap    func(http.Handler) http.Handler
	gateway http.Handler
	skew    atomic.Int64 // what the clocks are ahead of real time
}

// New starts a market; it ends with the test.
func New(t testing.TB, cfg Config) *Market {
	t.Helper()
	m := &Market{T: t, Dir: t.TempDir(), Store: memory.New(), Policy: channel.DefaultPolicy(Network), Log: slog.New(slog.DiscardHandler)}
	if cfg.Policy != nil {
		m.Policy = *cfg.Policy
	}
	if cfg.Log != nil {
		m.Log = slog.New(slog.NewTextHandler(cfg.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if m.Node = cfg.Node; m.Node == nil {
		m.Node = NewNode(t)
	}
	m.provider(cfg)
	m.Server = httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(m.Close)
	return m
}

// Close ends the provider; it may be called before the test ends.
func (m *Market) Close() {
	m.Server.Close()
	Must(m.T, m.Catalogue.Close())
}

// NewNode starts a chain that several markets can share.
func NewNode(t testing.TB) *devnet.Node {
	t.Helper()
	n, err := devnet.New(devnet.Config{})
	Must(t, err)
	t.Cleanup(func() { Must(t, n.Close()) })
	return n
}

// Must ends the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Pattern is size bytes that no two groups of a file share.
func Pattern(size int, seed byte) []byte { return edgetest.Pattern(size, seed) }

func (m *Market) provider(cfg Config) {
	t := m.T
	if cfg.Files == nil {
		cfg.Files = map[string][]byte{"f.bin": Pattern(300_000, 1)}
	}
	if cfg.Price == "" {
		cfg.Price = "1sat/1KiB"
	}
	if cfg.Chunk == (content.ChunkSpec{}) {
		cfg.Chunk = content.ChunkSpec{Bytes: 64 << 10}
	}
	m.credit, m.chunk = 1, cfg.Chunk
	if cfg.Credit != nil {
		m.credit = *cfg.Credit
	}
	for name, data := range cfg.Files {
		m.Put(name, data)
	}
	m.keys = NewKeys(t)
	identity, err := m.keys.Identity()
	Must(t, err)
	copy(m.Identity[:], identity.Public().(ed25519.PublicKey))
	_, payout, err := m.keys.WalletKey(false, 0)
	Must(t, err)
	m.Payee, err = payee.New(payee.Config{
		Store: m.Store, Keys: m.keys, Chain: m.Node, Network: Network, Payout: payout, Policy: m.Policy,
		Constructions: cfg.Kinds, Dearest: m.dearest, Now: m.Now, Rand: rand.Reader, Log: m.Log,
	})
	Must(t, err)
	secret, err := m.keys.ChallengeSecret(0)
	Must(t, err)
	m.wall, err = paywall.NewServer(paywall.ServerConfig{
		Payee: m.Payee, Network: Network, Secret: secret, Realm: "market", Recipient: hex.EncodeToString(m.Identity[:]), Now: m.Now, Log: m.Log,
	})
	Must(t, err)
	m.Reprice(cfg.Price)
}

// Reprice offers the files at another price from now on.
func (m *Market) Reprice(price string) {
	m.T.Helper()
	identity, err := m.keys.Identity()
	Must(m.T, err)
	c := m.catalogue(identity, price, m.chunk)
	g, err := gateway.New(gateway.Config{
		Catalogue: c, Paywall: m.wall, Provider: hex.EncodeToString(m.Identity[:]), Network: Network,
		CreditChunks: m.credit, PerSecond: 1e6, Slow: 1 << 30, Log: m.Log,
	})
	Must(m.T, err)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Catalogue != nil {
		Must(m.T, m.Catalogue.Close())
	}
	m.Catalogue, m.gateway = c, g
}

func (m *Market) catalogue(identity ed25519.PrivateKey, price string, chunk content.ChunkSpec) *content.Catalogue {
	spec, err := content.ParsePrice(price)
	Must(m.T, err)
	c, err := content.NewCatalogue(content.CatalogueConfig{
		Paths: []string{m.Dir}, CacheDir: m.T.TempDir(), Identity: identity, Price: spec, Chunk: chunk, Logger: m.Log,
	})
	Must(m.T, err)
	_, err = c.Refresh(context.Background())
	Must(m.T, err)
	return c
}

// dearest is the price of the dearest chunk on sale, in msat.
func (m *Market) dearest() (most uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.Catalogue.List("") {
		f := e.Manifest()
		most = max(most, f.ChunkMsat, f.LastChunkMsat)
	}
	return most
}

// Put writes a file into the provider's folder.
func (m *Market) Put(name string, data []byte) {
	m.T.Helper()
	path := filepath.Join(m.Dir, filepath.FromSlash(name))
	Must(m.T, os.MkdirAll(filepath.Dir(path), 0o755))
	Must(m.T, os.WriteFile(path, data, 0o644))
}

// Wrap puts something before the gateway; nil takes it away.
func (m *Market) Wrap(wrap func(http.Handler) http.Handler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrap = wrap
}

func (m *Market) serve(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	h := m.gateway
	if m.wrap != nil {
		h = m.wrap(h)
	}
	m.mu.Unlock()
	h.ServeHTTP(w, r)
}

// URL is a file's address.
func (m *Market) URL(name string) string { return m.Server.URL + "/" + name }

// Now is the market's clock.
func (m *Market) Now() time.Time { return time.Now().Add(time.Duration(m.skew.Load())) }

// Advance moves the market's clock.
func (m *Market) Advance(d time.Duration) { m.skew.Add(int64(d)) }

// Mine mines blocks and lets the provider look at the chain.
func (m *Market) Mine(n int) {
	m.T.Helper()
	_, err := m.Node.Mine(n)
	Must(m.T, err)
	Must(m.T, m.Step(m.Payee))
}

// Step lets drivers do what is due.
func (m *Market) Step(drivers ...watch.Driver) error {
	return (&watch.Watch{Chain: m.Node, Drivers: drivers, Log: m.Log}).Step(context.Background())
}

// NewKeys draws a seed.
func NewKeys(t testing.TB) *keys.Keyring {
	t.Helper()
	words, err := keys.NewMnemonic(rand.Reader)
	Must(t, err)
	params := devnet.Params()
	ring, err := keys.FromMnemonic(words, params)
	Must(t, err)
	return ring
}
