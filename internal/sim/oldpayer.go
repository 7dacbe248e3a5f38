package sim

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/sim/simdisk"
	"github.com/spillway/spillway/payer"
)

// maxReturns is how often one payer loses its disk.
const maxReturns = 3

// oldPayer is an event of a day on which payers lose their disks: a copy is made, an
// export is made anew, or a payer comes back from what it kept.
// docs/protocol.md, section 12.
func (w *world) oldPayer() {
	b := w.someone()
	if b.vanished() {
		return
	}
	switch n := w.rng.IntN(6); {
	case n < 2:
		b.copyDisk()
	case n == 2:
		b.exportAgain()
	case b.returns >= maxReturns:
	case n == 3 || b.copied == nil:
		w.fault("payer-from-words")
		b.loseDisk(nil)
	default:
		w.fault("payer-from-old-copy")
		b.loseDisk(b.copied)
	}
}

func (b *buyer) copyDisk() {
	snap := b.disk.inner.Backup()
	b.copied, b.copiedParts = &snap, maps.Clone(b.parts)
	b.w.tell("the disk of %s is copied", b.name)
}

// keep is where a payer's exports go, in the runs that are about them.
func (b *buyer) keep() func(context.Context, payer.Export) error {
	if b.w.story.play != oldPayer {
		return nil
	}
	return func(_ context.Context, e payer.Export) error {
		if err := b.point("before an export is kept"); err != nil {
			return err
		}
		raw, err := e.Encode()
		if err != nil {
			return err
		}
		if b.exports == nil {
			b.exports = map[string][]byte{}
		}
		b.exports[e.Terms.ID()] = raw
		return b.point("after an export was kept")
	}
}

// exportAgain replaces the export of one channel by one of today.
func (b *buyer) exportAgain() {
	ids := slices.Sorted(maps.Keys(b.exports))
	if len(ids) == 0 || b.dead {
		return
	}
	id := ids[b.w.rng.IntN(len(ids))]
	e, err := b.payer.Export(b.w.ctx, id)
	if err == nil {
		err = b.keep()(b.w.ctx, e)
	}
	b.w.tell("%s exports %.12s again: %v", b.name, id, err)
	if err == nil {
		b.w.fault("export-again")
	}
}

// loseDisk puts an old copy in the place of a payer's disk, or an empty one where
// there is none but the words: then the wallet begins with other keys. The exports
// are read back before anything else is done.
func (b *buyer) loseDisk(old *simdisk.Snapshot) {
	w := b.w
	w.tell("%s loses its disk; an old copy: %t, %d exports", b.name, old != nil, len(b.exports))
	b.die("with its disk")
	w.audit.lose(b)
	b.returns++
	b.gone, b.until = false, 0
	b.pending = slices.Sorted(maps.Keys(b.exports))
	if old != nil {
		b.disk.inner.Restore(*old)
		b.parts = maps.Clone(b.copiedParts)
	} else {
		b.disk.inner.Restore(simdisk.Snapshot{})
		b.parts = map[int][]byte{}
	}
	b.disk.mend()
	b.start()
	if old == nil {
		w.must(payer.SkipKeys(w.ctx, b.disk, uint32(b.returns)<<16-1))
	}
}

// readBack reads the next export back, where one is left; it may fail, and be tried
// again.
func (b *buyer) readBack() bool {
	if len(b.pending) == 0 {
		return false
	}
	w, id := b.w, b.pending[0]
	e, err := payer.DecodeExport(b.exports[id])
	if err != nil {
		w.violate("the export of %.12s cannot be read: %v", id, err)
		return true
	}
	got, err := b.payer.Import(w.ctx, e)
	w.tell("%s reads the export of %.12s back: %s, over: %t, %v", b.name, id, got.Record.Phase, got.Over, err)
	switch {
	case err == nil && got.Over:
		w.audit.payer[id], w.audit.back.over[id] = got.Record, true
		w.fault("export-of-what-is-over")
	case err == nil:
		w.fault("export-read-back")
	case errors.Is(err, payer.ErrExportKnown):
	case b.dead, errors.Is(err, chain.ErrUnavailable), b.disk.failed, b.disk.full > 0, errors.Is(err, simdisk.ErrDisk):
		return true // tried again
	default:
		w.violate("the export of %.12s is refused: %v", id, err)
	}
	delete(w.audit.back.lost, id)
	b.pending = b.pending[1:]
	return true
}

