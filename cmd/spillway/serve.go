package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/towerhttp"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch"
)

// Most of what --chunks and --credit may be, in chunks. What is delivered and never
// paid is a loss: nobody means a credit of a million chunks.
const (
	maxChunks = 1 << 53
	maxCredit = 1_000_000
)

// maxConnections is how many connections serve takes at once; more wait.
const maxConnections = 2048

// serveFlags are the flags of serve.
type serveFlags struct {
	price, chunk, listen, tlsCert, tlsKey string
	prices                                string
	chunks                                uint64
	credit                                uint64
	insecure                              bool
	trade                                 bool
	tower                                 towerUse
	ops                                   opsUse
}

func (a *app) serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve PATH…",
		Short: "Sell files, chunk by chunk",
		Long: `Sells the files at the given paths. One folder's contents appear at /, several
paths by their base names. Hidden files and links that lead outside are not
offered; files that change are hashed again.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.serve(cmd.Context(), f, args) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.price, "price", "1sat/64KiB", "price: AMOUNT/SIZE, AMOUNT/file or free")
	fl.StringVar(&f.prices, "prices", "", "file with the prices of single files: GLOB PRICE [chunk SIZE] [preview SIZE] a line")
	fl.StringVar(&f.chunk, "chunk", "1MiB", "size of a chunk, the unit that is delivered, verified and paid")
	fl.Uint64Var(&f.chunks, "chunks", 0, "divide each file into this many chunks instead")
	fl.Uint64Var(&f.credit, "credit", 1, "chunks that may be delivered before they are paid; 0: payment first")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:4402", "address to listen on")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "certificate file for TLS")
	fl.StringVar(&f.tlsKey, "tls-key", "", "key file for TLS")
	fl.BoolVar(&f.insecure, "insecure-http", false, "listen beyond loopback without TLS all the same")
	cmd.MarkFlagsMutuallyExclusive("chunk", "chunks")
	fl.BoolVar(&f.trade, "trade", false, "sell also over duplex channels that this data folder's payer opened at other providers")
	f.tower.flags(cmd)
	f.ops.flags(cmd)
	return cmd
}

// offer reads price and chunk from the flags.
func (f serveFlags) offer() (content.PriceSpec, content.ChunkSpec, error) {
	price, err := content.ParsePrice(f.price)
	if err != nil {
		return price, content.ChunkSpec{}, usage(err)
	}
	if f.chunks > maxChunks || f.credit > maxCredit {
		return price, content.ChunkSpec{}, usagef("--chunks is at most %d and --credit at most %d", uint64(maxChunks), maxCredit)
	}
	if f.chunks > 0 {
		return price, content.ChunkSpec{Count: f.chunks}, nil
	}
	size, err := content.ParseBytes(f.chunk)
	if err != nil {
		return price, content.ChunkSpec{}, usage(err)
	}
	if size == 0 {
		return price, content.ChunkSpec{}, usagef("a chunk has at least one byte")
	}
	return price, content.ChunkSpec{Bytes: size}, nil
}

// check reads what serve needs besides its folder, before that is opened: the paths, the
// prices, the tower's token, the certificate, which it returns.
func (f serveFlags) check(a *app, paths []string) (*tls.Config, error) {
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	if _, err := openPrices(f.prices); err != nil {
		return nil, err
	}
	if _, err := f.tower.client(); err != nil {
		return nil, err
	}
	return a.loadTLS(f.tlsCert, f.tlsKey)
}

// checkListen refuses a listener beyond loopback without TLS.
func (f serveFlags) checkListen() error {
	host, err := checkAddress(f.listen)
	if err != nil {
		return err
	}
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return usagef("--tls-cert and --tls-key go together")
	}
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	if !loopback && f.tlsCert == "" && !f.insecure {
		return usagef("%s is beyond loopback: give --tls-cert and --tls-key, or --insecure-http if a proxy in front does TLS", f.listen)
	}
	return nil
}

// provider is a running seller: its listener, its watch, its admin API.
type provider struct {
	app      *app
	role     *role
	payee    *payee.Payee
	files    *content.Catalogue
	prices   *prices
	identity string
	url      string
	gateway  traffic
	wall     interface{ CloseConnections() }
	server   *http.Server
	admin    *adminServer
	use      opsUse
	ops      *operations
	lookNow  chan struct{}     // has the files and prices looked at again
	tower    *towerhttp.Keeper // nil: no tower is used
	peer     *buyer            // nil: nothing is sold over channels that were opened elsewhere
	trades   *download.Trades  // what is bought of those who opened channels here
	dear     uint64            // msat, the most that one unit costs of what is sold beside files
	// shapeWall, where it is set, changes the paywall's configuration.
	shapeWall wallShape
	stop      context.CancelFunc
	work      sync.WaitGroup
	served    chan error
}

// startProvider opens the provider's folder and starts everything of it. ready,
// where set, is told once the listener is bound, before the first file is
// announced.
func (a *app) startProvider(ctx context.Context, f serveFlags, paths []string, ready func(*provider) error) (_ *provider, err error) {
	price, chunk, err := f.offer()
	if err != nil {
		return nil, err
	}
	if err := f.checkListen(); err != nil {
		return nil, err
	}
	secure, err := f.check(a, paths)
	if err != nil {
		return nil, err
	}
	if err := f.ops.check(a, secure, f.insecure); err != nil {
		return nil, err
	}
	r, err := a.openRole(ctx, "payee")
	if err != nil {
		return nil, err
	}
	p := &provider{app: a, use: f.ops, role: r, served: make(chan error, 1), stop: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if err := p.build(ctx, price, chunk, f, paths); err != nil {
		return nil, err
	}
	l, err := p.listen(f.listen, secure)
	if err != nil {
		return nil, err
	}
	if err := p.startAdmin(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if ready != nil {
		if err := ready(p); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	p.run(l)
	return p, nil
}

// build wires the drivers and the handler.
func (p *provider) build(ctx context.Context, price content.PriceSpec, chunk content.ChunkSpec, f serveFlags, paths []string) error {
	a, r := p.app, p.role
	identity, err := p.identify()
	if err != nil {
		return err
	}
	if p.prices, err = openPrices(f.prices); err != nil {
		return err
	}
	exclude := []string{a.flags.data}
	p.lookNow = make(chan struct{}, 1)
	if f.prices != "" {
		a.onReload("prices", p.reloadPrices)
		exclude = append(exclude, f.prices) // what is asked for is no goods
	}
	p.files, err = content.NewCatalogue(content.CatalogueConfig{
		Prices: p.prices.list, Paths: paths, Exclude: exclude, CacheDir: filepath.Join(r.dir, "outboards"),
		Identity: identity, Price: price, Chunk: chunk, Progress: a.hashing(), Logger: a.out.logger(),
	})
	var path *fs.PathError
	if errors.As(err, &path) { // the disk's word: it may be the cache's folder too
		return err
	} else if err != nil {
		return usage(err)
	}
	wall, err := p.openWall(ctx, f.tower, f.trade)
	if err != nil {
		return err
	}
	g, err := gateway.New(gateway.Config{
		Catalogue: p.files, Paywall: wall, Provider: p.identity, Network: a.flags.network, CreditChunks: f.credit, Constructions: kindNames(), Log: a.out.logger(),
	})
	if err != nil {
		return err
	}
	p.gateway = g
	p.server = gateway.HTTPServer(g, log.New(&lockedWriter{a.out}, "", 0))
	if !a.out.verbose {
		p.server.ErrorLog.SetOutput(io.Discard)
	}
	return nil
}

// soldKinds are the kinds of channel on offer.
var soldKinds = []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH, script.Duplex}

func kindNames() (names []string) {
	for _, k := range soldKinds {
		names = append(names, string(k))
	}
	return names
}

// dearest is the price of the dearest chunk on sale, in msat.
func (p *provider) dearest() (msat uint64) {
	for _, e := range p.files.List("") {
		m := e.Manifest()
		msat = max(msat, m.ChunkMsat, m.LastChunkMsat)
	}
	return msat
}

// offered reports whether chunks of a resource are on sale now. While the files are
// looked at for the first time everything may be.
func (p *provider) offered(resource [32]byte) bool {
	if !p.files.Complete() {
		return true
	}
	return slices.ContainsFunc(p.files.List(""), func(e *content.Entry) bool {
		m := e.Manifest()
		return gateway.Resource(&m) == resource
	})
}

// run starts the watch, the look at the files, and the listener.
func (p *provider) run(l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	w := &watch.Watch{Chain: p.ops.metrics.Chain(p.role.chain), Drivers: []watch.Driver{p.payee}, Log: p.app.out.logger()}
	if p.tower != nil {
		p.work.Add(1)
		go func() {
			defer p.work.Done()
			p.guard(ctx)
		}()
	}
	stale := p.app.staleAlarm(p.role.chain)
	p.work.Add(2)
	go func() {
		defer p.work.Done()
		step := p.ops.step(func(ctx context.Context) error { return errors.Join(p.role.step(ctx, w), stale(ctx)) })
		every(ctx, time.Second, step, func(err error) { p.app.out.say("watch: %v", err) })
	}()
	if p.files != nil {
		p.work.Add(1)
		go func() {
			defer p.work.Done()
			p.refresh(ctx)
		}()
	}
	quickStop(p.server).Handler = p.ops.metrics.HTTP(p.server.Handler)
	go func() {
		defer p.work.Done()
		p.served <- p.server.Serve(l)
	}()
	p.ops.run(ctx)
}

// skipped tells once of each file that is not offered, and returns what is told.
func (p *provider) skipped(now []content.Skipped, told map[string]string) map[string]string {
	next := make(map[string]string, len(now))
	for _, s := range now {
		next[s.Path] = s.Reason.Error()
		if told[s.Path] != next[s.Path] {
			p.app.out.say("  %s is left out: %v", s.Path, s.Reason)
		}
	}
	return next
}

const (
	// finishWait is how long a stop waits for what is being sent.
	finishWait = time.Minute
	// paidWait is how long it then waits for what was delivered to be paid.
	paidWait = 2 * time.Second
)

// finish ends selling in order: what is being sent is sent, and the payments for it
// are taken. What is not paid by then stands in the ledger, for the next start.
func (p *provider) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), finishWait)
	defer cancel()
	before := p.owing(ctx)
	if err := p.gateway.Drain(ctx); err != nil {
		p.app.out.say("What is being sent takes too long, and is broken off: it is sent again free.")
		return
	}
	limit := time.Now().Add(paidWait)
	for len(before) > 0 && time.Now().Before(limit) {
		if len(p.owing(ctx)) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// owing are the channels in which something was delivered and is not paid.
func (p *provider) owing(ctx context.Context) (ids []string) {
	records, err := p.payee.Records(ctx)
	if err != nil {
		p.app.out.say("what is owed is not known: %v", err)
	}
	for _, r := range records {
		if !r.Phase.Final() && r.Owed() > 0 {
			ids = append(ids, r.Terms.ID())
		}
	}
	return ids
}

// Close stops the listener, lets what is being sent finish for a moment, and
// closes the folder.
func (p *provider) Close() error {
	var failed []error
	if p.server != nil && p.url != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := p.server.Shutdown(ctx); err != nil {
			failed = append(failed, p.server.Close())
		}
		cancel()
		p.wall.CloseConnections()
	}
	p.stop()
	p.work.Wait()
	if p.admin != nil {
		failed = append(failed, p.admin.Close())
	}
	if p.ops != nil {
		failed = append(failed, p.ops.Close())
	}
	if p.files != nil {
		failed = append(failed, p.files.Close())
	}
	if p.peer != nil {
		failed = append(failed, p.peer.Close())
	}
	return errors.Join(append(failed, p.role.Close())...)
}

func (a *app) serve(ctx context.Context, f serveFlags, paths []string) error {
	p, err := a.startProvider(ctx, f, paths, func(p *provider) error {
		a.out.say("Selling at %s for %s in chunks of %s, on %s.", p.url, f.price, f.chunkText(), a.flags.network)
		a.out.say("Provider %s. Earnings go to the provider's wallet in %s.", p.identity, p.role.dir)
		a.out.say(forOthers+"%s %s/FILE   Stop with Ctrl-C: channels stay open and go on at the next start.", a.buyCommand(), p.url)
		return a.out.event("serving", map[string]any{"url": p.url, "provider": p.identity, "network": a.flags.network})
	})
	if err != nil {
		return err
	}
	return p.serveUntil(ctx)
}

// buyCommand is how somebody else buys here: with a folder of their own.
func (a *app) buyCommand() string {
	if a.regtest() {
		return "spillway get"
	}
	return "spillway --network " + a.flags.network + " get"
}

func (f serveFlags) chunkText() string {
	if f.chunks > 0 {
		return fmt.Sprintf("1/%d of a file", f.chunks)
	}
	return f.chunk
}
