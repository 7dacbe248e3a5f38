package download

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store"
)

// leadBlocks is how many useful blocks an open channel must have left to be
// used for another purchase.
const leadBlocks = 6

// choose picks the open channel that a purchase goes on in: one with this
// provider at this origin, with enough left and enough time. nil: a new one.
// avoid names channels that will not do, by id.
func (b *Buyer) choose(ctx context.Context, p *Plan, j *journal, avoid map[string]bool) (*channel.PayerRecord, error) {
	records, err := b.cfg.Payer.Records(ctx)
	if err != nil {
		return nil, err
	}
	var best *channel.PayerRecord
	for i := range records {
		r := &records[i]
		if avoid[r.Terms.ID()] || !fits(p, j, *r) || best != nil && !better(p, j, *r, *best) {
			continue
		}
		if gone, err := b.evicted(ctx, r.Terms.ID()); err != nil {
			return nil, err
		} else if !gone {
			best = r
		}
	}
	return best, nil
}

// chooseUnblocked is choose without channels in which the provider waits for what
// another purchase has to fetch. It is a guess, made so that a plan says what will
// be locked: where the provider does not answer a channel counts as good.
func (b *Buyer) chooseUnblocked(ctx context.Context, p *Plan, j *journal) (*channel.PayerRecord, error) {
	avoid := map[string]bool{}
	for {
		r, err := b.choose(ctx, p, j, avoid)
		if err != nil || r == nil || !r.Accepted {
			return r, err
		}
		id := r.Terms.ID()
		if known, err := b.knows(ctx, p, id); err != nil || known {
			return r, err
		}
		answer, err := b.cfg.Client.Resume(ctx, id, p.URL, paywall.Expect{})
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err != nil || answer.ChargedMsat <= r.Owed {
			return r, nil
		}
		b.cfg.Log.Info("the channel waits for something else", "channel", id, "charged_msat", answer.ChargedMsat, "owed_msat", r.Owed)
		avoid[id] = true
	}
}

// knows reports whether a purchase of this content, to whatever place, goes on in a
// channel: what is charged there may be its own.
func (b *Buyer) knows(ctx context.Context, p *Plan, id string) (bool, error) {
	entries, err := b.cfg.Store.List(ctx, bucketJournal, p.Manifest.Root.String())
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		var j journal
		if err := json.Unmarshal(e.Value, &j); err != nil {
			return false, fmt.Errorf("%w: %s/%s: %v", store.ErrDamaged, bucketJournal, e.Key, err)
		}
		if j.use(id) != nil {
			return true, nil
		}
	}
	return false, nil
}

// fits reports whether a channel can carry the rest of a purchase.
func fits(p *Plan, j *journal, r channel.PayerRecord) bool {
	t := r.Terms
	switch {
	case r.Payee != p.Manifest.Provider.String() || paywall.Origin(r.Origin) != paywall.Origin(p.URL):
		return false
	case p.Want.Construction != "" && p.Want.Construction != t.Construction:
		return false
	case r.Phase != channel.Prepared && r.Phase != channel.Funding && r.Phase != channel.Open || r.Close != nil || r.SpentBy != "":
		return false
	case r.Unsigned:
		return false // it waits for another wallet
	case uint64(p.Tip)+uint64(t.Confirmations)+uint64(t.Margin)+leadBlocks > uint64(t.Expiry):
		return false
	}
	if r.Phase == channel.Prepared {
		r.Phase = channel.Funding // where it will be once it is opened
	}
	left := needIn(&p.Manifest, p.wanted(), j.Verified, paidIn(j, t.ID()))
	if r.CanBuy(left.msat) != nil {
		return false
	}
	// to the last satoshi only where no chunk on the way leaves a rest below dust
	return channel.CeilSat(r.Owed+left.msat)+t.Dust() <= t.Capacity || left.least >= t.Dust()*1000
}