// freeUnseen spends the coins of imported channels whose T1 nobody has ever seen.
func (b *buyer) freeUnseen() {
	if b.returns == 0 || len(b.pending) > 0 || b.dead {
		return
	}
	records, err := b.payer.Records(b.w.ctx)
	if err != nil {
		return
	}
	for _, r := range records {
		if !r.Imported || r.FundingSent || r.Phase.Final() {
			continue
		}
		if _, err := b.w.chain.Tx(b.w.ctx, r.Terms.Outpoint.Hash); errors.Is(err, chain.ErrNotFound) {
			if err := b.free(r); err != nil && !errors.Is(err, chain.ErrRejected) {
				b.w.violate("the chain does not answer: %v", err)
			}
		}
	}
}

// comeback is the audit's side of payers that lost their disks.
type comeback struct {
	lost   map[string]bool                // channels that have not been seen on a disk since
	peak   map[string]uint64              // sat, what was signed before the loss, by channel
	closes map[string]*channel.PayerClose // what was agreed before the loss
	keys   map[channel.Key]string         // K1 of channels that were opened
	over   map[string]bool                // channels that had ended when their export was read
}

// knew reports whether a channel's payer knew more of it than it does since its loss.
func (c *comeback) knew(r channel.PayerRecord) bool {
	_, lost := c.peak[r.Terms.ID()]
	return lost
}

// lose takes note that a payer's disk is gone: what it signed stays signed.
func (a *audit) lose(b *buyer) {
	for id, r := range a.payer {
		switch {
		case a.owner[id] != b:
		case r.Phase == channel.Prepared && b.exports[id] == nil:
			delete(a.payer, id) // its opening has not left
		case r.Phase == channel.Abandoned && b.exports[id] == nil: // it never did
			a.back.lost[id] = true
		default:
			a.back.lost[id] = true
			a.back.peak[id] = max(a.back.peak[id], r.Signed)
			if r.Close != nil {
				a.back.closes[id] = r.Close
			}
			if b.exports[id] == nil {
				a.w.violate("%.12s is %s, and there is no export of it", id, r.Phase)
			}
		}
	}
}

// cameBack judges the first record of a channel after its payer lost its disk: it
// may say less than before, and nothing that was not signed then. It reports whether
// this was one.
func (a *audit) cameBack(r, was channel.PayerRecord) bool {
	id := r.Terms.ID()
	if b := a.owner[id]; r.Phase == channel.Prepared && !a.late && a.w.story.play == oldPayer && a.w.rng.IntN(4) == 0 {
		b.copyDisk() // the copy knows of nothing that is about to leave
	}
	if len(r.Signature) > 0 { // its opening may have left
		if other, used := a.back.keys[r.Terms.PayerKey]; used && other != id {
			a.w.violate("the key of %.12s is that of %.12s", id, other)
		}
		a.back.keys[r.Terms.PayerKey] = id
	}
	if a.back.over[id] {
		return true // an old copy may hold a record of it that says less
	}
	if !a.back.lost[id] && was.Imported && (r.Signed != was.Signed || r.Close != nil || r.Owed != was.Owed) {
		a.w.violate("%.12s was imported, and %d sat are signed on it, %d before", id, r.Signed, was.Signed)
	}
	if !a.back.lost[id] && (!r.Imported || was.Imported) {
		return false
	}
	delete(a.back.lost, id)
	if r.Signed > a.back.peak[id] || r.Terms.Outpoint != was.Terms.Outpoint || r.Terms.Capacity != was.Terms.Capacity {
		a.w.violate("%.12s comes back with %d sat signed, %d sat were", id, r.Signed, a.back.peak[id])
	}
	return true
}

// shown is what counts as spent (msat) because the payee showed a signature from
// before the loss.
func (a *audit) shown(r channel.PayerRecord) uint64 {
	if r.Signed <= a.back.peak[r.Terms.ID()] {
		return r.Signed * 1000
	}
	return 0
}
