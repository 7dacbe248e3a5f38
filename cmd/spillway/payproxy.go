package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/forward"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/store"
)

// payProxyFlags are the flags of pay-proxy.
type payProxyFlags struct {
	budget, prepay, deposit, listen, cache string
	allow, users                           []string
	tokenFile, mitmCA                      string
	idle                                   time.Duration
	keep, anew                             bool
}

func (a *app) payProxyCommand() *cobra.Command {
	var f payProxyFlags
	cmd := &cobra.Command{
		Use:   "pay-proxy",
		Short: "Pay for whatever goes through a local proxy",
		Long: `A forward proxy on this machine that pays for what any program fetches through it:
files that spillway serve sells come through as verified bytes, with ranges and
resume, and other resources of the Payment scheme are paid by the request or as they
flow. Nothing is paid to a host that is not allowed, and never more than the budgets.
They count from the first start, over all restarts: --new-budget begins again.

  http_proxy=http://127.0.0.1:4403 curl -O http://HOST/FILE
  curl -O http://127.0.0.1:4403/https/HOST/FILE        (https: ask at it like this)

Only processes of this user may ask, unless a token is set.`,
		Example: "  spillway pay-proxy --budget 100000sat --allow files.example=20000sat",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.payProxy(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.budget, "budget", "", "most that may be paid in all, such as 100000sat")
	fl.StringArrayVar(&f.allow, "allow", nil, "host that may be paid, HOST[:PORT][=BUDGET]; a pattern such as *.example; can be given more than once, the first that fits counts")
	fl.StringVar(&f.prepay, "max-prepay", "0sat", "most that may be paid before it was received and verified")
	fl.StringVar(&f.deposit, "max-deposit", "1000000sat", "most that is locked in one channel; what is not spent comes back")
	fl.StringVar(&f.cache, "max-cache", "10GiB", "most that is kept on disk of the files that were bought, beside what is being served; what was not asked for the longest goes first")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:4403", "address to listen on; beyond loopback only with --token-file")
	fl.StringVar(&f.tokenFile, "token-file", "", "file with a token that lets in whoever sends it (as the password of the proxy), and nobody else")
	fl.StringArrayVar(&f.users, "user", nil, "another user of this machine who may spend too, such as _apt; can be given more than once")
	fl.StringVar(&f.mitmCA, "mitm-ca", "", "folder of a certificate authority of your own, made if it is not there: https of allowed hosts is answered in their name for programs that trust it")
	fl.DurationVar(&f.idle, "idle", 10*time.Minute, "channels that nothing was asked on for so long are closed; 0: never")
	fl.BoolVar(&f.keep, "keep-channel", false, "leave channels open at the end")
	fl.BoolVar(&f.anew, "new-budget", false, "count what may be paid from now on")
	return cmd
}

// payProxyPlan is what the flags say, read.
type payProxyPlan struct {
	total, prepay, deposit uint64
	cache                  uint64 // bytes
	allows                 []forward.Allow
	token                  string
	users                  []uint32
	loopback               bool
}

// read reads the flags before anything is opened.
func (f payProxyFlags) read() (p payProxyPlan, err error) {
	if f.budget == "" {
		return p, &failure{exit: exitConsent, code: "consent", message: "nobody has said how much may be paid", money: noMoney, next: "Say it with --budget, such as --budget 100000sat."}
	}
	if p.total, err = sat("budget", f.budget); err != nil {
		return p, err
	}
	if p.prepay, err = sat("max-prepay", f.prepay); err != nil {
		return p, err
	}
	if p.deposit, err = sat("max-deposit", f.deposit); err != nil {
		return p, err
	}
	if p.total == 0 || p.deposit == 0 {
		return p, usagef("--budget and --max-deposit are more than nothing")
	}
	if p.cache, err = content.ParseBytes(f.cache); err != nil {
		return p, usagef("--max-cache is a size such as 10GiB, not %s", clipped(f.cache))
	}
	if p.allows, err = readAllows(f.allow); err != nil {
		return p, err
	}
	if f.idle < 0 {
		return p, usagef("--idle is a time such as 10m, not %v", f.idle)
	}
	host, err := checkAddress(f.listen)
	if err != nil {
		return p, err
	}
	ip := net.ParseIP(host)
	p.loopback = host == "localhost" || ip != nil && ip.IsLoopback()
	if !p.loopback && f.tokenFile == "" {
		return p, usagef("%s is beyond loopback, where anybody could spend your money: give --token-file", f.listen)
	}
	if p.token, err = readToken(f.tokenFile); err != nil {
		return p, err
	}
	p.users, err = readUsers(f.users)
	return p, err
}

// readAllows reads HOST[=BUDGET].
func readAllows(texts []string) (allows []forward.Allow, err error) {
	if len(texts) == 0 {
		return nil, &failure{exit: exitConsent, code: "consent", message: "nobody has said which hosts may be paid", money: noMoney, next: "Name them with --allow HOST=BUDGET; --allow '*' allows every one."}
	}
	for _, text := range texts {
		host, amount, limited := strings.Cut(text, "=")
		a := forward.Allow{Host: strings.ToLower(strings.TrimSpace(host))}
		if limited {
			if a.Budget, err = sat("allow", amount); err != nil {
				return nil, err
			}
			if a.Budget == 0 {
				return nil, usagef("--allow %s: leave out a host that gets nothing", clipped(text))
			}
		}
		allows = append(allows, a)
	}
	if _, err := forward.NewBudgets(1, allows, nil, nil); err != nil {
		return nil, usagef("--allow: %v", err)
	}
	return allows, nil
}

// leastToken is how many characters a token has at the least.
const leastToken = 16

// readToken reads a token that is the first line of a file; "": there is no file.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = usagef("--token-file %s is not a file", path)
	}
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(raw))
	if len(token) < leastToken || len(token) > 256 || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' || c == ':' }) {
		return "", usagef("--token-file %s: a token is one line of %d characters or more, such as: openssl rand -hex 16", path, leastToken)
	}
	return token, nil
}

