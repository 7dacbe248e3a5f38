package download

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/paywall"
)

// run is one run of a purchase.
type run struct {
	b        *Buyer
	p        *Plan
	lim      Limits
	expect   paywall.Expect
	progress func(Event)

	j         *held
	sink      Sink
	out       *stream              // where the bytes go in order; nil: nowhere
	id        string               // the channel; "": none yet
	now       *channel.PayerRecord // of the channel, as it was read or saved last; nil: to be read
	opened    string               // the channel that this run opened
	avoid     map[string]bool      // channels that this run does not go on in
	evicted   int                  // channels that were given up in this run
	charged   uint64               // msat, what the provider's newest receipt says
	chunk     uint64               // that comes in
	begun     bool                 // there is one
	have      uint64               // bytes that were there when the run began
	freeSaved uint64               // offset up to which chunks that cost nothing were saved
	asked     request              // the slice that was asked for last, alone

	mu     sync.Mutex      // held while chunks of a window arrive: for all of this
	flying map[uint64]bool // chunks that are on their way at once
	unpaid map[uint64]bool // those that were, and are not paid for
	single bool            // the next chunk is bought alone

	down     time.Time // since when nobody answers; zero: somebody does
	settling bool      // the file is whole
	payments uint64    // updates that paid for chunks
	reread   bool      // the part file was found damaged once

	spent, refundable uint64 // sat, for events
}

// Run buys what a plan says, within these limits. It can be stopped anywhere;
// the same purchase goes on from there, also in another process. On success the
// file is whole under its name; where the last payment or the close did not get
// through, Result.Unsettled says why.
// Errors: channel.ErrBudget and ErrPrepay before anything is locked or paid;
// paywall.ErrPriceChanged, *WrongBytesError, paywall.ErrUnreachable,
// wallet.ErrInsufficient and the others of the packages below.
func (b *Buyer) Run(ctx context.Context, p *Plan, lim Limits, progress func(Event)) (res *Result, err error) {
	if !p.Complete {
		if err := p.Check(lim); err != nil {
			return nil, err
		}
	}
	own := *p // a plan can be run again
	r := &run{b: b, p: &own, lim: lim, expect: expect(&own.Manifest), progress: progress}
	for _, name := range []string{"file " + p.Path, providerLock(p.URL, p.Manifest.Provider.String())} {
		unlock, err := b.cfg.Locks.Lock(ctx, name, func() { r.event(Event{Phase: Waiting}) })
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	if r.j, err = b.loadFor(ctx, &own); err != nil {
		return nil, err
	}
	if !p.Complete {
		if err := b.adopt(ctx, r.j, own.Manifest.Root); err != nil {
			return nil, err
		}
		if err := r.fill(ctx); err != nil {
			return nil, r.sendStopped(ctx, err)
		}
	}
	if res, err = r.settle(ctx); err != nil || res.Unsettled != nil {
		return res, err
	}
	return res, r.tidyStream(ctx)
}

// fill makes the file whole and gives it its name.
func (r *run) fill(ctx context.Context) (err error) {
	if err := r.openSink(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.sink.Close()) }()
	if err := r.repair(ctx); err != nil {
		return err
	}
	if err := r.startStream(ctx); err != nil {
		return errors.Join(err, r.keep(ctx))
	}
	r.have = r.verified().Total()
	for {
		if err := r.buy(ctx); err != nil {
			err = errors.Join(r.whyChanged(ctx, err), r.keep(ctx))
			r.withdrawn(ctx, err)
			return err
		}
		again, err := r.finish(ctx)
		if err != nil || !again {
			return err
		}
	}
}

