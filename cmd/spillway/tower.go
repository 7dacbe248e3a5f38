package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"

	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/towerhttp"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store/sqlite"
	"github.com/spillway/spillway/watch"
	"github.com/spillway/spillway/watch/tower"
)

// towerFlags are the flags of tower.
type towerFlags struct {
	listen, tlsCert, tlsKey, add string
	insecure, list               bool
	maxChannels                  int
	maxBytes                     int64
}

func (a *app) towerCommand() *cobra.Command {
	var f towerFlags
	cmd := &cobra.Command{
		Use:   "tower",
		Short: "Watch over the channels of providers that may be away",
		Long: `Keeps, for each channel of the providers that it knows, settlements at rising
fees that the provider completed, and broadcasts the lowest one that is accepted
when a refund, an older state or the deadline is seen. It has no key and no coin:
the worst that it can do is to pay the highest of these fees, or to do nothing.

First:  spillway tower --add-provider NAME   prints a token for that provider
Then:   spillway tower
There:  spillway serve … --tower URL --tower-token-file FILE`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.add != "" && f.list:
				return usagef("--add-provider and --providers are two things")
			case f.add != "":
				return a.addProvider(cmd.Context(), f.add)
			case f.list:
				return a.listProviders(cmd.Context())
			}
			return a.tower(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.add, "add-provider", "", "make a token for a provider of this name, print it, and end")
	fl.BoolVar(&f.list, "providers", false, "list the providers and what they have stored, and end")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:4405", "address to listen on")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "certificate file for TLS")
	fl.StringVar(&f.tlsKey, "tls-key", "", "key file for TLS")
	fl.BoolVar(&f.insecure, "insecure-http", false, "listen beyond loopback without TLS all the same")
	fl.IntVar(&f.maxChannels, "max-channels", 10_000, "channels that one provider may have here at once")
	fl.Int64Var(&f.maxBytes, "max-bytes", 64<<20, "bytes that one provider may have here at once")
	return cmd
}

// openTower opens the tower's folder. Providers can be added while it runs.
func (a *app) openTower(ctx context.Context) (*role, error) {
	r := &role{name: "tower", dir: a.folder("tower")}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, localError(err)
	}
	s, err := sqlite.Open(ctx, filepath.Join(r.dir, "spillway.db"), sqlite.Options{Shared: true})
	if err != nil {
		return nil, err
	}
	r.store, r.close = s, append(r.close, s.Close)
	return r, nil
}

func (a *app) addProvider(ctx context.Context, name string) error {
	if err := tower.CheckName(name); err != nil {
		return usage(err)
	}
	r, err := a.openTower(ctx)
	if err != nil {
		return err
	}
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return errors.Join(err, r.Close())
	}
	token, err := tower.AddProvider(ctx, r.store, name, secret)
	if errors.Is(err, tower.ErrName) || errors.Is(err, tower.ErrKnown) {
		err = usage(err)
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	a.out.say("The token of %s, which is shown this once. Put it into a file that only the provider can read.", name)
	a.out.print("%s", token)
	return a.out.result(map[string]any{"provider": name, "token": token})
}

func (a *app) listProviders(ctx context.Context) error {
	r, err := a.openTower(ctx)
	if err != nil {
		return err
	}
	all, err := tower.Providers(ctx, r.store)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	list := make([]map[string]any, len(all))
	for i, p := range all {
		a.out.print("%-30s %s, %s", p.Name, count(uint64(p.Channels), "channel"), size(uint64(p.Bytes)))
		list[i] = map[string]any{"provider": p.Name, "channels": p.Channels, "bytes": p.Bytes}
	}
	return a.out.result(map[string]any{"providers": list})
}

