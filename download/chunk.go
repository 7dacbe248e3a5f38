package download

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store"
)

// patientDepth is how many confirmations more than were agreed a provider may
// go on without before it is not believed any more.
const patientDepth = 6

// buyChunk fetches what is missing of a chunk, again and again while there is
// progress, and pays for it once all of it is verified and on the disk.
func (r *run) buyChunk(ctx context.Context, n uint64) error {
	r.chunk, r.begun = n, true
	r.event(Event{Phase: Buying})
	off, length := r.p.Manifest.ChunkRange(n)
	failures, asked := 0, 0
	for {
		gaps := r.verified().Missing(off, off+length)
		if len(gaps) == 0 {
			return r.payChunk(ctx, n)
		}
		update, err := r.prepare(ctx, n)
		if err != nil {
			return err
		}
		before := r.verified().Total()
		r.asked.answered, r.asked.raised = false, false
		if err = r.fetch(ctx, gaps[0], update, &r.asked); r.asked.answered {
			r.charged = r.asked.charged
		}
		if r.asked.raised {
			r.stale()
		}
		if r.verified().Total() > before {
			failures = 0
			r.back()
		}
		if err == nil {
			continue
		}
		r.stale()
		if err := ctx.Err(); err != nil {
			return err
		}
		var unconfirmed *paywall.UnconfirmedError
		var insufficient *paywall.InsufficientError
		switch {
		case errors.As(err, &unconfirmed):
			if err = r.confirm(ctx, unconfirmed); absent(err) {
				failures++
				err = r.again(ctx, failures, err)
			}
		case errors.As(err, &insufficient) && asked < 2: // in a duplex channel: what is owed, and then ahead
			asked++
			err = r.ahead(ctx, n, insufficient)
		case errors.Is(err, ErrWrongBytes):
			err = r.wrong(n, gaps[0], err)
		case errors.Is(err, bao.ErrTruncated) || absent(err):
			failures++
			err = r.again(ctx, failures, err)
		}
		if err != nil {
			return err
		}
	}
}

// price is what a chunk adds to the ledger of the present channel, in msat.
func (r *run) price(n uint64) uint64 {
	if u := r.j.use(r.id); u != nil && u.Chunks.Contains(n, n+1) {
		return 0
	}
	return r.p.Manifest.ChunkPrice(n)
}

// only reports whether a chunk is the last that is missing.
func (r *run) only(n uint64) bool {
	off, length := r.p.Manifest.ChunkRange(n)
	v := r.verified()
	within := r.p.wanted()
	return len(v.Missing(within.Start, max(off, within.Start))) == 0 && len(v.Missing(min(off+length, within.End), within.End)) == 0
}

// prepare makes sure, before a chunk is asked for, that it could be paid within
// the channel and the limits, and signs what the terms want ahead of it. It
// returns the newest update.
func (r *run) prepare(ctx context.Context, n uint64) (channel.Update, error) {
	var none channel.Update
	rec, err := r.record(ctx)
	if err != nil {
		return none, err
	}
	lim, err := r.limits(ctx, rec)
	if err != nil {
		return none, err
	}
	price := r.price(n)
	if err := r.payable(ctx, rec, price, r.only(n), lim); errors.Is(err, channel.ErrFinalized) {
		return none, fmt.Errorf("%w: %w", paywall.ErrGone, err)
	} else if err != nil {
		return none, err
	}
	if ahead := price - min(price, credit(rec, r.p.Quote)); ahead > 0 {
		return r.payAhead(ctx, rec, ahead, lim)
	}
	if stop := rec.Stop(); stop != nil {
		return none, stop
	}
	return rec.Newest(), nil
}

// credit is how much the provider lets charged exceed paid for this file, in
// msat: what the channel's terms say, or the file's own quote where that is more.
func credit(rec channel.PayerRecord, q *paywall.Quoted) uint64 {
	if q == nil {
		return rec.Terms.Credit
	}
	return max(rec.Terms.Credit, q.Offer.Credit)
}

// payable asks the rules what would be signed after a chunk, without signing.
func (r *run) payable(ctx context.Context, rec channel.PayerRecord, price uint64, last bool, lim channel.Limits) error {
	if err := rec.CanBuy(price); err != nil && !(lim.Consent && errors.Is(err, channel.ErrAmountExceeds)) {
		return err
	}
	next, err := rec.Verified(price)
	if err != nil {
		return err
	}
	if rec.Duplex != nil {
		tip, err := r.b.cfg.Chain.Tip(ctx)
		if err != nil {
			return err
		}
		lim.Blocked = true
		_, err = next.PayState(0, tip.Height, lim)
		return err
	}
	if last {
		_, _, err = next.PayLast(lim)
	} else {
		_, _, err = next.Pay(0, lim)
	}
	return err
}

