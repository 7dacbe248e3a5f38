package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// demoFlags are the flags of demo.
type demoFlags struct {
	chunks   uint64
	capacity string
	channel  string
	scenario string
}

func (a *app) demoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo [FILE]",
		Short: "The whole story in one process: fund, hold the refund, verify, pay, settle",
		Long: `Sells a real file (this program itself where none is named) from a provider to a
payer over one payment channel on an embedded Bitcoin regtest chain, over a real
loopback connection, and shows every transaction. With --chain bitcoind://… or
btcd://… it is played on your own regtest node, and mines on it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			if cmd.Flags().Changed("scenario") {
				return a.scenario(cmd, f, args)
			}
			return a.demo(cmd.Context(), f, file)
		},
	}
	fl := cmd.Flags()
	fl.Uint64Var(&f.chunks, "chunks", 100, "chunks that the file is sold in")
	fl.StringVar(&f.capacity, "capacity", "100btc", "what the file is worth and the payer locks")
	fl.StringVar(&f.channel, "channel", "taproot", "taproot, multisig, multisig-p2sh or duplex")
	fl.StringVar(&f.scenario, "scenario", "", "play how somebody cheats or fails, and who gets what; list: name them")
	return cmd
}

// story is one run of the demo.
type story struct {
	app      *app
	flags    demoFlags
	file     string
	price    uint64 // sat
	dir      string
	devnet   *running
	node     *demoNode // instead of devnet, where --chain names a bitcoind
	provider *provider
	buyer    *buyer
	plan     *download.Plan
	result   *download.Result
	refund   demoTx
	refused  string // why the early refund was refused
	payments payments
	begin    time.Time
}

func (a *app) demo(ctx context.Context, f demoFlags, file string) (err error) {
	if !a.regtest() {
		return usagef("the demo runs on its own regtest chain, not on %s", a.flags.network)
	}
	s := &story{app: a, flags: f, begin: time.Now()}
	if s.price, err = sat("capacity", f.capacity); err != nil {
		return err
	}
	if f.chunks == 0 {
		return usagef("--chunks is at least 1")
	}
	if _, err := construction(f.channel); err != nil {
		return err
	}
	if s.file, err = demoFile(file); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "spillway-demo-"); err != nil {
		return localError(err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, act := range []func(context.Context) error{s.chain, s.sell, s.fund, s.buy, s.settled} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return s.tell(ctx)
}

// demoFile is the named file, or the program that runs.
func demoFile(name string) (string, error) {
	if name == "" {
		exe, err := os.Executable()
		if err != nil {
			return "", localError(err)
		}
		return exe, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return "", usagef("%s is no regular file with something in it", name)
	}
	return filepath.Abs(name)
}

// chain starts the embedded chain, or connects to the node that --chain names.
func (s *story) chain(ctx context.Context) (err error) {
	if s.app.ownNode() {
		return s.startNode(ctx)
	}
	s.app.out.say("1. A chain. Bitcoin's own consensus rules, in this process, on a regtest network: the coins are worth nothing, the rules are real.")
	s.devnet, err = s.app.startDevnet("", "127.0.0.1:0", 0)
	if err != nil {
		return err
	}
	tip, err := s.devnet.node.Tip(ctx)
	if err != nil {
		return err
	}
	s.app.out.say("   %d blocks are mined; its Esplora API is at %s", tip.Height, s.devnet.url)
	return nil
}

// side is the demo's app for one side: its own folder, the demo's chain.
func (s *story) side() *app {
	a := &app{out: s.app.out, stdin: s.app.stdin}
	a.flags = s.app.flags
	a.flags.data, a.flags.passphraseFile = filepath.Join(s.dir, "data"), ""
	if s.devnet != nil {
		a.flags.chain = []string{s.devnet.url}
	}
	return a
}

// sell starts the provider.
func (s *story) sell(ctx context.Context) (err error) {
	quiet := s.side()
	quiet.out = &output{stdout: io.Discard, stderr: io.Discard, quiet: true}
	quiet.observer = &s.payments
	s.provider, err = quiet.startProvider(ctx, serveFlags{
		price: fmt.Sprintf("%dsat/file", s.price), chunks: s.flags.chunks, chunk: "1MiB", listen: "127.0.0.1:0", credit: 1,
		tower: towerUse{maxRate: towerRate},
	}, []string{s.file}, nil)
	if err != nil {
		return err
	}
	entry, err := s.offered(ctx)
	if err != nil {
		return err
	}
	m := entry.Manifest()
	s.app.out.say("2. A provider offers %s at %s: %s for %s, in %s of %s at %s each.", m.Name, s.provider.url,
		size(m.Size), money(m.TotalMsat()), count(m.Chunks(), "chunk"), size(m.ChunkBytes), money(m.ChunkMsat))
	s.app.out.say("   Its name is its BLAKE3 root %s", m.Root)
	return nil
}

// offered waits until the file is hashed.
func (s *story) offered(ctx context.Context) (*content.Entry, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		e, err := s.provider.files.Lookup(filepath.Base(s.file))
		if !errors.Is(err, content.ErrNotFound) {
			return e, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-s.provider.served:
			return nil, err
		case <-tick.C:
		}
	}
}

// fund makes the payer, its coins and its plan.
func (s *story) fund(ctx context.Context) (err error) {
	a := s.side()
	r, err := a.openRole(ctx, "payer")
	if err != nil {
		return err
	}
	if s.buyer, err = a.newBuyer(r, paywall.DefaultHTTP()); err != nil {
		return errors.Join(err, r.Close())
	}
	quietly := *a
	quietly.out = &output{stdout: io.Discard, stderr: io.Discard, quiet: true}
	s.buyer.app = &quietly
	s.buyer.watch()
	where := s.provider.url + (&url.URL{Path: "/" + filepath.Base(s.file)}).EscapedPath()
	s.plan, err = s.buyer.buy.Plan(ctx, download.Want{URL: where, Dir: filepath.Join(s.dir), Construction: script.Construction(s.flags.channel)}, nil)
	if err != nil {
		return err
	}
	if err := s.coins(ctx, int64(s.plan.Capacity)+10_000); err != nil {
		return err
	}
	s.app.out.say("3. A payer, with coins worth nothing, locks %s in a %s channel: a funding transaction that needs both keys.",
		money(s.plan.Capacity*1000), s.plan.Construction)
	s.app.out.say("   Before it leaves, the payer holds its refund: everything comes back from height %d on (the tip is %d).", s.plan.Expiry, s.plan.Tip)
	return nil
}

// coins gives the payer an amount in sat.
func (s *story) coins(ctx context.Context, need int64) error {
	if s.node == nil {
		return s.buyer.fillFromFaucet(ctx, need)
	}
	pk, err := s.buyer.wallet.ReceiveScript(ctx)
	if err != nil {
		return err
	}
	if err := s.node.reward(ctx, pk, need); err != nil {
		return err
	}
	return s.buyer.awaitCoins(ctx, need)
}

// buy buys the file; at the first chunk the early refund is tried.
func (s *story) buy(ctx context.Context) (err error) {
	pic := &picture{story: s}
	tried := false
	var failed error
	s.result, err = s.buyer.buy.Run(ctx, s.plan, download.Limits{Budget: s.price + s.plan.MinimumCharge}, func(ev download.Event) {
		if ev.Phase == download.Buying && !tried {
			tried = true
			failed = s.tryRefund(ctx, ev.Channel)
			s.app.out.say("5. Chunk by chunk: each is verified, then signed for. Not one byte is paid before it is verified.")
		}
		pic.event(ev)
	})
	if err = errors.Join(err, failed); err != nil {
		pic.done()
		return err
	}
	pic.full(s.plan.Manifest.Chunks(), s.result.Paid)
	if s.result.Unsettled != nil {
		return s.result.Unsettled
	}
	return nil
}

// tryRefund broadcasts the refund before its time and takes down the refusal.
func (s *story) tryRefund(ctx context.Context, id string) error {
	tx, err := s.buyer.payer.EarlyRefund(ctx, id)
	if err != nil {
		return err
	}
	err = s.buyer.chain.Broadcast(ctx, tx)
	if err == nil {
		return errors.New("the chain took a refund before its time")
	}
	s.refused = err.Error()
	prev := &channelOutput{capacity: int64(s.plan.Capacity)}
	s.refund, err = describeTx("refund", tx, prev.fee(tx), nil)
	if err != nil {
		return err
	}
	s.app.out.say("4. Could the payer take it back now? It tries, and the chain says: %s", s.refused)
	return nil
}

// settled waits until the last transaction is in a block.
func (s *story) settled(ctx context.Context) error {
	s.app.out.say("6. The end: one transaction pays the provider and returns the rest.")
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := s.mined(ctx)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// close stops everything and removes the demo's folder.
func (s *story) close() error {
	var failed []error
	if s.buyer != nil {
		failed = append(failed, s.buyer.Close())
	}
	if s.provider != nil {
		failed = append(failed, s.provider.Close())
	}
	if s.devnet != nil {
		failed = append(failed, s.devnet.Close())
	}
	if s.node != nil {
		failed = append(failed, s.node.Close())
	}
	return errors.Join(append(failed, os.RemoveAll(s.dir))...)
}

// payments are the times that payments took the provider: from the check of a signature
// until what it pays is durable. It observes the one channel of the story.
type payments struct {
	mu    sync.Mutex
	began time.Time
	took  []time.Duration
}

// Verifying implements payee.Observer.
func (p *payments) Verifying() func(error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = time.Now()
	return func(error) {}
}

// Beside implements payee.Observer: nothing is saved.
func (p *payments) Beside(*channel.PayeeRecord, channel.PayeeRecord) ([]store.Op, error) {
	return nil, nil
}

// Saved implements payee.Observer.
func (p *payments) Saved(before *channel.PayeeRecord, next channel.PayeeRecord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if before != nil && next.Claimed() > before.Claimed() && !p.began.IsZero() {
		p.took = append(p.took, time.Since(p.began))
	}
}

// median in milliseconds.
func (p *payments) median() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(p.took))
	return float64(sorted[len(sorted)/2].Microseconds()) / 1000
}

// fileHash is a file's SHA-256 in hex.
func fileHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// mined reports whether the transaction that spends the channel is in a block.
func (s *story) mined(ctx context.Context) (bool, error) {
	rec, err := s.buyer.payer.Record(ctx, s.result.Channel)
	if err != nil {
		return false, err
	}
	spend, err := s.buyer.chain.Spend(ctx, outpoint(rec.Terms))
	return spend != nil && spend.Confirmed, err
}
