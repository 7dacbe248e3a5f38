package download

import (
	"context"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/paywall"
)

// PlanChannel works out a new channel with the provider of a resource, ahead of any
// purchase: of this capacity (sat), or, where that is 0, of the one that buying the file
// takes. Channels that are open are not looked at. It signs and locks nothing.
// Errors: ErrDeposit, also where the file costs nothing, ErrQuote, channel.ErrTerms, those
// of paywall.Client.Quote, and without a capacity those of Look.
func (b *Buyer) PlanChannel(ctx context.Context, w Want, capacity uint64) (*Plan, error) {
	p := &Plan{Want: w, URL: w.URL}
	e := paywall.Expect{}
	var left need
	if capacity == 0 {
		if err := b.manifest(ctx, p); err != nil {
			return nil, err
		}
		if left = needOf(&p.Manifest, &content.Ranges{}, nil); left.msat == 0 {
			return nil, fmt.Errorf("%w: nothing is to be paid for %s", ErrDeposit, p.URL)
		}
		p.TotalMsat, p.LeftMsat, e = p.Manifest.TotalMsat(), left.msat, expect(&p.Manifest)
	}
	tip, err := b.cfg.Chain.Tip(ctx)
	if err != nil {
		return nil, err
	}
	rate, err := b.cfg.Chain.FeeRate(ctx, feeTarget)
	if err != nil {
		return nil, err
	}
	p.Tip = tip.Height
	if p.Quote, err = b.cfg.Client.Quote(ctx, p.URL, e); err != nil {
		return nil, err
	}
	if err := b.costNew(ctx, p, left, rate); err != nil || capacity == 0 {
		return p, err
	}
	if o := p.Quote.Offer; capacity < max(o.MinDeposit, channel.MinimumPayout) || capacity > o.MaxDeposit {
		return nil, fmt.Errorf("%w: %d sat are asked for, it takes %d sat to %d sat", ErrDeposit, capacity, max(o.MinDeposit, channel.MinimumPayout), o.MaxDeposit)
	}
	p.Capacity, p.Pay = capacity, 0
	p.FundingFee, err = b.fundingEstimate(ctx, p.Construction, capacity, rate)
	p.FundingMost = fundingLeeway * p.FundingFee
	return p, err
}