// readUsers are the users of the machine that may ask: this one, and those named.
func readUsers(names []string) ([]uint32, error) {
	users := []uint32{uint32(os.Getuid())}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			if u, err = user.LookupId(name); err != nil {
				return nil, usagef("--user %s: there is no such user here", clipped(name))
			}
		}
		id, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, usagef("--user %s: its number is %s", clipped(name), u.Uid)
		}
		users = append(users, uint32(id))
	}
	return users, nil
}

// budgetBucket and budgetKey are where the beginning of the budget is kept.
const (
	budgetBucket = "cmd/pay-proxy"
	budgetKey    = "budget"
)

// budgetBegin is when a budget began, and what had been signed in each channel then.
type budgetBegin struct {
	Version int               `json:"version"`
	Began   time.Time         `json:"began"`
	Base    map[string]uint64 `json:"base"` // sat, by channel id
	// Ours are channels among these that an earlier budget counted.
	Ours []string `json:"ours,omitempty"`
}

// counts reports whether this budget or an earlier one counts a channel: it was opened
// since, or something was signed in it since.
func (b budgetBegin) counts(r channel.PayerRecord) bool {
	base, older := b.Base[r.Terms.ID()]
	return !older || r.Signed > base || slices.Contains(b.Ours, r.Terms.ID())
}