// errOwedElsewhere: more is charged in the channel than this purchase knows of.
var errOwedElsewhere = errors.New("something that was charged in this channel has not arrived")

// ahead signs what a provider wants before it delivers, where that is no more
// than this chunk and the limits allow it.
func (r *run) ahead(ctx context.Context, n uint64, want *paywall.InsufficientError) error {
	rec, err := r.b.cfg.Payer.Record(ctx, r.id)
	if err != nil {
		return err
	}
	lim, err := r.limits(ctx, rec)
	if err != nil {
		return err
	}
	if rec.Duplex != nil && rec.Unpaid() > 0 { // too little for a reversal, but the credit is used up
		lim.Blocked = true
		_, err := r.payAhead(ctx, rec, 0, lim)
		return err
	}
	ledger, err := channel.AddMsat(rec.Owed, r.price(n))
	switch {
	case err != nil:
		return err
	case want.Required <= rec.Signed:
		return fmt.Errorf("%w: it wants %d sat and was sent %d sat", paywall.ErrMisbehaved, want.Required, rec.Signed)
	case want.Required > channel.CeilSat(ledger-r.onCredit(rec, n)):
		return fmt.Errorf("%w: %w: it wants %d sat in all, what was verified and this chunk make %d sat",
			channel.ErrPrepay, errOwedElsewhere, want.Required, channel.CeilSat(ledger))
	}
	ahead := min(ledger, want.Required*1000) - rec.Owed
	_, err = r.payAhead(ctx, rec, ahead, lim)
	return err
}

// onCredit is how much of a chunk (msat) a provider delivers before it is paid to a
// payer that has paid before: what it wants beyond that it wants for something else.
func (r *run) onCredit(rec channel.PayerRecord, n uint64) uint64 {
	if rec.Signed == 0 || r.id == r.opened {
		return 0
	}
	return min(rec.Terms.Credit, r.price(n))
}

// payAhead signs for a chunk (msat) that has not come yet.
func (r *run) payAhead(ctx context.Context, rec channel.PayerRecord, ahead uint64, lim channel.Limits) (channel.Update, error) {
	update, now, err := r.b.cfg.Payer.PayRecord(ctx, r.id, payer.Payment{Ahead: ahead}, lim)
	if r.stale(); err == nil {
		r.note(now)
	}
	if err == nil && update.Newer(rec.Newest()) {
		r.payments++
	}
	return update, err
}

// fetch gets one slice, verifies it group by group as it comes, and writes it.
func (r *run) fetch(ctx context.Context, gap content.Range, update channel.Update, q *request) (err error) {
	m := &r.p.Manifest
	target, err := withQuery(r.p.URL, fmt.Sprintf("slice=%d-%d", gap.Start, gap.End-1))
	if err != nil {
		return err
	}
	if target != q.target { // a repeat has the same key
		if q.key, err = r.b.cfg.Client.NewKey(); err != nil {
			return err
		}
		q.target = target
	}
	resp, receipt, err := r.b.cfg.Client.Fetch(ctx, paywall.Paid{
		Channel: r.id, URL: target, Update: update, Key: q.key, Expect: r.expect, Header: http.Header{"If-Match": {tagOf(m)}},
	})
	if err != nil {
		return err
	}
	q.charged, q.answered, q.raised = receipt.ChargedMsat, true, receipt.AcceptedCumulative > update.Amount
	return r.receive(ctx, gap, resp)
}

