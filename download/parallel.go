package download

import (
	"context"
	"errors"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
)

// request is a slice that is asked for, and what its receipt said.
type request struct {
	target, key string
	charged     uint64 // msat in all, by the receipt
	answered    bool   // there was one
	raised      bool   // by it more is paid than was sent: the channel's record was brought up to it
}

// arrival is a chunk that is whole, or did not become so.
type arrival struct {
	n   uint64
	q   request
	err error
}

// window buys chunks over several connections at once: all of them in one channel and
// within its one credit, so that never more is charged and unpaid than the provider
// lends anyhow. Each is paid as soon as it is whole. Whatever goes wrong ends the
// window and is left to buyChunk. some is false where no two chunks fit into the
// credit: then nothing was asked for.
func (r *run) window(ctx context.Context) (some bool, err error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	r.flying = map[uint64]bool{}
	if r.unpaid == nil {
		r.unpaid = map[uint64]bool{}
	}
	defer func() { r.flying = nil }()
	arrivals := make(chan arrival)
	var failed error // why something could not be paid
	for stopped := false; ; {
		if !stopped {
			next, update, err := r.fitting(ctx)
			if stopped = err != nil; err != nil && len(r.flying) == 0 {
				return some, err
			}
			if !some && len(next) < 2 {
				return false, nil
			}
			for _, n := range next {
				some = true
				r.flying[n], r.unpaid[n] = true, true
				go func() { arrivals <- r.fetchChunk(inner, n, update) }()
			}
		}
		if len(r.flying) == 0 {
			return some, errors.Join(failed, ctx.Err())
		}
		paid, err := r.landed(ctx, <-arrivals)
		if err != nil {
			stopped = true
			cancel()
		}
		if !paid && failed == nil {
			failed = err
		}
	}
}

// whole reports whether nothing of a chunk is missing.
func (r *run) whole(n uint64) bool {
	off, length := r.p.Manifest.ChunkRange(n)
	return r.verified().Contains(off, off+length)
}

// settleLanded pays for chunks that became whole when a window was stopped.
func (r *run) settleLanded(ctx context.Context) error {
	for n := range r.unpaid {
		if !r.whole(n) {
			continue
		}
		if err := r.payChunk(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// landed pays for a chunk that arrived. paid is false where that failed: then what is
// saved is not known, and the run ends. Any other failure is left to buyChunk.
func (r *run) landed(ctx context.Context, a arrival) (paid bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer delete(r.flying, a.n)
	if a.q.answered {
		r.charged = max(r.charged, a.q.charged)
	}
	if a.q.raised {
		r.stale()
	}
	if a.err != nil && r.whole(a.n) {
		a.err = nil // what broke came after it
	}
	if err := errors.Join(a.err, ctx.Err()); err != nil {
		r.single = true
		r.stale()
		r.b.cfg.Log.Info("chunks are bought one by one for a while", "chunk", a.n, "reason", err)
		return true, err
	}
	r.chunk, r.begun = a.n, true
	r.back()
	if err := r.payChunk(ctx, a.n); err != nil {
		return false, err
	}
	if err := r.passOn(ctx); err != nil {
		return false, err
	}
	return true, nil
}

// fitting names the next chunks that may be asked for now, and the update that they
// are asked for with.
func (r *run) fitting(ctx context.Context) (next []uint64, update channel.Update, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, err := r.record(ctx)
	if err != nil || rec.Duplex != nil || r.stopped() {
		return nil, update, err
	}
	m, most := &r.p.Manifest, rec.Signed*1000+credit(rec, r.p.Quote)
	if len(r.flying) == 0 && rec.Owed+m.ChunkMsat+min(m.ChunkMsat, m.LastChunkMsat) > most {
		return nil, update, nil // no two fit: nothing more has to be asked
	}
	lim, err := r.limits(ctx, rec)
	if err != nil {
		return nil, update, err
	}
	var ahead uint64 // msat of what is on its way
	for n := range r.flying {
		ahead += r.price(n)
	}
	missing := r.missing()
	for i, n := 0, uint64(0); i < len(missing) && len(r.flying)+len(next) < r.lim.Parallel; {
		if n = max(n, missing[i].Start/m.ChunkBytes); n*m.ChunkBytes >= missing[i].End {
			i++
			continue
		}
		if m.ChunkPrice(n) == 0 || len(next) > 0 && next[len(next)-1] == n {
			n++
			continue
		}
		if !r.flying[n] {
			sum, err := channel.AddMsat(ahead, r.price(n))
			if err != nil || rec.Owed+sum > most || r.payable(ctx, rec, sum, false, lim) != nil {
				break
			}
			ahead, next = sum, append(next, n)
		}
		n++
	}
	if stop := rec.Stop(); stop != nil {
		return nil, update, stop
	}
	return next, rec.Newest(), nil
}

// fetchChunk gets what is missing of a chunk, once.
func (r *run) fetchChunk(ctx context.Context, n uint64, update channel.Update) (a arrival) {
	a.n = n
	off, length := r.p.Manifest.ChunkRange(n)
	for {
		gaps := r.verified().Missing(off, off+length)
		if len(gaps) == 0 || a.err != nil {
			return a
		}
		a.err = r.fetch(ctx, gaps[0], update, &a.q)
	}
}

// unsettled is v without the last groups of chunks that are whole but not paid for,
// other than the one given: the next run asks for these again, free, and pays then.
func (r *run) unsettled(v *content.Ranges, paid uint64, isPaid bool) *content.Ranges {
	m := &r.p.Manifest
	open := map[uint64]bool{}
	for n := range r.unpaid {
		open[n] = true
	}
	if r.begun {
		open[r.chunk] = true
	}
	for n := range open {
		off, length := m.ChunkRange(n)
		if isPaid && n == paid || m.ChunkPrice(n) == 0 || r.paidFor(n) || !v.Contains(off, off+length) {
			continue
		}
		cut := &content.Ranges{}
		for _, have := range v.List() {
			end := off + length
			cut.Add(have.Start, min(have.End, end-min(length, uint64(m.GroupBytes))))
			cut.Add(max(have.Start, end), have.End)
		}
		v = cut
	}
	return v
}

// others reports whether chunks beside this one are on their way, or not paid for.
func (r *run) others(n uint64) bool {
	return len(r.unpaid) > 1 || len(r.unpaid) == 1 && !r.unpaid[n]
}