// openSink opens the part file with what the journal says is in it. Where the
// file is gone or was changed in size, it begins anew: what was charged is
// served again free.
func (r *run) openSink() (err error) {
	if info, err := os.Lstat(content.PartPath(r.p.Path, r.p.Manifest.Root)); err == nil && r.j.Verified.Total() > 0 &&
		info.ModTime().UnixNano() != r.j.PartMtime {
		r.j.Suspect = true // a crash after the last save, or somebody else
	}
	r.sink, err = r.b.cfg.OpenSink(r.p.Path, r.p.Manifest.Size, r.p.Manifest.Root, r.j.Verified)
	if errors.Is(err, content.ErrPartMissing) && resize(content.PartPath(r.p.Path, r.p.Manifest.Root), r.p.Manifest.Size) {
		r.j.Suspect = true
		r.sink, err = r.b.cfg.OpenSink(r.p.Path, r.p.Manifest.Size, r.p.Manifest.Root, r.j.Verified)
	}
	if errors.Is(err, content.ErrPartMissing) {
		r.b.cfg.Log.Warn("the partial file is gone or was changed; what is missing is fetched again", "path", r.p.Path, "reason", err)
		r.j.Verified, r.j.Suspect = &content.Ranges{}, false
		r.sink, err = r.b.cfg.OpenSink(r.p.Path, r.p.Manifest.Size, r.p.Manifest.Root, nil)
	}
	return err
}

// resize gives a part file that was cut or grew its size again: what is right in it
// is found by verifying it.
func resize(part string, size uint64) bool {
	info, err := os.Lstat(part)
	return err == nil && info.Mode().IsRegular() && uint64(info.Size()) != size && os.Truncate(part, int64(size)) == nil
}