// receive verifies the slice that an answer brings, and writes it.
func (r *run) receive(ctx context.Context, gap content.Range, resp *http.Response) (err error) {
	m := &r.p.Manifest
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if tag := resp.Header.Get("ETag"); tag != "" && tag != tagOf(m) {
		return fmt.Errorf("%w: it sends %s", ErrOtherContent, tag)
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	savedAt := gap.Start
	err = bao.DecodeSlice(inner, r.sink, resp.Body, m.Slice(gap.Start, gap.Len()), func(upto uint64) {
		if err := r.arrived(ctx, upto, gap.End, &savedAt); err != nil {
			cancel(err)
		}
	})
	if cause := context.Cause(inner); cause != nil && ctx.Err() == nil {
		return cause
	}
	if errors.Is(err, bao.ErrTrailing) {
		r.b.cfg.Log.Warn("the provider sent more than a slice; what was asked for is verified", "url", r.p.URL)
		return nil
	}
	return err
}

// tagOf is the entity tag of a file with this content. RFC 9110, section 8.8.3.
func tagOf(m *content.Manifest) string { return `"b3-` + m.Root.String() + `"` }

// arrived is told how far a slice is verified and written. In a large chunk the
// journal is saved in between.
func (r *run) arrived(ctx context.Context, upto, end uint64, savedAt *uint64) error {
	due := upto-min(upto, *savedAt) >= r.b.cfg.SaveEvery && upto < end
	if due {
		r.mu.Lock()
	} else if !r.mu.TryLock() {
		return nil // somebody else tells
	}
	defer r.mu.Unlock()
	r.event(Event{Phase: Buying})
	if !due {
		return nil
	}
	*savedAt = upto
	return r.saveVerified(ctx, r.verified())
}

// payChunk takes a whole chunk into the ledger and signs what is owed, in one
// commit with the journal. The ledger never rises above what the provider itself
// says it has charged: a chunk that it had charged before is not paid again.
func (r *run) payChunk(ctx context.Context, n uint64) error {
	rec, err := r.record(ctx)
	if err != nil {
		return err
	}
	price := min(r.price(n), r.charged-min(r.charged, rec.Owed))
	v := r.verified()
	last := len(r.missing()) == 0 && !r.others(n)
	next := r.j.clone()
	next.Verified, next.LastPaid = r.unsettled(v, n, true), last
	u := next.use(r.id)
	u.Chunks.Add(n, n+1)
	u.Msat += price
	if err := r.pay(ctx, rec, next, price, last); err != nil {
		return err
	}
	delete(r.unpaid, n)
	return nil
}

// pay signs and saves with the journal, in one commit. A swap that another
// writer of the channel's record won is run again.
func (r *run) pay(ctx context.Context, rec channel.PayerRecord, next journal, price uint64, last bool) error {
	lim, err := r.limits(ctx, rec)
	if err != nil {
		return err
	}
	if err := r.sync(&next); err != nil {
		return err
	}
	op, err := r.j.op(next)
	if err != nil {
		return err
	}
	var update channel.Update
	var now channel.PayerRecord
	r.stale()
	for range 3 {
		update, now, err = r.b.cfg.Payer.PayRecord(ctx, r.id, payer.Payment{Verified: price, Last: last, Ops: []store.Op{op}}, lim)
		if !errors.Is(err, store.ErrConflict) || r.moved(ctx) {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := r.b.saved(ctx, r.j, next); err != nil {
		return err
	}
	r.note(now)
	if update.Newer(rec.Newest()) {
		r.payments++
	}
	if err := r.measure(ctx); err != nil {
		return err
	}
	r.event(Event{Phase: Buying})
	return nil
}

// moved reports whether the journal itself was changed by somebody else.
func (r *run) moved(ctx context.Context) bool {
	e, err := r.b.cfg.Store.Get(ctx, bucketJournal, r.j.key)
	if errors.Is(err, store.ErrNotFound) {
		return r.j.rev != 0
	}
	return err != nil || e.Revision != r.j.rev
}

// confirm waits while the funding is not deep enough for the provider. Where our
// own node does not see it any more it is broadcast again.
func (r *run) confirm(ctx context.Context, wait *paywall.UnconfirmedError) error {
	rec, err := r.b.cfg.Payer.Record(ctx, r.id)
	if err != nil {
		return err
	}
	info, err := r.b.cfg.Chain.Tx(ctx, rec.Terms.Outpoint.Hash)
	switch {
	case errors.Is(err, chain.ErrNotFound):
		if err := r.b.cfg.Payer.Publish(ctx, r.id); err != nil {
			return err
		}
	case err != nil:
		return err
	case info.Confirmed:
		tip, err := r.b.cfg.Chain.Tip(ctx)
		if err != nil {
			return err
		}
		if tip.Height+1 >= info.Height+rec.Terms.Confirmations+patientDepth {
			return fmt.Errorf("%w: the funding has %d confirmations, %d were agreed, and it goes on waiting",
				paywall.ErrMisbehaved, tip.Height+1-info.Height, rec.Terms.Confirmations)
		}
	}
	r.event(Event{Phase: Confirming, Wait: wait.RetryAfter, Reason: wait})
	return r.b.cfg.Sleep(ctx, wait.RetryAfter)
}
