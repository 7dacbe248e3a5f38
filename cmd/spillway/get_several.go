package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/paywall"
)

// patient asks again while nobody answers, where --wait was given.
func (a *app) patient(ctx context.Context, f getFlags, show *meter, ask func() error) error {
	begin := time.Now()
	for n := 0; ; n++ {
		err := ask()
		down := time.Since(begin)
		absent := errors.Is(err, paywall.ErrUnreachable) || errors.Is(err, chain.ErrUnavailable)
		asked := errors.Is(err, paywall.ErrBusy) // it answers, and asks to come again
		if !absent || !asked && !f.waitAlways || down >= f.wait {
			return err
		}
		wait := min(paywall.Patience(n, err), f.wait-down)
		show.event(download.Event{Phase: download.Retrying, Wait: wait, Reason: err, Down: down, Left: f.wait - down})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// total says what several files came to.
func (a *app) total(ctx context.Context, b *buyer, done []*bought) {
	var bytes, paid, run, back uint64
	var fees int64
	for _, r := range done {
		bytes, paid, run, fees = bytes+r.Manifest.Size, paid+r.Paid, run+r.run, fees+r.Fees
	}
	ids := channelsOf(done)
	for _, id := range ids {
		if rec, err := b.payer.Record(ctx, id); err == nil {
			back += rec.Refundable()
		}
	}
	before := ""
	if run != paid {
		before = fmt.Sprintf(" (%s for these files in all)", money(paid*1000))
	}
	a.out.print("%s, %s: paid %s in this run%s, fees %d sat on the chain in this run", count(uint64(len(done)), "file"), size(bytes), money(run*1000), before, fees)
	if len(ids) > 0 {
		a.out.print("  of %s %s stay yours", count(uint64(len(ids)), "channel"), money(back*1000))
	}
}

// channelsOf are the ids of the channels that purchases ended in.
func channelsOf(done []*bought) (ids []string) {
	for _, r := range done {
		if r.Channel != "" && !slices.Contains(ids, r.Channel) {
			ids = append(ids, r.Channel)
		}
	}
	return ids
}

// totals sums what several files came to.
func totals(done []*bought, took time.Duration) map[string]any {
	var size, chunks, payments, came, reused, paid, run uint64
	var fees int64
	for _, r := range done {
		size, chunks, payments = size+r.Manifest.Size, chunks+r.Manifest.Chunks(), payments+r.Payments
		came, reused, paid, run, fees = came+r.Bought, reused+r.Reused, paid+r.Paid, run+r.run, fees+r.Fees
	}
	return map[string]any{"files": len(done), "size": size, "chunks": chunks, "payments": payments, "bought_bytes": came,
		"reused_bytes": reused, "paid_sat": paid, "paid_run_sat": run, "fees_sat": fees, "channels": len(channelsOf(done)), "seconds": took.Seconds()}
}
