// Package edgetest gives tests a provider at its edge: payee, paywall and gateway
// over stores in memory and a chain in the process, a payer beside it, and raw
// HTTP between them, so that a test sees and sends every byte of the wire.
//
// It is for tests only, and decides nothing that the drivers decide.
package edgetest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
)

// Config is what is on sale, and how. The zero value sells f.bin, three chunks of
// 1,000,000 bytes for 1,000 sat each, at a credit of one chunk.
type Config struct {
	Files   map[string][]byte
	Price   string
	Chunk   uint64  // bytes
	Credit  *uint64 // chunks
	Payee   func(*payee.Config)
	Paywall func(*paywall.ServerConfig)
	Gateway func(*gateway.Config)
}

// Stand is a provider and a payer.
type Stand struct {
	*pairtest.Pair
	T         testing.TB
	Dir       string // of the files on sale
	Catalogue *content.Catalogue
	Wall      *paywall.Server
	Server    *httptest.Server
	Client    *paywall.Client // for quotes; it pays only where a test lets it

	cfg     Config
	mu      sync.Mutex
	handler http.Handler
}

// New starts a stand; it ends with the test.
func New(t testing.TB, cfg Config) *Stand {
	t.Helper()
	if cfg.Files == nil {
		cfg.Files = map[string][]byte{"f.bin": Pattern(3_000_000, 1)}
	}
	if cfg.Price == "" {
		cfg.Price = "1000sat/1MB"
	}
	if cfg.Chunk == 0 {
		cfg.Chunk = 1_000_000
	}
	if cfg.Credit == nil {
		one := uint64(1)
		cfg.Credit = &one
	}
	s := &Stand{Pair: pairtest.New(t), T: t, Dir: t.TempDir(), cfg: cfg}
	for name, data := range cfg.Files {
		s.Put(name, data)
	}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Server.Close)
	s.Restart()
	t.Cleanup(func() { s.Must(s.Catalogue.Close()) })
	var err error
	s.Client, err = paywall.NewClient(paywall.ClientConfig{
		Payer: s.Payer, Network: "regtest", Now: s.Now, Sleep: func(ctx context.Context, _ time.Duration) error { s.Mine(1); return ctx.Err() },
	})
	s.Must(err)
	return s
}

// Must ends the test on an error.
func (s *Stand) Must(err error) {
	s.T.Helper()
	if err != nil {
		s.T.Fatal(err)
	}
}

// Pattern is size bytes that no two groups of a file share.
func Pattern(size int, seed byte) []byte {
	b := make([]byte, size)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x >> 11)
	}
	return b
}

// Put writes a file into the provider's folder; Reprice or Restart offers it.
func (s *Stand) Put(name string, data []byte) {
	s.T.Helper()
	path := filepath.Join(s.Dir, filepath.FromSlash(name))
	s.Must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.Must(os.WriteFile(path, data, 0o644))
}

// Restart makes the provider's process anew: what it knows is on its disk.
func (s *Stand) Restart() {
	s.T.Helper()
	pc := payee.Config{
		Store: s.PayeeDisk, Keys: s.PayeeKeys, Chain: s.Chain, Network: "regtest", Payout: s.Payout, Policy: s.Policy,
		Dearest: func() uint64 { return pairtest.Price }, Now: s.Now, Rand: rand.Reader,
	}
	if s.cfg.Payee != nil {
		s.cfg.Payee(&pc)
	}
	var err error
	s.Payee, err = payee.New(pc)
	s.Must(err)
	secret, err := s.PayeeKeys.ChallengeSecret(0)
	s.Must(err)
	wc := paywall.ServerConfig{
		Payee: s.Payee, Network: "regtest", Secret: secret, Realm: "stand", Recipient: hex.EncodeToString(s.identity()[32:]), Now: s.Now,
	}
	if s.cfg.Paywall != nil {
		s.cfg.Paywall(&wc)
	}
	s.Wall, err = paywall.NewServer(wc)
	s.Must(err)
	s.Reprice(s.cfg.Price)
}

func (s *Stand) identity() ed25519.PrivateKey {
	s.T.Helper()
	key, err := s.PayeeKeys.Identity()
	s.Must(err)
	return key
}

// Reprice offers the files as they are now, at a price.
func (s *Stand) Reprice(price string) {
	s.T.Helper()
	s.cfg.Price = price
	spec, err := content.ParsePrice(price)
	s.Must(err)
	files, err := content.NewCatalogue(content.CatalogueConfig{
		Paths: []string{s.Dir}, CacheDir: s.T.TempDir(), Identity: s.identity(), Price: spec,
		Chunk: content.ChunkSpec{Bytes: s.cfg.Chunk}, Logger: slog.New(slog.DiscardHandler),
	})
	s.Must(err)
	_, err = files.Refresh(context.Background())
	s.Must(err)
	gc := gateway.Config{
		Catalogue: files, Paywall: s.Wall, Provider: hex.EncodeToString(s.identity()[32:]), Network: "regtest",
		CreditChunks: *s.cfg.Credit, PerSecond: 1e6,
	}
	if s.cfg.Gateway != nil {
		s.cfg.Gateway(&gc)
	}
	g, err := gateway.New(gc)
	s.Must(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Catalogue != nil {
		s.Must(s.Catalogue.Close())
	}
	s.Catalogue, s.handler = files, g
}

// Rechunk offers the files as they are now, in other chunks (bytes).
func (s *Stand) Rechunk(bytes uint64) {
	s.T.Helper()
	s.cfg.Chunk = bytes
	s.Reprice(s.cfg.Price)
}

func (s *Stand) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.handler
	s.mu.Unlock()
	h.ServeHTTP(w, r)
}

// Handler is the gateway as it is now.
func (s *Stand) Handler() http.Handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handler
}