// budgets counts what may be spent from the beginning that is kept, or a new one.
func (b *buyer) budgets(ctx context.Context, p payProxyPlan, anew bool) (all *forward.Budgets, begin budgetBegin, err error) {
	records, err := payer.List(ctx, b.store)
	if err != nil {
		return nil, begin, err
	}
	e, err := b.store.Get(ctx, budgetBucket, budgetKey)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, begin, err
	}
	there := err == nil
	if there {
		if err := json.Unmarshal(e.Value, &begin); err != nil || begin.Version != 1 {
			return nil, begin, fmt.Errorf("%w: the budget's beginning: %v", store.ErrDamaged, err)
		}
	}
	if !there || anew {
		next := budgetBegin{Version: 1, Began: time.Now().UTC(), Base: map[string]uint64{}}
		for _, r := range records {
			if next.Base[r.Terms.ID()] = r.Signed; there && begin.counts(r) && !r.Phase.Final() {
				next.Ours = append(next.Ours, r.Terms.ID())
			}
		}
		begin = next
		value, err := json.Marshal(begin)
		if err == nil {
			err = b.store.Commit(ctx, store.Op{Bucket: budgetBucket, Key: budgetKey, Value: value, Expect: e.Revision})
		}
		if err != nil {
			return nil, begin, err
		}
	}
	all, err = forward.NewBudgets(p.total, p.allows, records, begin.Base)
	return all, begin, err
}

// payingProxy is a pay-proxy that runs.
type payingProxy struct {
	app    *app
	buyer  *buyer
	proxy  *forward.Proxy
	spent  *forward.Budgets
	begin  budgetBegin
	url    string
	found  int // channels that an earlier run left open
	flags  payProxyFlags
	server *http.Server
	served chan error
	unlock func() error
}

func (a *app) startPayProxy(ctx context.Context, f payProxyFlags) (_ *payingProxy, err error) {
	plan, err := f.read()
	if err != nil {
		return nil, err
	}
	var ca *forward.CA
	if f.mitmCA != "" {
		if ca, err = forward.OpenCA(f.mitmCA); err != nil {
			return nil, err
		}
	}
	x := &payingProxy{app: a, flags: f, served: make(chan error, 1), unlock: func() error { return nil }}
	a.spend = func(r channel.PayerRecord, more uint64) error { return x.spent.Spend(r, more) }
	b, err := a.openBuyer(ctx)
	if err != nil {
		return nil, err
	}
	x.buyer = b
	defer func() {
		if err != nil {
			err = errors.Join(err, x.unlock(), x.buyer.Close())
		}
	}()
	if x.unlock, err = lockFolder(filepath.Join(b.dir, "pay-proxy.lock")); err != nil {
		x.unlock = func() error { return nil }
		return nil, err
	}
	if x.spent, x.begin, err = x.buyer.budgets(ctx, plan, f.anew); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return nil, &failure{exit: exitLocal, code: "listen", message: err.Error(), money: noMoney,
			next: "Free the address or choose another with --listen.", err: err}
	}
	x.url = "http://" + l.Addr().String()
	x.proxy, err = forward.New(forward.Config{
		Client: b.client, Buyer: b.buy, Budgets: x.spent, Store: b.store, Cache: filepath.Join(b.dir, "pay-proxy"), MaxCache: int64(plan.cache), MaxPrepay: plan.prepay, MaxDeposit: plan.deposit,
		Token: plan.token, Users: plan.users, TokenOnly: plan.token != "", Listen: l.Addr().String(), Fund: x.fund, CA: ca, Log: a.out.logger(),
	})
	if err == nil {
		x.found, err = x.proxy.Find(ctx, x.begin.counts)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	b.watch()
	x.server = &http.Server{
		Handler: x.proxy, ConnContext: forward.Conn, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 128 << 10,
		ErrorLog: log.New(&lockedWriter{a.out}, "", 0),
	}
	if !a.out.verbose {
		x.server.ErrorLog.SetOutput(io.Discard)
	}
	go func() { x.served <- x.server.Serve(gateway.LimitListener(l, maxConnections)) }()
	return x, nil
}