// tower runs the watchtower until it is interrupted.
func (a *app) tower(ctx context.Context, f towerFlags) (err error) {
	if err := (serveFlags{listen: f.listen, tlsCert: f.tlsCert, tlsKey: f.tlsKey, insecure: f.insecure}).checkListen(); err != nil {
		return err
	}
	if f.maxChannels < 1 || f.maxBytes < 1 {
		return usagef("--max-channels and --max-bytes are at least 1")
	}
	secure, err := a.loadTLS(f.tlsCert, f.tlsKey)
	if err != nil {
		return err
	}
	if err := errors.Join(a.checkChain(), a.checkSeller("tower")); err != nil {
		return err
	}
	r, err := a.openTower(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if r.chain, err = a.connectIn(ctx, r.dir); err != nil {
		return err
	}
	r.close = append(r.close, func() error { return closeChain(r.chain) })
	if err := checkTower(r.chain); err != nil {
		return err
	}
	t, err := tower.New(tower.Config{
		Store: r.store, Chain: r.chain, MaxChannels: f.maxChannels, MaxBytes: f.maxBytes, Notify: a.towerTells, Log: a.out.logger(),
	})
	if err != nil {
		return err
	}
	l, url, err := f.open(secure)
	if err != nil {
		return err
	}
	server := gateway.HTTPServer(towerhttp.Handler(t, a.out.logger()), log.New(&lockedWriter{a.out}, "", 0))
	if !a.out.verbose {
		server.ErrorLog.SetOutput(io.Discard)
	}
	a.out.say("Watching from %s, on %s; stop with Ctrl-C.", url, a.flags.network)
	if err := a.out.event("tower", map[string]any{"url": url, "network": a.flags.network}); err != nil {
		return errors.Join(err, l.Close())
	}
	return a.runTower(ctx, t, r, server, l)
}

// open binds the tower's listener.
func (f towerFlags) open(secure *tls.Config) (l net.Listener, url string, err error) {
	if l, err = net.Listen("tcp", f.listen); err != nil {
		return nil, "", &failure{exit: exitLocal, code: "listen", message: err.Error(), money: noMoney,
			next: "Free the address or choose another with --listen.", err: err}
	}
	l = gateway.LimitListener(l, maxConnections)
	if secure == nil {
		return l, "http://" + l.Addr().String(), nil
	}
	return tls.NewListener(l, secure), "https://" + l.Addr().String(), nil
}

// lenient is a chain that may have no fee estimate: a tower's fees are in its ladders.
type lenient struct{ chain.Backend }

// FeeRate implements watch.Chain.
func (l lenient) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	rate, err := l.Backend.FeeRate(ctx, blocks)
	if err != nil {
		return chain.MinFeeRate, ctx.Err()
	}
	return rate, nil
}

// runTower looks at the chain and serves until the context or the listener ends.
func (a *app) runTower(ctx context.Context, t *tower.Tower, r *role, server *http.Server, l net.Listener) error {
	looking, stop := context.WithCancel(context.Background())
	ended, served := make(chan struct{}), make(chan error, 1)
	w := &watch.Watch{Chain: lenient{r.chain}, Drivers: []watch.Driver{t}, Log: a.out.logger()}
	go func() {
		defer close(ended)
		every(looking, a.lookEvery(), w.Step, func(err error) { a.out.say("watch: %v", err) })
	}()
	go func() { served <- server.Serve(l) }()
	var failed error
	select {
	case <-ctx.Done():
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if failed = server.Shutdown(closing); failed != nil {
			failed = server.Close()
		}
		cancel()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			failed = errors.Join(failed, err)
		}
	case failed = <-served:
	}
	stop()
	<-ended
	if failed != nil {
		return failed
	}
	return a.out.result(map[string]any{"stopped": true})
}

// lookEvery is how often a tower looks at the chain.
func (a *app) lookEvery() time.Duration {
	if a.regtest() {
		return time.Second
	}
	return 10 * time.Second
}

