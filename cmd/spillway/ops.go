package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/metrics"
	"github.com/spillway/spillway/internal/sdnotify"
	"github.com/spillway/spillway/internal/webhook"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/store"
)

// opsUse are the flags of those who run a provider.
type opsUse struct {
	admin, adminToken, metrics string
	secure                     *tls.Config
	token                      string // of the file that was named
	hooks                      []webhook.Target
}

func (u *opsUse) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&u.admin, "admin-listen", "", "address of the admin API, for programs with its token; the operator's commands on this machine need none")
	fl.StringVar(&u.adminToken, "admin-token-file", "", "file with the admin API's token (default: admin-token in the provider's folder, which is made)")
	fl.StringVar(&u.metrics, "metrics-listen", "", "address at which /metrics, /healthz and /readyz answer without a token")
}

// check refuses listeners that cannot be, or that show the token to a network, and reads
// what is wanted besides, before anything is opened.
func (u *opsUse) check(a *app, secure *tls.Config, insecure bool) (err error) {
	for flag, address := range map[string]string{"--admin-listen": u.admin, "--metrics-listen": u.metrics} {
		if address == "" {
			continue
		}
		host, err := checkAddress(address)
		if err != nil {
			return usagef("%s: %v", flag, err)
		}
		ip := net.ParseIP(host)
		if loopback := host == "localhost" || ip != nil && ip.IsLoopback(); !loopback && secure == nil && !insecure && flag == "--admin-listen" {
			return usagef("--admin-listen %s is beyond loopback, where its token would be seen: give --tls-cert and --tls-key, or --insecure-http if a proxy in front does TLS", address)
		}
	}
	u.secure = secure
	if u.adminToken != "" && u.admin == "" {
		return usagef("--admin-token-file goes with --admin-listen")
	}
	if u.adminToken != "" {
		if u.token, err = secretFile(u.adminToken); err != nil {
			return usagef("--admin-token-file %s: %w", u.adminToken, err)
		}
		if len(u.token) < 16 || strings.ContainsFunc(u.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return usagef("the token in %s is none: at least 16 characters on one line", u.adminToken)
		}
	}
	u.hooks, err = a.webhooks()
	return err
}

// operations watch over a provider: metrics, alarms, webhooks, probes.
type operations struct {
	p       *provider
	use     opsUse
	metrics *metrics.Metrics
	outbox  *webhook.Outbox // nil: there are no webhooks
	notify  *sdnotify.Notifier
	servers []*http.Server
	serving sync.WaitGroup
	wake    chan struct{} // has it looked for alarms now

	mu       sync.Mutex
	began    time.Time // of the look at the chain that goes on; zero: none does
	looked   time.Time // the last one that ended
	good     time.Time // the last one in which nothing failed
	failure  string    // of the last one
	tip      chain.Tip
	stale    error
	stores   error // of the last commit, where that was not saved
	stopping bool
	standing struct {
		at   time.Time
		took time.Duration
		now  *metrics.Standing
	}
}

// openOps makes what watches over a provider, before its driver is.
func (p *provider) openOps(use opsUse) (err error) {
	b := buildInfo()
	o := &operations{p: p, use: use, good: time.Now(), wake: make(chan struct{}, 1)}
	if o.notify, err = sdnotify.FromEnvironment(); err != nil {
		return usage(err)
	}
	o.metrics = metrics.New(metrics.Build{Version: b.Version, Revision: b.Revision, Go: b.Go}, o.now)
	o.outbox, err = webhook.New(webhook.Config{
		Store: p.role.store, Targets: use.hooks, Network: p.app.flags.network, Provider: p.identity, Attempted: o.metrics.Hooked, Stuck: o.hookStuck,
	})
	if err != nil {
		return usage(err)
	}
	if p.app.alarms != nil {
		p.app.alarms.told = o.alarmTold
	}
	p.app.onReload("log level", p.app.rereadLevel)
	p.ops = o
	return o.forgetHooks()
}

// observe puts what measures before a driver's store and chain.
func (o *operations) observe(cfg *payee.Config) {
	cfg.Store = o.metrics.Store(watchedStore{cfg.Store, o})
	cfg.Chain = o.metrics.Chain(cfg.Chain)
	cfg.Observer = both{o.metrics, o.outbox}
	if also := o.p.app.observer; also != nil {
		cfg.Observer = both{cfg.Observer, also}
	}
}

// both tells two observers.
type both struct{ a, b payee.Observer }

func (x both) Verifying() func(error) {
	a, b := x.a.Verifying(), x.b.Verifying()
	return func(err error) { a(err); b(err) }
}