// fund has the devnet's faucet fill the wallet where it is short of coins: for the
// largest channel that may be opened.
func (x *payingProxy) fund(ctx context.Context) bool {
	before, err := x.buyer.wallet.Balance(ctx)
	if err != nil || !x.app.regtest() {
		return false
	}
	most, err := sat("max-deposit", x.flags.deposit)
	if err != nil {
		return false
	}
	if err := x.buyer.fillFromFaucet(ctx, before.Spendable+int64(most)+20_000); err != nil {
		return false
	}
	after, err := x.buyer.wallet.Balance(ctx)
	return err == nil && after.Spendable > before.Spendable
}

// idleTick is how often idle channels are looked for.
const idleTick = 15 * time.Second

func (a *app) payProxy(ctx context.Context, f payProxyFlags) (err error) {
	x, err := a.startPayProxy(ctx, f)
	if err != nil {
		return err
	}
	x.tell()
	tick := time.NewTicker(min(idleTick, max(f.idle, time.Second)))
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case err = <-x.served:
			running = false
		case <-tick.C:
			x.closeIdle(ctx)
		}
	}
	a.out.say("Stopping: channels are closed. A second signal ends it at once; nothing is lost by that.")
	signal.Reset(os.Interrupt, syscall.SIGTERM)
	if err := errors.Join(err, x.Close()); err != nil {
		return err
	}
	s := x.spent.Status()
	return a.out.result(map[string]any{"url": x.url, "spent_sat": s.Spent, "budget_sat": s.Budget, "hosts": s.Lines})
}

// tell says what may be paid, and how to use it.
func (x *payingProxy) tell() {
	out, s := x.app.out, x.spent.Status()
	out.say("Paying for what goes through %s, at most %s in all, on %s.", x.url, money(s.Budget*1000), x.app.flags.network)
	for _, l := range s.Lines {
		most := "as far as that goes"
		if l.Budget > 0 {
			most = "at most " + money(l.Budget*1000)
		}
		out.say("  %s: %s, %s paid since %s", printable(l.Host), most, money(l.Spent*1000), x.begin.Began.Format("2006-01-02 15:04 MST"))
	}
	if x.found > 0 {
		out.say("  %d channels of an earlier run are open: they are used again, and closed when nobody uses them.", x.found)
	}
	out.say("Use it: http_proxy=%s curl -O http://HOST/FILE, or curl -O %s/https/HOST/FILE. What is left: curl %s/", x.url, x.url, x.url)
	if err := out.event("paying", map[string]any{"url": x.url, "network": x.app.flags.network, "budget_sat": s.Budget, "spent_sat": s.Spent, "hosts": s.Lines, "began": x.begin.Began}); err != nil {
		out.say("output: %v", err)
	}
}

// closeIdle closes the channels that nobody uses, and says what did not close.
func (x *payingProxy) closeIdle(ctx context.Context) {
	if x.flags.idle == 0 || x.flags.keep {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := x.proxy.CloseIdle(ctx, x.flags.idle); err != nil && ctx.Err() == nil {
		x.app.out.say("A channel that nobody uses was not closed; it is tried again: %s", sentence(err))
	}
}

// Close ends requests, closes channels unless they are kept, and closes the folder.
func (x *payingProxy) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	if err := x.server.Shutdown(ctx); err != nil {
		if err := x.server.Close(); err != nil {
			x.app.out.say("listener: %v", err)
		}
	}
	cancel()
	ctx, cancel = context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := x.proxy.Close(ctx, x.flags.keep); err != nil {
		x.app.out.say("A channel was not closed (%s). Its rest comes back with its refund, or with: spillway channels close ID", sentence(err))
	}
	if err := x.buyer.look(ctx); err != nil {
		x.app.out.say("The chain could not be asked at the end: %v", err)
	}
	return errors.Join(x.unlock(), x.buyer.Close())
}

// lockFolder lets one process have something; its file stays. Errors: store.ErrLocked.
func lockFolder(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, localError(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: a pay-proxy runs on this data folder", store.ErrLocked), f.Close())
	}
	return f.Close, nil
}