// towerTells tells what a tower does.
func (a *app) towerTells(e tower.Event) {
	line := map[string]any{"provider": e.Provider, "channel": e.Channel, "amount_sat": e.Amount, "rungs": e.Rungs}
	if e.Epoch > 0 {
		line["epoch"] = e.Epoch
	}
	switch e.Kind {
	case "rung":
		a.out.say("%s: rung %d of %d for %s (%s), %s of fee, at height %d: %s", e.Provider, e.Rung+1, e.Rungs, e.Channel, e.Why,
			money(uint64(e.Fee)*1000), e.Height, e.Txid)
		line["rung"], line["txid"], line["fee_sat"], line["height"], line["reason"] = e.Rung, e.Txid, e.Fee, e.Height, e.Why
	case "done":
		a.out.say("%s: %s is over, spent by %s", e.Provider, e.Channel, e.Txid)
		line["txid"], line["height"] = e.Txid, e.Height
	}
	if err := a.out.event(e.Kind, line); err != nil {
		a.out.say("output: %v", err)
	}
}

// towerUse are the flags by which serve uses a tower.
type towerUse struct {
	url, tokenFile string
	maxRate        int64
}

func (u *towerUse) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&u.url, "tower", "", "URL of a watchtower that settles channels while this provider is away")
	fl.StringVar(&u.tokenFile, "tower-token-file", "", "file with the token that the tower's operator gave")
	fl.Int64Var(&u.maxRate, "tower-max-rate", towerRate, "the highest fee rate that the tower may spend, in sat/vB")
}

// What --tower-max-rate is where nothing is said, and may be at most, in sat/vB.
const (
	towerRate    = 500
	maxTowerRate = 100_000
)

// client speaks to the tower of the flags; nil: there is none.
func (u towerUse) client() (*towerhttp.Client, error) {
	switch {
	case u.maxRate < 1 || u.maxRate > maxTowerRate:
		return nil, usagef("--tower-max-rate is 1 to %d sat/vB", maxTowerRate)
	case u.url == "" && u.tokenFile == "":
		return nil, nil
	case u.url == "" || u.tokenFile == "":
		return nil, usagef("--tower and --tower-token-file go together")
	}
	token, err := os.ReadFile(u.tokenFile)
	if err != nil {
		return nil, usagef("--tower-token-file: %w", err)
	}
	text := strings.TrimSpace(string(token))
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, usagef("--tower-token-file %s holds no token: it is one word, as the tower's operator was shown it", u.tokenFile)
	}
	client, err := towerhttp.NewClient(u.url, text)
	if err != nil {
		return nil, usage(err)
	}
	return client, nil
}

// openTower makes what hands ladders over to the tower of the flags; nil: there is none.
func (p *provider) openTower(u towerUse) error {
	client, err := u.client()
	if err != nil || client == nil {
		return err
	}
	p.tower = &towerhttp.Keeper{
		Payee: p.payee, HandOver: client.HandOver, Held: client.Held, Limit: script.FeeRatePerVB(u.maxRate),
		Told: func(t tower.Taken) {
			p.app.out.logger().Info("handed over", "tower", u.url, "channel", t.Channel, "amount_sat", t.Amount, "rungs", t.Rungs)
			if err := p.app.out.event("handover", t); err != nil {
				p.app.out.say("output: %v", err)
			}
		},
	}
	return nil
}

// guard hands ladders over until the context ends, and what is left then. Whatever
// the tower answers, or if it does not, sales go on.
func (p *provider) guard(ctx context.Context) {
	step := func(ctx context.Context, all bool) error {
		tip, err := p.role.chain.Tip(ctx)
		if err != nil {
			return err
		}
		return p.tower.Step(ctx, tip.Height, all)
	}
	say := func(err error) { p.app.out.say("tower: %s; it is tried again, sales go on", sentence(err)) }
	told := time.Now()
	every(ctx, time.Second, func(ctx context.Context) error {
		err := step(ctx, false)
		if err == nil {
			told = time.Now()
			p.app.calm(alarmTower, "", "the tower is told of what is paid again")
		} else if ctx.Err() == nil && time.Since(told) > unseenAfter {
			p.app.raise(alarmTower, "", "the tower was not told of what is paid since "+told.UTC().Format(time.RFC3339)+": "+sentence(err))
		}
		return err
	}, say)
	last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := step(last, true); err != nil {
		p.app.out.say("tower: the last payments were not handed over: %s", sentence(err))
	}
}