// better orders channels that fit: the one in which the least is to be paid for what is
// wanted, then one that has chunks of this file paid, then one that the provider has,
// then the one with the most left.
func better(p *Plan, j *journal, a, b channel.PayerRecord) bool {
	cost := func(r channel.PayerRecord) uint64 {
		return needIn(&p.Manifest, p.wanted(), j.Verified, paidIn(j, r.Terms.ID())).msat
	}
	if x, y := cost(a), cost(b); x != y {
		return x < y
	}
	if x, y := j.use(a.Terms.ID()) != nil, j.use(b.Terms.ID()) != nil; x != y {
		return x
	}
	if a.Accepted != b.Accepted {
		return a.Accepted
	}
	return a.Refundable() > b.Refundable()
}

// evicted reports whether a channel was given up for purchases.
func (b *Buyer) evicted(ctx context.Context, id string) (bool, error) {
	_, err := b.cfg.Store.Get(ctx, bucketEvicted, id)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// evict gives a channel up for purchases, for good: the provider takes nothing
// more on it. Its money comes back with its settlement or its refund.
func (b *Buyer) evict(ctx context.Context, id string, why error) error {
	b.cfg.Log.Warn("the channel is not used any more", "channel", id, "reason", why)
	text := []byte(why.Error())
	return b.cfg.Store.Commit(ctx, store.Op{Bucket: bucketEvicted, Key: id, Value: text, Expect: store.Any})
}

// GiveUp gives a channel up for purchases, for good, whatever the reason. It signs
// and sends nothing.
func (b *Buyer) GiveUp(ctx context.Context, id string, why error) error { return b.evict(ctx, id, why) }

// Hold keeps purchases from a provider, by its origin and identity, from running
// until unlock is called. waiting is called once where one runs now.
func (b *Buyer) Hold(ctx context.Context, origin, provider string, waiting func()) (unlock func() error, err error) {
	return b.cfg.Locks.Lock(ctx, providerLock(origin, provider), waiting)
}

func providerLock(url, provider string) string {
	return "provider " + paywall.Origin(url) + " " + provider
}

// ensure makes sure that there is a channel that the provider has stored: the one
// of the plan, one that was being opened when an earlier run stopped, or a new
// one. docs/protocol.md, "Opening".
func (r *run) ensure(ctx context.Context) error {
	var refused error // why a channel before did not do
	for {
		best, err := r.b.choose(ctx, r.p, &r.j.journal, r.avoid)
		if err != nil {
			return err
		}
		if best == nil {
			if err := r.open(ctx); err != nil {
				return errors.Join(refused, err)
			}
			return nil
		}
		id := best.Terms.ID()
		err = r.reopen(ctx, *best)
		if err == nil {
			return r.take(ctx, id)
		}
		if best.Phase == channel.Prepared && lost(err) {
			r.b.cfg.Log.Info("a channel that was only prepared is given up", "channel", id, "reason", err)
			now, failed := r.b.cfg.Payer.Record(ctx, id)
			if failed != nil {
				return errors.Join(err, failed)
			}
			if now.Phase != channel.Prepared {
				return err // its opening left meanwhile
			}
			if failed := r.b.cfg.Payer.Abandon(ctx, id); failed != nil {
				return errors.Join(err, failed)
			}
			continue
		}
		if best.Phase != channel.Funding || !lost(err) || r.evicted > 0 {
			return err
		}
		// Its opening has left and is refused for good. T1 may be on the chain:
		// the watch gets it back with the refund.
		refused = err
		r.evicted++
		if failed := r.b.evict(ctx, id, err); failed != nil {
			return errors.Join(err, failed)
		}
	}
}

// lost reports whether a channel that the provider has not stored never will be.
func lost(err error) bool {
	return errors.Is(err, paywall.ErrOfferOver) || errors.Is(err, paywall.ErrGone) || errors.Is(err, paywall.ErrRefused) ||
		errors.Is(err, paywall.ErrMisbehaved) || errors.Is(err, channel.ErrTerms)
}

func (r *run) reopen(ctx context.Context, rec channel.PayerRecord) error {
	if rec.Accepted {
		return nil
	}
	return r.b.cfg.Client.Reopen(ctx, rec.Terms.ID(), r.p.URL, r.expect, r.opening)
}

// open opens a new channel on a fresh quote. What is asked now is held against
// what the plan said: the price by every challenge's check, the minimum charge,
// the prepayment, the capacity and the fee here.
func (r *run) open(ctx context.Context) error {
	r.event(Event{Phase: Opening})
	planned := *r.p
	q, err := r.b.cfg.Client.Quote(ctx, r.p.URL, r.expect)
	if err != nil {
		return err
	}
	tip, err := r.b.cfg.Chain.Tip(ctx)
	if err != nil {
		return err
	}
	rate, err := r.b.cfg.Chain.FeeRate(ctx, feeTarget)
	if err != nil {
		return err
	}
	fresh := planned
	fresh.Quote, fresh.Tip, fresh.Channel = q, tip.Height, ""
	if fresh.Spent, err = r.b.spent(ctx, &r.j.journal, ""); err != nil {
		return err
	}
	left := needIn(&r.p.Manifest, r.p.wanted(), r.sink.Verified(), nil)
	fresh.LeftMsat, fresh.Missing = left.msat, left.bytes
	if err := r.b.costNew(ctx, &fresh, left, rate); err != nil {
		return err
	}
	if err := fresh.Check(r.lim); err != nil {
		return err
	}
	if most := planned.FundingMost; most > 0 && fresh.FundingFee > most {
		return fmt.Errorf("%w: it is %d sat now, %d sat were the most", ErrFees, fresh.FundingFee, most)
	}
	*r.p = fresh
	id, err := r.b.cfg.Client.Open(ctx, q, fresh.Construction, fresh.Capacity, r.expect, r.opening)
	if err != nil {
		if id != "" && lost(err) {
			return errors.Join(err, r.unprepare(ctx, id))
		}
		return err
	}
	r.opened = id
	return r.take(ctx, id)
}

// unprepare frees the coins of a channel whose opening never left.
func (r *run) unprepare(ctx context.Context, id string) error {
	rec, err := r.b.cfg.Payer.Record(ctx, id)
	if err != nil || rec.Phase != channel.Prepared {
		return err
	}
	return r.b.cfg.Payer.Abandon(ctx, id)
}

// take makes a channel the one that this purchase pays in, and says so in the
// journal before anything is paid.
func (r *run) take(ctx context.Context, id string) error {
	rec, err := r.b.cfg.Payer.Record(ctx, id)
	if err != nil {
		return err
	}
	r.id, r.charged = id, 0
	r.note(rec)
	if r.j.use(id) == nil || r.j.LastPaid {
		next := r.j.clone()
		next.begin(id, rec.Signed)
		next.LastPaid, next.Acked = false, false // there is something to buy again
		if err := r.b.save(ctx, r.j, next); err != nil {
			return err
		}
	}
	return r.measure(ctx)
}

func (r *run) opening(ev paywall.OpenEvent) {
	r.id = ev.Channel
	out := Event{Phase: Opening, Wait: ev.Wait}
	if ev.Stage == paywall.StageWaiting {
		out.Phase = Confirming
	}
	r.event(out)
}

// limits are what the payer may sign in the present channel: the budget, less
// what other channels of this purchase took, above what was signed in this one
// for something else.
func (r *run) limits(ctx context.Context, rec channel.PayerRecord) (channel.Limits, error) {
	elsewhere, err := r.b.spent(ctx, &r.j.journal, r.id)
	if err != nil {
		return channel.Limits{}, err
	}
	u := r.j.use(r.id)
	if u == nil {
		return channel.Limits{}, fmt.Errorf("channel %s is not in the journal", r.id)
	}
	left := r.lim.Budget - min(r.lim.Budget, elsewhere)
	return channel.Limits{
		Budget: uint64(max(0, u.floor(rec)+int64(min(left, channel.MaxSat)))), Prepay: r.lim.MaxPrepay, Consent: r.lim.Consent,
	}, nil
}

// verified is what is known to be on the disk and right.
func (r *run) verified() *content.Ranges {
	if r.sink != nil {
		return r.sink.Verified()
	}
	whole := &content.Ranges{}
	whole.Add(0, r.p.Manifest.Size)
	return whole
}