// buy fetches and pays chunk by chunk until nothing is missing and the last
// payment is signed.
func (r *run) buy(ctx context.Context) error {
	m := &r.p.Manifest
	if len(r.missing()) == 0 {
		return r.lastIfDue(ctx)
	}
	ready := false
	for {
		if err := r.settleLanded(ctx); err != nil {
			return err
		}
		gaps := r.missing()
		if len(gaps) == 0 {
			return r.lastIfDue(ctx)
		}
		if r.stopped() {
			return ErrStopped
		}
		n := gaps[0].Start / m.ChunkBytes
		if m.ChunkPrice(n) == 0 {
			if err := r.takeFree(ctx, n); err != nil {
				return err
			}
			continue
		}
		if !ready {
			if err := r.patient(ctx, r.ensure); err != nil {
				return err
			}
			ready = true
		}
		some, err := false, error(nil)
		if r.lim.Parallel > 1 && !r.single {
			some, err = r.window(ctx)
		}
		if !some && err == nil {
			r.single = false
			err = r.buyChunk(ctx, n)
		}
		switch {
		case err == nil:
		case errors.Is(err, paywall.ErrGone) || errors.Is(err, paywall.ErrExpiring):
			if err := r.replace(ctx, err); err != nil {
				return err
			}
		case (errors.Is(err, errOwedElsewhere) || errors.Is(err, channel.ErrPrepay)) && r.id != r.opened:
			if err := r.leave(ctx, err); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// leave goes on in another channel: in the present one the provider waits for
// something that another purchase has to fetch. It stays open for that one.
func (r *run) leave(ctx context.Context, why error) error {
	r.b.cfg.Log.Info("another channel is used", "channel", r.id, "reason", why)
	if err := r.keep(ctx); err != nil {
		return errors.Join(why, err)
	}
	if u := r.j.use(r.id); u != nil && u.Chunks.Total() == 0 && u.Msat == 0 {
		next := r.j.clone()
		next.Uses = slices.DeleteFunc(next.Uses, func(u use) bool { return u.Channel == r.id })
		if err := r.b.save(ctx, r.j, next); err != nil {
			return errors.Join(why, err)
		}
	}
	if r.avoid == nil {
		r.avoid = map[string]bool{}
	}
	r.avoid[r.id] = true
	r.id = ""
	return r.ensure(ctx)
}

// whyChanged looks, where the provider does not go on, whether that is because it
// has another file at this address by now. Else the error is what it was.
func (r *run) whyChanged(ctx context.Context, err error) error {
	stuck := errors.Is(err, paywall.ErrRefused) || errors.Is(err, paywall.ErrPriceChanged) || errors.Is(err, paywall.ErrInsufficient) ||
		errors.Is(err, channel.ErrPrepay) || errors.Is(err, ErrOtherContent) || errors.Is(err, ErrWrongBytes)
	if !stuck || errors.Is(err, ErrChanged) {
		return err
	}
	var refused *paywall.RefusedError
	if errors.As(err, &refused) && refused.Status == http.StatusPreconditionFailed {
		return fmt.Errorf("%w: it is not %s any more: %w", ErrChanged, r.p.Manifest.Root, err) // If-Match
	}
	now := Plan{Want: Want{URL: r.p.URL}}
	switch failed := r.b.manifest(ctx, &now); {
	case errors.As(failed, &refused) && (refused.Status == http.StatusNotFound || refused.Status == http.StatusGone):
		return fmt.Errorf("%w: it is not offered any more: %w", ErrChanged, err)
	case failed == nil && now.Manifest.Root != r.p.Manifest.Root:
		return fmt.Errorf("%w: its root is %s now, not %s: %w", ErrChanged, now.Manifest.Root, r.p.Manifest.Root, err)
	}
	return err
}

// withdrawn tells a provider that does not offer the file any more what arrived: in a
// duplex channel it takes what did not off its ledger, and pays back what was paid
// ahead. That it fails changes nothing here; a close asks again.
func (r *run) withdrawn(ctx context.Context, why error) {
	if !errors.Is(why, ErrChanged) || r.id == "" || ctx.Err() != nil {
		return
	}
	rec, err := r.b.cfg.Payer.Record(ctx, r.id)
	if err == nil && rec.Duplex != nil {
		_, err = r.b.cfg.Client.Resume(ctx, r.id, r.p.URL, paywall.Expect{})
	}
	if err != nil {
		r.b.cfg.Log.Warn("the provider was not told what of a withdrawn file arrived", "channel", r.id, "reason", err)
	}
}

// remind tells a provider that has forgotten the channel of it, so that what was
// signed and delivered before is not lost to it. An honest payer tries; that it fails
// changes nothing here.
func (r *run) remind(ctx context.Context, why error) {
	if !paywall.Forgotten(why) {
		return
	}
	if err := r.b.cfg.Client.Remind(ctx, r.id, r.p.URL, r.expect); err != nil {
		r.b.cfg.Log.Warn("the provider has forgotten the channel and does not take it again", "channel", r.id, "reason", err)
	}
}

// replace gives up a channel that the provider takes nothing more on, and opens
// another, within the budget, once in a run.
func (r *run) replace(ctx context.Context, why error) error {
	r.remind(ctx, why)
	if err := r.b.evict(ctx, r.id, why); err != nil {
		return errors.Join(why, err)
	}
	if r.evicted++; r.evicted > 1 {
		return fmt.Errorf("a second channel in one run: %w", why)
	}
	if err := r.keep(ctx); err != nil {
		return errors.Join(why, err)
	}
	r.id = ""
	return r.ensure(ctx)
}

// lastIfDue signs the last update of a purchase where a run stopped before that.
func (r *run) lastIfDue(ctx context.Context) error {
	if r.j.LastPaid || !r.j.bought() {
		return nil
	}
	r.id = r.j.Uses[len(r.j.Uses)-1].Channel
	rec, err := r.b.cfg.Payer.Record(ctx, r.id)
	if err != nil {
		return err
	}
	if rec.Phase != channel.Funding && rec.Phase != channel.Open && rec.Phase != channel.Settling {
		return nil // it is over; nothing more can be paid in it
	}
	next := r.j.clone()
	next.Verified, next.LastPaid = r.verified(), true
	return r.pay(ctx, rec, next, 0, true)
}

// finish names the file once it is whole. A part file that was touched by
// somebody else is read back first; again is true where it turned out damaged.
func (r *run) finish(ctx context.Context) (again bool, err error) {
	if r.j.Suspect {
		err := r.sink.CheckRoot(ctx, r.p.Manifest.Root, func(done uint64) { r.event(Event{Phase: Hashing, Bytes: done}) })
		if errors.Is(err, bao.ErrSourceWrong) && !r.reread {
			return true, r.startOver(ctx)
		} else if err != nil {
			return false, err
		}
	}
	if r.out != nil { // it has gone where it should
		if err := r.passOn(ctx); err != nil {
			return false, err
		}
		return r.out.at() < r.p.end(), nil
	}
	if r.p.isPart() {
		return false, nil
	}
	return false, r.sink.Finish(r.p.Want.Replace)
}

// startOver forgets the bytes of a part file that was damaged behind our back.
// What was paid stays paid: those chunks are served again free.
func (r *run) startOver(ctx context.Context) (err error) {
	r.b.cfg.Log.Warn("the partial file was damaged; it is fetched again", "path", r.p.Path)
	r.reread = true
	next := r.j.clone()
	next.Verified, next.Suspect, next.PartMtime = &content.Ranges{}, false, 0
	if err := r.b.save(ctx, r.j, next); err != nil {
		return err
	}
	if err := r.sink.Discard(); err != nil {
		return err
	}
	if err := r.openSink(); err != nil {
		return err
	}
	return r.startStream(ctx)
}

// keep saves what was verified when a run stops, also one that was interrupted.
// A chunk that is whole but not paid is not saved as whole: the next run asks
// for its last bytes again, free, and pays it then.
func (r *run) keep(ctx context.Context) error {
	v := r.unsettled(r.verified(), 0, false)
	if v.Total() == 0 || v.Equal(r.j.Verified) {
		return nil
	}
	return r.saveVerified(context.WithoutCancel(ctx), v)
}

// paidFor reports whether a chunk is in any channel's ledger.
func (r *run) paidFor(n uint64) bool {
	for _, u := range r.j.Uses {
		if u.Chunks.Contains(n, n+1) {
			return true
		}
	}
	return false
}

// saveVerified makes these bytes durable and then remembers them.
func (r *run) saveVerified(ctx context.Context, v *content.Ranges) error {
	next := r.j.clone()
	next.Verified = r.unsettled(v, 0, false)
	if err := r.sync(&next); err != nil {
		return err
	}
	return r.b.save(ctx, r.j, next)
}

// sync makes what was written durable and notes the file's time.
func (r *run) sync(next *journal) error {
	if r.sink == nil {
		return nil // the file is complete
	}
	if err := r.sink.Sync(); err != nil {
		return err
	}
	info, err := os.Lstat(r.sink.PartPath())
	if err != nil {
		return err
	}
	next.PartMtime = info.ModTime().UnixNano()
	return nil
}

// measure looks up what an event says about money.
func (r *run) measure(ctx context.Context) error {
	rec, err := r.record(ctx)
	if err != nil {
		return err
	}
	r.refundable = rec.Refundable()
	elsewhere, err := r.b.spent(ctx, &r.j.journal, r.id)
	r.spent = elsewhere
	if u := r.j.use(r.id); u != nil {
		r.spent += u.spent(rec)
	}
	return err
}

// record is the channel's record as it was last read or saved in this run, which keeps
// other purchases from the provider out. What is decided by it is decided again, by
// what is stored then, when it is paid: a swap on the record's revision. In a duplex
// channel, which both sides change, it is read each time.
func (r *run) record(ctx context.Context) (channel.PayerRecord, error) {
	if r.now != nil && r.now.Terms.ID() == r.id {
		return *r.now, nil
	}
	rec, err := r.b.cfg.Payer.Record(ctx, r.id)
	if err == nil {
		r.note(rec)
	}
	return rec, err
}

// note keeps a record that was just read or saved.
func (r *run) note(rec channel.PayerRecord) {
	if r.now = nil; rec.Duplex == nil {
		r.now = &rec
	}
}

// stale has the record read again: something failed, or somebody else may have
// changed it.
func (r *run) stale() { r.now = nil }

// event reports where the purchase stands.
func (r *run) event(ev Event) {
	if r.progress == nil {
		return
	}
	m := &r.p.Manifest
	ev.Size, ev.Chunks, ev.Channel = m.Size, m.Chunks(), r.id
	ev.Chunk, ev.Paid, ev.Refundable = r.chunk, r.spent, r.refundable
	if ev.Bytes == 0 && r.sink != nil {
		ev.Bytes = r.sink.Verified().Total()
	}
	r.progress(ev)
}
