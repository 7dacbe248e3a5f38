package main

import (
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/download"
)

func (a *app) quoteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "quote URL", Short: "What a file costs in all, before anything is paid", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := checkURL(args[0]); err != nil {
				return err
			}
			b, err := a.openBuyer(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, b.Close()) }()
			// a name that does not exist: what lies here already is not looked at
			dir, err := os.MkdirTemp("", "spillway-quote-")
			if err != nil {
				return localError(err)
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
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
