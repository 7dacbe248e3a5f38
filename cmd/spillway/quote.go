package main

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/wallet"
)

func (a *app) quoteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "quote URL", Short: "What a file costs in all, before anything is paid", Args: cobra.ExactArgs(1),
		Long: `Says what a file costs, what would be locked for it and until when, and what the
chain takes. Nothing is paid and no wallet is needed: where there is one, the fees
are those of its coins.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := checkURL(args[0]); err != nil {
				return err
			}
			// a name that does not exist: what lies here already is not looked at
			dir, err := os.MkdirTemp("", "spillway-quote-")
			if err != nil {
				return localError(err)
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			b, err := a.openLooker(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, b.Close()) }()
			p, err := b.buy.Plan(cmd.Context(), download.Want{URL: args[0], Dir: dir}, nil)
			if err != nil {
				return err
			}
			if p.Quote == nil {
				return a.printFree(p)
			}
			return a.printQuote(p)
		},
	}
}

// openLooker opens the payer's side for a question. Where there is no wallet it is one
// that holds nothing and is forgotten: its folder is dir, its store in memory.
func (a *app) openLooker(ctx context.Context, dir string) (_ *buyer, err error) {
	if a.hasSeed("payer") {
		return a.openBuyer(ctx)
	}
	if err := a.checkChain(); err != nil {
		return nil, err
	}
	params, err := a.params()
	if err != nil {
		return nil, err
	}
	r := &role{name: "payer", dir: dir, params: params, store: memory.New()}
	r.close = append(r.close, r.store.Close)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	words, err := keys.NewMnemonic(rand.Reader)
	if err != nil {
		return nil, err
	}
	if r.keys, err = keys.FromMnemonic(words, params); err != nil {
		return nil, err
	}
	if r.chain, err = a.connect(ctx); err != nil { // a light client keeps its headers in the payer's folder
		return nil, err
	}
	r.close = append(r.close, func() error { return closeChain(r.chain) })
	if r.wallet, err = wallet.New(ctx, wallet.Config{Keys: r.keys, Chain: r.chain, Store: r.store, Params: params, Logger: a.out.logger()}); err != nil {
		return nil, err
	}
	return a.newBuyer(r, paywall.DefaultHTTP())
}

// printQuote prints what a file costs, and what would be locked for it.
func (a *app) printQuote(p *download.Plan) error {
	m, o := p.Manifest, p.Quote.Offer
	types := make([]string, len(o.Constructions))
	for i, c := range o.Constructions {
		types[i] = string(c)
	}
	a.out.print("%s\n  size            %s\n  root            %s\n  price           %s in all, %s for each chunk of %s\n  minimum charge  %d sat\n  credit          %s (delivered before it is paid)\n  locked          %s until the close, at most to height %d\n  chain fees      %d sat for the funding, at most %d sat\n  channels        %s",
		p.URL, size(m.Size), m.Root, money(p.TotalMsat), money(m.ChunkMsat), size(m.ChunkBytes),
		o.MinimumCharge, money(o.Credit), money(p.Capacity*1000), o.Expiry, p.FundingFee, p.FundingMost, strings.Join(types, ", "))
	if p.Prepay > 0 {
		a.out.say("This provider wants %d sat ahead of each chunk: get needs --max-prepay.", p.Prepay)
	}
	return a.out.result(map[string]any{
		"url": p.URL, "size": m.Size, "root": m.Root.String(), "chunk_bytes": m.ChunkBytes, "chunk_msat": m.ChunkMsat, "total_msat": p.TotalMsat,
		"minimum_charge_sat": o.MinimumCharge, "credit_msat": o.Credit, "capacity_sat": p.Capacity, "expiry_height": o.Expiry, "channel_types": types,
		"funding_fee_sat": p.FundingFee, "funding_fee_most_sat": p.FundingMost,
		"free_bytes": m.FreeBytes(),
	})
}

// printFree prints that nothing is to be paid.
func (a *app) printFree(p *download.Plan) error {
	m := p.Manifest
	a.out.print("%s\n  size   %s\n  root   %s\n  price  nothing", p.URL, size(m.Size), m.Root)
	return a.out.result(map[string]any{
		"url": p.URL, "size": m.Size, "root": m.Root.String(), "chunk_bytes": m.ChunkBytes, "chunk_msat": 0, "total_msat": 0,
		"minimum_charge_sat": 0, "credit_msat": 0, "capacity_sat": 0, "expiry_height": 0, "channel_types": []string{},
	})
}
