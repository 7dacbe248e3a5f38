package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store/sqlite"
	"github.com/spillway/spillway/wallet"
)

// market is a provider that sells one file over TLS, and gives the same file away
// under another name, and payers with open channels.
type market struct {
	*shop
	files  *content.Catalogue
	server *http.Server
	url    string
	cert   tls.Certificate
	roots  *x509.CertPool
	buyers []*customer
	whole  ware // that is measured
	warm   ware // a small one, for the round before
	closed []func() error
}

// customer is a payer with a store and a connection of its own.
type customer struct {
	store  *sqlite.Store
	payer  *payer.Payer
	client *paywall.Client
	buyer  *download.Buyer
	http   *http.Client
	dir    string
	ids    []string // its channels
	runs   int
}

const (
	soldName = "sold/file.bin"
	freeName = "free/file.bin"
	fileRate = "1sat/64KiB"
)

// ware is one content under two names: of the one it is sold, of the other given away.
type ware struct {
	sold, free string
	size       uint64 // bytes
}

// newMarket sells a file of so many bytes to so many payers with so many channels each.
func newMarket(ctx context.Context, dir string, size, chunk uint64, payers, channels int) (_ *market, err error) {
	m := &market{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.shop, err = emptyShop(ctx, dir, payers*channels); err != nil {
		return nil, err
	}
	m.credit = (chunk + 64<<10 - 1) / (64 << 10) * price // of one chunk
	m.closed = append(m.closed, m.shop.Close)
	m.whole, m.warm = ware{soldName, freeName, size}, ware{"sold/warm.bin", "free/warm.bin", min(size, 2*chunk)}
	for _, w := range []ware{m.whole, m.warm} {
		if err := w.put(filepath.Join(dir, "files")); err != nil {
			return nil, err
		}
	}
	if err := m.serve(ctx, chunk); err != nil {
		return nil, err
	}
	for i := range payers {
		if err := m.customer(ctx, i, channels); err != nil {
			return nil, err
		}
	}
	return m, m.save(ctx)
}

// Close ends the provider and the payers.
func (m *market) Close() error {
	var failed []error
	for i := len(m.closed) - 1; i >= 0; i-- {
		failed = append(failed, m.closed[i]())
	}
	m.closed = nil
	return errors.Join(failed...)
}

// put writes bytes that no two places of the file share, under both names.
func (w ware) put(dir string) (err error) {
	for _, name := range []string{w.sold, w.free} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			return err
		}
	}
	f, err := os.Create(filepath.Join(dir, w.sold))
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, int64(w.size))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Link(filepath.Join(dir, w.sold), filepath.Join(dir, w.free))
}

// serve starts the provider as the command does, but for its limits on what is asked
// unpaid: the figures ask for more than people do.
func (m *market) serve(ctx context.Context, chunk uint64) error {
	identity, err := m.ring.Identity()
	if err != nil {
		return err
	}
	prices, err := content.ParsePriceList(strings.NewReader("free/* free\n"))
	if err != nil {
		return err
	}
	spec, err := content.ParsePrice(fileRate)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	m.files, err = content.NewCatalogue(content.CatalogueConfig{
		Paths: []string{filepath.Join(m.dir, "files")}, CacheDir: filepath.Join(m.dir, "outboards"), Identity: identity,
		Price: spec, Chunk: content.ChunkSpec{Bytes: chunk}, Prices: prices, Logger: quiet,
	})
	if err != nil {
		return err
	}
	m.closed = append(m.closed, m.files.Close)
	if _, err := m.files.Refresh(ctx); err != nil {
		return err
	}
	secret, err := m.ring.ChallengeSecret(0)
	if err != nil {
		return err
	}
	provider := hex.EncodeToString(identity.Public().(ed25519.PublicKey))
	wall, err := paywall.NewServer(paywall.ServerConfig{Payee: m.payee, Network: "regtest", Secret: secret, Realm: "bench", Recipient: provider})
	if err != nil {
		return err
	}
	g, err := gateway.New(gateway.Config{
		Catalogue: m.files, Paywall: wall, Provider: provider, Network: "regtest", CreditChunks: 1, PerSecond: 1e9, Slow: 1 << 40,
	})
	if err != nil {
		return err
	}
	return m.listen(g)
}

// listen serves a handler over TLS with a certificate of its own.
func (m *market) listen(h http.Handler) (err error) {
	if err := m.certify(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m.url = "https://" + l.Addr().String() + "/"
	m.server = gateway.HTTPServer(h, log.New(io.Discard, "", 0))
	over := tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{m.cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	done := make(chan error, 1)
	go func() { done <- m.server.Serve(over) }()
	m.closed = append(m.closed, func() error {
		err := m.server.Close()
		if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	})
	return nil
}

// certify makes a certificate for this machine that lives for an hour.
func (m *market) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		return err
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		return err
	}
	m.cert = tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: parsed}
	m.roots = x509.NewCertPool()
	m.roots.AddCert(parsed)
	return nil
}

// noWallet funds nothing: the channels are open.
type noWallet struct{ rest []byte }

func (noWallet) Fund(context.Context, []*wire.TxOut, script.FeeRate) (*wallet.Funded, error) {
	return nil, fmt.Errorf("%w: no channel is opened here", wallet.ErrInsufficient)
}
func (noWallet) Release(context.Context, *wire.MsgTx) error      { return nil }
func (w noWallet) ReceiveScript(context.Context) ([]byte, error) { return w.rest, nil }
func (noWallet) FundingFee(context.Context, []*wire.TxOut, script.FeeRate) (int64, error) {
	return 0, nil
}

// customer makes the i-th payer with open channels on both sides.
func (m *market) customer(ctx context.Context, i, channels int) (err error) {
	c := &customer{dir: filepath.Join(m.dir, fmt.Sprintf("payer-%d", i))}
	if c.store, err = sqlite.Open(ctx, filepath.Join(c.dir, "bench.db"), sqlite.Options{Shared: true}); err != nil {
		return err
	}
	m.closed = append(m.closed, c.store.Close)
	if err := m.channels(ctx, c, i*channels, channels); err != nil {
		return err
	}
	policy := channel.DefaultPolicy("regtest")
	c.payer, err = payer.New(payer.Config{
		Store: c.store, Keys: m.ring, Wallet: noWallet{m.payout}, Chain: calm{}, Network: "regtest", Policy: policy, Rand: rand.Reader,
	})
	if err != nil {
		return err
	}
	c.http = paywall.DefaultHTTP()
	c.http.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: m.roots, MinVersion: tls.VersionTLS12}
	m.closed = append(m.closed, func() error { c.http.CloseIdleConnections(); return nil })
	if c.client, err = paywall.NewClient(paywall.ClientConfig{HTTP: c.http, Payer: c.payer, Network: "regtest", Compact: true}); err != nil {
		return err
	}
	m.closed = append(m.closed, func() error { c.client.CloseIdle(); return nil })
	c.buyer, err = download.New(download.Config{
		Client: c.client, Payer: c.payer, Store: c.store, Chain: calm{}, Wallet: noWallet{m.payout}, Network: "regtest", Policy: policy,
	})
	m.buyers = append(m.buyers, c)
	return err
}