func (x both) Beside(before *channel.PayeeRecord, next channel.PayeeRecord) ([]store.Op, error) {
	a, err := x.a.Beside(before, next)
	b, other := x.b.Beside(before, next)
	return append(a, b...), errors.Join(err, other)
}

func (x both) Saved(before *channel.PayeeRecord, next channel.PayeeRecord) {
	x.a.Saved(before, next)
	x.b.Saved(before, next)
}

// watchedStore notes whether commits are saved.
type watchedStore struct {
	payee.Store
	o *operations
}

func (s watchedStore) Commit(ctx context.Context, ops ...store.Op) error {
	err := s.Store.Commit(ctx, ops...)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrInvalid) || ctx.Err() != nil {
		return err // it says nothing of the disk
	}
	s.o.mu.Lock()
	changed := (err == nil) != (s.o.stores == nil)
	s.o.stores = err
	s.o.mu.Unlock()
	if changed && err != nil {
		s.o.p.app.raise(alarmStore, "", "nothing can be saved, so nothing is sold: "+sentence(err))
	} else if changed {
		s.o.p.app.calm(alarmStore, "", "what is sold is saved again")
	}
	return err
}

// alarmTold passes an alarm on. It may be raised while a channel is locked: saving an
// event locks none.
func (o *operations) alarmTold(a raised, over bool) {
	log := o.p.app.out.logger()
	if over {
		log.Info("alarm over", "kind", a.Kind, "subject", a.Subject)
	} else {
		o.metrics.Raised(a.Kind)
		log.Error("alarm", "kind", a.Kind, "subject", a.Subject, "text", a.Text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := o.outbox.Raise(ctx, webhook.Alarmed{Kind: a.Kind, Subject: a.Subject, Text: sentence(errors.New(a.Text)), Over: over}); err != nil {
		log.Error("an alarm was not kept for the webhooks", "kind", a.Kind, "error", err)
	}
}

// hookStuck raises the alarm of a webhook that takes nothing, or ends it.
func (o *operations) hookStuck(target, why string) {
	if why == "" {
		o.p.app.calm(alarmWebhook, target, "the webhook "+target+" takes events again")
		return
	}
	o.p.app.raise(alarmWebhook, target, why)
}

// step is a look at the chain, watched.
func (o *operations) step(look func(context.Context) error) func(context.Context) error {
	measured := o.metrics.Step(look)
	return func(ctx context.Context) error {
		o.mu.Lock()
		o.began = time.Now()
		o.mu.Unlock()
		err := measured(ctx)
		tip, tipErr := o.p.role.chain.Tip(ctx)
		stale := chain.CheckStale(ctx, o.p.role.chain, time.Now(), o.p.app.staleAfter())
		o.mu.Lock()
		defer o.mu.Unlock()
		o.began, o.looked, o.failure = time.Time{}, time.Now(), ""
		if tipErr == nil {
			o.tip, o.stale = tip, stale
		}
		if err == nil && ctx.Err() == nil {
			o.good = o.looked
		} else if err != nil {
			o.failure = sentence(err)
		}
		return err
	}
}

// now is what is true at a scrape.
func (o *operations) now(ctx context.Context) metrics.Now {
	_, ready := o.ready(ctx)
	o.mu.Lock()
	n := metrics.Now{TipHeight: o.tip.Height, TipTime: o.tip.Time, LastLook: o.good, Ready: ready}
	o.mu.Unlock()
	n.Standing = o.standingNow(ctx)
	if g := o.p.gateway; g != nil {
		n.Deliveries, n.SentBytes = g.Deliveries(), g.Sent()
	}
	if free, err := diskFree(o.p.role.dir); err == nil {
		n.DiskFree = free
	}
	if c := o.p.app.cert; c != nil {
		n.Certificate = c.ends()
	}
	n.Alarms, n.Pending = o.p.app.alarms.counts(), map[string]int{}
	for _, s := range o.outbox.States() {
		n.Pending[s.Name] = s.Pending
	}
	return n
}

// standingNow sums all channels up; of very many, not at each scrape.
func (o *operations) standingNow(ctx context.Context) *metrics.Standing {
	o.mu.Lock()
	s, height := o.standing, o.tip.Height
	o.mu.Unlock()
	if s.now != nil && time.Since(s.at) < lookShare*s.took {
		return s.now
	}
	began := time.Now()
	records, err := o.p.payee.Records(ctx)
	if err != nil {
		return nil
	}
	sum := metrics.StandingOf(records, height)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.standing.at, o.standing.took, o.standing.now = time.Now(), time.Since(began), &sum
	return &sum
}

// diskFree is how many bytes may be written where a folder is.
func diskFree(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// run starts what watches over the provider, until the context ends.
func (o *operations) run(ctx context.Context) {
	background := func(do func()) {
		o.p.work.Add(1)
		go func() {
			defer o.p.work.Done()
			do()
		}()
	}
	background(func() {
		o.outbox.Run(ctx, func(err error) { o.p.app.out.say("%v", err) })
	})
	if !o.p.app.out.terminal { // on one, a hang-up means that nobody is there any more
		background(func() { o.p.app.hangups(ctx, o.hangup) })
	}
	background(func() { o.guard(ctx) })
	background(func() { o.alive(ctx) })
	o.say(o.notify.Ready(fmt.Sprintf("Selling at %s on %s.", o.p.url, o.p.app.flags.network)))
}

func (o *operations) say(err error) {
	if err != nil {
		o.p.app.out.say("%v", err)
	}
}

// reload reads again what can be read again, and looks for alarms anew.
func (o *operations) reload() ([]string, error) {
	names, err := o.p.app.reload()
	select {
	case o.wake <- struct{}{}:
	default: // it is woken already
	}
	return names, err
}

// hangup reads again what can be read again, and says so to systemd.
func (o *operations) hangup() {
	o.say(o.notify.Reloading())
	names, err := o.reload()
	if err != nil {
		o.p.app.out.alarm("reload: %s", sentence(err))
	}
	o.p.app.out.say("read again: %v", names)
	o.say(o.notify.Ready(fmt.Sprintf("Selling at %s on %s.", o.p.url, o.p.app.flags.network)))
}

// alive gives systemd its signs of life as long as there are any.
func (o *operations) alive(ctx context.Context) {
	period := o.notify.Watchdog() / 3
	if period <= 0 {
		return
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		if checks, ok := o.healthy(); ok {
			o.say(o.notify.Alive())
		} else {
			o.p.app.out.alarm("no sign of life is given to systemd: %v", checks)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// listen opens the listeners of the admin API and of the metrics, where they are wanted.
func (o *operations) listen() error {
	if o.use.admin != "" {
		token, file, err := o.p.adminToken(o.use)
		if err != nil {
			return err
		}
		at, err := o.serve(o.use.admin, o.use.secure, o.p.adminHandler(false, token))
		if err != nil {
			return err
		}
		o.p.app.out.say("The admin API is at %s; its token is in %s.", at, file)
	}
	if o.use.metrics != "" {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", o.metrics.Handler())
		for pattern, h := range o.probes() {
			mux.Handle(pattern, h)
		}
		at, err := o.serve(o.use.metrics, nil, mux)
		if err != nil {
			return err
		}
		o.p.app.out.say("Metrics and probes are at %s.", at)
	}
	return nil
}

func (o *operations) serve(address string, secure *tls.Config, h http.Handler) (at string, err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", &failure{exit: exitLocal, code: "listen", message: err.Error(), money: noMoney, next: "Free the address or choose another.", err: err}
	}
	l = gateway.LimitListener(l, 64)
	at = "http://" + l.Addr().String()
	if secure != nil {
		l, at = tls.NewListener(l, secure), "https://"+l.Addr().String()
	}
	s := adminHTTP(h)
	o.servers = append(o.servers, s)
	o.serving.Add(1)
	go func() {
		defer o.serving.Done()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			o.p.app.out.alarm("the listener at %s ended: %v", address, err)
		}
	}()
	return at, nil
}

// Close ends the listeners.
func (o *operations) Close() error {
	var failed []error
	for _, s := range o.servers {
		failed = append(failed, s.Close())
	}
	o.serving.Wait()
	return errors.Join(failed...)
}

// draining says that the provider is about to stop.
func (o *operations) draining() {
	o.mu.Lock()
	o.stopping = true
	o.mu.Unlock()
	o.say(o.notify.Stopping())
}

// probes are what a service manager or a balancer asks, without a token.
func (o *operations) probes() map[string]http.Handler {
	probe := func(ask func(context.Context) (map[string]string, bool)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			checks, ok := ask(r.Context())
			status, code := "ok", http.StatusOK
			if !ok {
				status, code = "failing", http.StatusServiceUnavailable
			}
			raw, err := json.Marshal(map[string]any{"status": status, "checks": checks})
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(code)
			if _, err := w.Write(raw); err != nil {
				return // whoever asked is gone
			}
		})
	}
	return map[string]http.Handler{
		"GET /healthz": probe(func(context.Context) (map[string]string, bool) { return o.healthy() }),
		"GET /readyz":  probe(o.ready),
	}
}
