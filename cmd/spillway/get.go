package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// maxParallel bounds --parallel: providers serve few requests of one channel at once.
const maxParallel = 16

// getFlags are the flags of get.
type getFlags struct {
	to, budget, prepay, channel, root string
	trade, fundsFrom                  string
	keep, yes, noExport               bool
	exports                           string
	wait                              time.Duration
	parallel                          int
	waitAlways                        bool // --wait was given: also for the first answer
}

func (a *app) getCommand() *cobra.Command {
	var f getFlags
	cmd := &cobra.Command{
		Use:   "get URL…",
		Short: "Buy files, chunk by chunk",
		Long: `Buys files from a provider; a URL that ends in / is a folder, and what is in it
is bought. Each chunk is verified before it is paid for; what
is locked and not spent comes back. A purchase that stopped goes on when the
same command is given again: nothing is paid twice.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.waitAlways = cmd.Flags().Changed("wait")
			if f.trade != "" {
				return a.getTrade(cmd.Context(), f, args)
			}
			return a.get(cmd.Context(), f, args)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.to, "output", "o", "", "file or folder to write to (default: the file's name, here); -: the standard output, in order, verified (all else that is said, also by --json, goes to stderr)")
	fl.StringVar(&f.budget, "budget", "", "most that may be paid to providers in all, such as 100000sat")
	fl.StringVar(&f.prepay, "max-prepay", "0sat", "most that may be paid before it was received and verified")
	fl.StringVar(&f.channel, "channel", "", "taproot, multisig, multisig-p2sh or duplex (default: taproot)")
	fl.StringVar(&f.trade, "trade", "", "pay over this duplex channel, which the other side opened at the provider that runs on this data folder")
	fl.StringVar(&f.root, "root", "", "take only the content of this BLAKE3 root")
	fl.DurationVar(&f.wait, "wait", time.Hour, "how long to wait for a provider that does not answer any more, or asks for patience, such as for a file that it is still reading; given, it counts for the first answer too; 0: a few tries")
	fl.IntVar(&f.parallel, "parallel", 4, "chunks that are asked for at once, in one channel, as far as the provider's credit allows")
	fl.BoolVar(&f.keep, "keep-channel", false, "leave the channel open for the next purchase")
	fl.StringVar(&f.exports, "exports", "", "folder that a new channel's export is kept in (default: in the data folder)")
	fl.BoolVar(&f.noExport, "no-export", false, "keep no export: without the data folder what is unpaid would be lost")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	walletFlag(fl, &f.fundsFrom)
	return cmd
}

// construction reads --channel; "" leaves the choice.
func construction(text string) (script.Construction, error) {
	switch c := script.Construction(text); c {
	case "", script.Taproot, script.Multisig, script.MultisigP2SH, script.Duplex:
		return c, nil
	default:
		return "", usagef("--channel is taproot, multisig, multisig-p2sh or duplex, not %q", text)
	}
}

// want reads the flags for one URL.
func (f getFlags) want(url string, many bool) (download.Want, error) {
	w := download.Want{URL: url, Dir: "."}
	err := checkURL(url)
	if err != nil {
		return w, err
	}
	if w.Construction, err = construction(f.channel); err != nil {
		return w, err
	}
	if f.root != "" {
		root, err := content.ParseHash(f.root)
		if err != nil {
			return w, usage(err)
		}
		w.Root = &root
		if isFolder(url) {
			return w, usagef("--root is the root of one file, and %s is a folder", url)
		}
	}
	info, err := os.Stat(f.to)
	switch {
	case f.to == "" || f.to == "-":
	case err == nil && info.IsDir():
		w.Dir = f.to
	case strings.HasSuffix(f.to, "/") || many:
		if err := os.MkdirAll(f.to, 0o755); err != nil {
			return w, localError(err)
		}
		w.Dir = f.to
	default:
		w.Dir, w.Path = "", f.to
	}
	return w, nil
}

// sat reads an amount that must be whole satoshi.
func sat(name, text string) (uint64, error) {
	msat, err := content.ParseAmountMsat(text)
	if err != nil {
		return 0, usage(fmt.Errorf("--%s: %w", name, err))
	}
	if msat%1000 != 0 {
		return 0, usagef("--%s is whole satoshi, not %s", name, text)
	}
	return msat / 1000, nil
}

func (f getFlags) limits() (lim download.Limits, err error) {
	lim = download.Limits{Budget: channel.MaxSat, KeepChannel: f.keep, Wait: f.wait, Parallel: f.parallel}
	if f.parallel < 1 || f.parallel > maxParallel {
		return lim, usagef("--parallel is from 1 to %d, not %d", maxParallel, f.parallel)
	}
	if info, err := os.Stat(f.exports); f.exports != "" && (err == nil && !info.IsDir() || errors.Is(err, syscall.ENOTDIR)) {
		return lim, usagef("--exports is a folder, which %s is not", f.exports)
	}
	if f.exports != "" && f.noExport {
		return lim, usagef("--exports and --no-export exclude each other")
	}
	if f.wait < 0 {
		return lim, usagef("--wait is a time such as 10m, not %v", f.wait)
	}
	if f.budget != "" {
		if lim.Budget, err = sat("budget", f.budget); err != nil {
			return lim, err
		}
	}
	lim.MaxPrepay, err = sat("max-prepay", f.prepay)
	return lim, err
}

func (a *app) get(ctx context.Context, f getFlags, urls []string) (err error) {
	begin := time.Now()
	lim, err := f.limits()
	if err != nil {
		return err
	}
	wants := make([]download.Want, len(urls))
	for i, url := range urls {
		if wants[i], err = f.want(url, len(urls) > 1 || isFolder(url)); err != nil {
			return err
		}
	}
	if f.to == "-" {
		if err := a.toPipe(wants); err != nil {
			return err
		}
	}
	b, err := a.openBuyerFrom(ctx, f.fundsFrom)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if b.fresh {
		a.out.say("A wallet was made in %s (on regtest without a passphrase).", b.dir)
	}
	b.keepIn(f)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := b.tidyExports(ctx); err != nil {
			a.out.say("The exports of channels could not be brought up to date: %v", err)
		}
	}()
	b.watch()
	var k basket
	show := newMeter(a.out, 0, 0)
	err = a.patient(ctx, f, show, func() (err error) {
		k, err = b.fill(ctx, wants)
		return err
	})
	show.done()
	if err != nil {
		return err
	}
	done, err := a.buyAll(ctx, b, k, f, lim)
	if err != nil {
		return err
	}
	if err := b.look(ctx); err != nil { // everything is bought: the next command looks again
		a.out.say("The chain could not be asked at the end: %v", err)
	}
	if !lim.KeepChannel && len(k.items) > 0 {
		b.tellOpen(ctx, k.items[len(k.items)-1].URL, nil)
	}
	if !k.many {
		return nil
	}
	a.total(ctx, b, done)
	return a.out.result(totals(done, time.Since(begin)))
}

// buyAll buys what is in a basket, one file after the other. The budget is for all
// of them.
func (a *app) buyAll(ctx context.Context, b *buyer, k basket, f getFlags, lim download.Limits) (done []*bought, err error) {
	if k.many {
		if err := a.agree(ctx, b, &k, f, &lim); err != nil {
			return nil, err
		}
		f.yes = true
	}
	for i, it := range k.items {
		if err := makeDir(it.Want); err != nil {
			return done, err
		}
		each := lim
		each.KeepChannel = lim.KeepChannel || goesOn(k.items[i+1:], it.URL)
		res, err := a.getOne(ctx, b, f, it.Want, each, !k.many)
		if err != nil {
			b.tellOpen(ctx, it.URL, err)
			return done, err
		}
		done = append(done, res)
		lim.Budget -= min(lim.Budget, res.Paid)
	}
	if !lim.KeepChannel && len(k.items) > 1 {
		b.closeLeft(ctx, done)
	}
	return done, nil
}

// reason is an error's text, "" for none.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// goesOn reports whether more is bought at this URL's origin, in its channel.
func goesOn(rest []item, url string) bool {
	return slices.ContainsFunc(rest, func(it item) bool { return paywall.Origin(it.URL) == paywall.Origin(url) })
}

// closeLeft closes what channels of these purchases are still open: the last
// file of a provider may have been here already. A close that fails is told and
// can be done again.
func (b *buyer) closeLeft(ctx context.Context, done []*bought) {
	for _, id := range channelsOf(done) {
		rec, err := b.payer.Record(ctx, id)
		if err == nil && (rec.Close != nil || rec.SpentBy != "" || rec.Phase != channel.Open && rec.Phase != channel.Funding) {
			continue
		}
		if err == nil {
			_, err = b.closeWith(ctx, rec)
		}
		if err != nil {
			b.app.out.say("Channel %s was not closed (%v). Close it with: spillway channels close %s", id, err, id)
		}
	}
}

// tellOpen says which channels with this provider hold coins after a get, and how
// to have them back. failed is why it stopped, nil where it did not.
func (b *buyer) tellOpen(ctx context.Context, url string, failed error) {
	if errors.Is(failed, context.Canceled) || errors.Is(failed, paywall.ErrUnreachable) {
		return // the same command goes on in it
	}
	records, err := b.payer.Records(context.WithoutCancel(ctx))
	if err != nil {
		return // the command's own error says more
	}
	for _, r := range records {
		over := r.Phase != channel.Funding && r.Phase != channel.Open || r.Close != nil || r.SpentBy != "" || r.Unsigned
		if over || paywall.Origin(r.Origin) != paywall.Origin(url) {
			continue
		}
		end := "close"
		if !r.Accepted || r.Imported || r.Stopped != "" {
			end = "refund"
		}
		b.app.out.say("Channel %s with this provider is open and holds %d sat that are not paid. Have them back with: spillway channels %s %s",
			r.Terms.ID(), r.Refundable(), end, r.Terms.ID())
	}
}

// getOne plans, says what will happen to the money, asks, and buys.
func (a *app) getOne(ctx context.Context, b *buyer, f getFlags, w download.Want, lim download.Limits, only bool) (*bought, error) {
	begin := time.Now()
	show := newMeter(a.out, 0, 0)
	var plan *download.Plan
	err := a.patient(ctx, f, show, func() (err error) {
		plan, err = b.buy.Plan(ctx, w, show.event)
		return err
	})
	show.done()
	if err != nil {
		return nil, err
	}
	if plan, err = b.fillFirst(ctx, plan, w, lim, show); err != nil {
		return nil, err
	}
	if err := a.consent(plan, f, &lim); err != nil {
		return nil, err
	}
	budget := lim.Budget
	if f.budget == "" {
		budget = 0
	}
	show = newMeter(a.out, plan.Capacity, budget)
	got, err := b.buy.Run(ctx, plan, lim, show.event)
	show.done()
	if err != nil {
		show.stopped()
		return nil, err
	}
	res := b.account(ctx, got, plan)
	a.receipt(res, plan)
	typ := "result"
	if !only {
		typ = "file"
	}
	err = a.out.event(typ, map[string]any{
		"url": res.URL, "file": shownPath(plan, res.Path), "size": res.Manifest.Size, "root": res.Manifest.Root.String(), "chunks": res.Manifest.Chunks(),
		"payments": res.Payments, "bought_bytes": res.Bought, "reused_bytes": res.Reused, "paid_sat": res.Paid, "returned_msat": res.Back,
		"paid_run_sat": res.run, "channel_paid_sat": res.inChannel, "channel_opened": res.Funding != "",
		"channel_id": res.Channel, "funding_txid": res.Funding, "closing_txid": res.Closing, "fees_sat": res.Fees,
		"seconds": time.Since(begin).Seconds(), "unsettled": reason(res.Unsettled),
		"export_file": b.exported(res.Channel),
	})
	return res, err
}

// fillFirst has a devnet's faucet fill the wallet for a channel that a plan opens, and
// plans anew then: the faucet's payment is a block, and what is announced is to be the
// channel's own expiry.
func (b *buyer) fillFirst(ctx context.Context, plan *download.Plan, w download.Want, lim download.Limits, show *meter) (*download.Plan, error) {
	if plan.Channel != "" || plan.Capacity == 0 || plan.Check(lim) != nil || b.app.capAllows(plan.Capacity) != nil {
		return plan, nil
	}
	before := b.filled
	if err := b.fillFromFaucet(ctx, int64(plan.Capacity)+4*plan.FundingFee+1000); err != nil || b.filled == before {
		return plan, err
	}
	return b.buy.Plan(ctx, w, show.event)
}

// consent says what the purchase locks and costs, and asks where nobody has said
// how much may be paid. It refuses what the limits do not allow.
func (a *app) consent(p *download.Plan, f getFlags, lim *download.Limits) error {
	if p.Complete {
		a.out.say("%s is here already and whole.", p.Path)
		return nil
	}
	a.describe(p)
	if err := p.Check(*lim); err != nil {
		f := *explain(err)
		f.money = "This command paid and locked nothing."
		return &f
	}
	if p.Channel == "" {
		if err := a.capAllows(p.Capacity); err != nil {
			return err
		}
	}
	if f.budget != "" || f.yes || a.regtest() || p.Pay == 0 {
		return nil
	}
	return a.ask(p.Spent+p.Pay, lim)
}

// describe says what touches money, before it happens.
func (a *app) describe(p *download.Plan) {
	m := p.Manifest
	a.out.say("%s: %s in %s for %s, root %s", m.Name, size(m.Size), count(m.Chunks(), "chunk"), money(p.TotalMsat), m.Root)
	if p.From != "" {
		a.out.say("Goes on with what was begun as %s.", p.From)
	}
	if p.Have > 0 {
		a.out.say("%s of it are here and verified.", size(p.Have))
	}
	if p.Pay > 0 {
		a.out.say("Costs %s from here on (at most; the minimum charge of the channel is %d sat).", money(p.Pay*1000), p.MinimumCharge)
	}
	switch {
	case p.TotalMsat == 0:
	case p.Channel != "":
		a.out.say("Uses channel %s, which is open.", p.Channel)
	case p.Capacity > 0:
		a.out.say("Locks %s in a %s channel until the close; if the provider vanishes all that is unpaid comes back from height %d on (%d blocks).",
			money(p.Capacity*1000), p.Construction, p.Expiry, p.Expiry-min(p.Expiry, p.Tip))
		a.out.say("Fees on the chain: %d sat for the funding with the coins as they are, at most %d sat; a refund, if ever needed, about %d sat.",
			p.FundingFee, p.FundingMost, p.RefundFee)
	}
}

// bought is a purchase with what is told apart: what was paid now, for the file in all
// runs (Result.Paid), and in its channel in all purchases.
type bought struct {
	*download.Result
	run, inChannel uint64 // sat
}

// account tells a purchase's payments apart.
func (b *buyer) account(ctx context.Context, r *download.Result, p *download.Plan) *bought {
	got := &bought{Result: r, run: r.Paid - min(r.Paid, p.Spent)}
	if rec, err := b.payer.Record(context.WithoutCancel(ctx), r.Channel); r.Channel != "" && err == nil {
		got.inChannel = rec.Signed
	}
	return got
}

// receipt says what was paid.
func (a *app) receipt(r *bought, p *download.Plan) {
	if p.Complete && r.Channel == "" {
		a.out.print("%s\n  root      %s (verified)", shownPath(p, r.Path), r.Manifest.Root)
		return
	}
	paid := fmt.Sprintf("%s in this run, %s", money(r.run*1000), count(r.Payments, "payment"))
	if r.run != r.Paid {
		paid += fmt.Sprintf("; %s for this file in all", money(r.Paid*1000))
	}
	funding, channel := orNone(r.Funding), orNone(r.Channel)
	if r.Channel != "" {
		channel += fmt.Sprintf(", %s paid in it in all", money(r.inChannel*1000))
	}
	if id, _, ok := strings.Cut(r.Channel, ":"); ok && r.Funding == "" {
		funding = id + " (opened before)"
	}
	a.out.print("%s\n  root      %s (verified)\n  paid      %s\n  fees      %d sat on the chain in this run\n  channel   %s\n  funding   %s\n  closing   %s",
		shownPath(p, r.Path), r.Manifest.Root, paid, r.Fees, channel, funding, orNone(r.Closing))
	if r.Unsettled != nil {
		a.out.say("The file is whole, but the last payment or the close did not get through (%v). Run the command again, or: spillway channels close %s", r.Unsettled, r.Channel)
	}
}
