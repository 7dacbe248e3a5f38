package download

import (
	"context"
	"errors"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/paywall"
)

// settle brings the last payment to the provider and closes the channel. The
// file is whole by then: what fails here is told in the result, and done by the
// next run.
func (r *run) settle(ctx context.Context) (*Result, error) {
	res := &Result{
		URL: r.p.URL, Path: r.p.Path, Manifest: r.p.Manifest, Payments: r.payments,
		Bought: r.p.Manifest.Size - r.have, Reused: r.have,
	}
	if r.p.Complete {
		res.Bought, res.Reused = 0, r.p.Manifest.Size
	}
	if len(r.j.Uses) == 0 {
		if r.j.rev > 0 && !r.p.isPart() { // all of it was given away
			if err := r.b.drop(ctx, r.j); err != nil {
				return nil, err
			}
		}
		r.event(Event{Phase: Done, Bytes: r.p.Manifest.Size})
		return res, nil
	}
	if r.sink == nil {
		if err := r.lastIfDue(ctx); err != nil {
			return nil, err
		}
	}
	r.id = r.j.Uses[len(r.j.Uses)-1].Channel
	res.Unsettled = r.deliver(ctx)
	if err := r.sum(ctx, res); err != nil {
		return nil, err
	}
	if res.Unsettled == nil && r.j.Acked && !r.lim.KeepChannel {
		if err := r.b.drop(ctx, r.j); err != nil {
			return nil, err
		}
	}
	r.event(Event{Phase: Done, Bytes: r.p.Manifest.Size})
	return res, nil
}

// deliver sends the last payment, and closes unless the channel is kept.
func (r *run) deliver(ctx context.Context) error {
	r.settling = true
	r.event(Event{Phase: Settling, Bytes: r.p.Manifest.Size})
	rec, err := r.b.cfg.Payer.Record(ctx, r.id)
	if err != nil {
		return err
	}
	if !r.j.Acked {
		if err := r.lastVoucher(ctx, rec); err != nil {
			return err
		}
	}
	if r.lim.KeepChannel || over(rec) {
		return nil
	}
	_, err = r.b.cfg.Client.Close(ctx, r.id, r.p.URL, r.expect)
	if errors.Is(err, paywall.ErrGone) {
		return r.b.evict(ctx, r.id, err) // closed by the provider; the watch follows it
	}
	return err
}

// over reports whether nothing can be sent in a channel any more.
func over(rec channel.PayerRecord) bool {
	return rec.Close != nil || rec.Phase.Final() || rec.Phase == channel.Refunding
}

// lastVoucher sends the newest update alone until the provider has it.
func (r *run) lastVoucher(ctx context.Context, rec channel.PayerRecord) error {
	if !over(rec) {
		key, err := r.b.cfg.Client.NewKey()
		if err != nil {
			return err
		}
		update := rec.Newest()
		for failures := 1; ; failures++ {
			_, err := r.b.cfg.Client.Voucher(ctx, paywall.Paid{Channel: r.id, URL: r.p.URL, Update: update, Key: key, Expect: r.expect})
			if err == nil {
				break
			}
			if errors.Is(err, paywall.ErrGone) {
				r.remind(ctx, err)
				r.b.cfg.Log.Warn("the provider closed the channel before the last payment", "channel", r.id, "reason", err)
				break
			}
			if !errors.Is(err, paywall.ErrUnreachable) {
				return err
			}
			if err := r.again(ctx, failures, err); err != nil {
				return err
			}
		}
	}
	next := r.j.clone()
	next.Acked = true
	return r.b.save(ctx, r.j, next)
}

// sum fills in what the purchase cost.
func (r *run) sum(ctx context.Context, res *Result) error {
	rec, err := r.b.cfg.Payer.Record(ctx, r.id)
	if err != nil {
		return err
	}
	if res.Paid, err = r.b.spent(ctx, &r.j.journal, ""); err != nil {
		return err
	}
	res.Channel = r.id
	if r.opened == r.id {
		res.Funding = rec.Terms.Outpoint.Hash.String()
	}
	if rec.Duplex != nil {
		res.Back = rec.Duplex.Back
	}
	if rec.Close != nil {
		res.Closing = rec.Close.Txid
	}
	res.Fees = r.b.feesPaid(ctx, rec, r.opened == r.id)
	r.refundable, r.spent = rec.Refundable(), res.Paid
	return nil
}
