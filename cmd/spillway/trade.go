package main

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
)

// openTrade wires what two peers need that sell to each other: the trades in which
// this provider buys, and, with --trade, the payer whose channels it sells in.
func (p *provider) openTrade(ctx context.Context, sells bool) (err error) {
	trader, err := paywall.NewTrader(p.payee, paywall.ClientConfig{Network: p.app.flags.network, HTTP: paywall.DefaultHTTP(), Log: p.app.out.logger()})
	if err != nil {
		return err
	}
	p.trades, err = download.NewTrades(download.TradeConfig{Trader: trader, Payee: p.payee, Store: p.role.store, Log: p.app.out.logger()})
	if err != nil || !sells {
		return err
	}
	if p.peer, err = p.app.openBuyer(ctx); err != nil {
		return err
	}
	p.peer.watch()
	return nil
}

// peerPayer is the payer whose duplex channels this provider sells in; nil: none.
func (p *provider) peerPayer() *payer.Payer {
	if p.peer == nil {
		return nil
	}
	return p.peer.payer
}

// tradeAnswer is what the running provider answers to get --trade.
type tradeAnswer struct {
	File      string `json:"file"`
	Size      uint64 `json:"size"`
	Root      string `json:"root"`
	Chunks    uint64 `json:"chunks"`
	Bought    uint64 `json:"bought_bytes"`
	Reused    uint64 `json:"reused_bytes"`
	Msat      uint64 `json:"paid_msat"`
	Channel   string `json:"channel_id"`
	Unsettled string `json:"unsettled"`
	Failed    *struct {
		Exit    int    `json:"exit"`
		Code    string `json:"code"`
		Message string `json:"message"`
		Money   string `json:"money"`
		Next    string `json:"next"`
	} `json:"failed,omitempty"`
}

// tradeWanted is what get --trade asks for.
type tradeWanted struct {
	Channel string `json:"channel_id"`
	URL     string `json:"url"`
	Budget  uint64 `json:"budget_sat"`
	Root    string `json:"root,omitempty"` // only this content
	Path    string `json:"path,omitempty"` // of the file to write
	Dir     string `json:"dir,omitempty"`  // that it goes to, where there is no path
}

// trade buys a file of a peer, for get --trade. A failure is an answer too: the
// command tells it as its own.
func (p *provider) trade(ctx context.Context, q tradeWanted) (_ any, err error) {
	var out tradeAnswer
	w := download.Want{URL: q.URL, Path: q.Path, Dir: q.Dir}
	if root := q.Root; root != "" {
		var hash content.Hash
		hash, err = content.ParseHash(root)
		w.Root = &hash
	}
	if err != nil {
		err = usage(err)
	}
	var got *download.Traded
	if err == nil {
		got, err = p.trades.Run(ctx, download.Trade{Channel: q.Channel, Want: w, Budget: q.Budget})
	}
	if err != nil {
		f := explain(err)
		out.Failed = &struct {
			Exit    int    `json:"exit"`
			Code    string `json:"code"`
			Message string `json:"message"`
			Money   string `json:"money"`
			Next    string `json:"next"`
		}{f.exit, f.code, f.message, f.money, f.next}
		return out, nil
	}
	m := got.Manifest
	out.File, out.Size, out.Root, out.Chunks = got.Path, m.Size, m.Root.String(), m.Chunks()
	out.Bought, out.Reused, out.Msat, out.Channel, out.Unsettled = got.Bought, got.Reused, got.Msat, got.Channel, reason(got.Unsettled)
	return out, nil
}

// getTrade has the provider that runs on this data folder buy files of a peer that
// opened a duplex channel at it: only it may write its store.
func (a *app) getTrade(ctx context.Context, f getFlags, urls []string) error {
	if len(urls) != 1 || isFolder(urls[0]) {
		return usagef("--trade buys one file at a time")
	}
	if f.channel != "" || f.keep {
		return usagef("--trade names the channel that is used; it stays open")
	}
	lim, err := f.limits()
	if err != nil {
		return err
	}
	if f.budget == "" && !a.regtest() && !f.yes {
		return &failure{exit: exitConsent, code: "no-budget", message: "no --budget was given", money: noMoney, next: "See the price with: spillway quote URL, then give --budget."}
	}
	w, err := f.want(urls[0], false)
	if err != nil {
		return err
	}
	if err := makeDir(w); err != nil {
		return err
	}
	found, err := a.findAsProvider(ctx, f.trade)
	if err != nil {
		return err
	}
	q := tradeWanted{Channel: found.ID, URL: w.URL, Budget: min(lim.Budget, channel.MaxSat), Root: f.root, Path: w.Path, Dir: w.Dir}
	for _, path := range []*string{&q.Path, &q.Dir} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return localError(err)
		}
	}
	begin := time.Now()
	var got tradeAnswer
	err = a.tellProvider(ctx, http.MethodPost, "/v1/trade", q, &got)
	if errors.Is(err, errNoProvider) {
		return &failure{exit: exitUsage, code: "no-provider", message: err.Error(), money: noMoney, next: "Start it with: spillway serve PATH"}
	} else if err != nil {
		return err
	}
	if e := got.Failed; e != nil {
		return &failure{exit: e.Exit, code: e.Code, message: e.Message, money: e.Money, next: e.Next}
	}
	a.out.print("%s\n  root      %s (verified)\n  paid      %s over channel %s, which stays open", got.File, got.Root, money(got.Msat), got.Channel)
	return a.out.result(map[string]any{"url": w.URL, "file": got.File, "size": got.Size, "root": got.Root, "chunks": got.Chunks, "bought_bytes": got.Bought,
		"reused_bytes": got.Reused, "paid_msat": got.Msat, "channel_id": got.Channel, "unsettled": got.Unsettled, "seconds": time.Since(begin).Seconds()})
}
