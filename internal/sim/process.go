package sim

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/internal/sim/simchain"
	"github.com/spillway/spillway/internal/sim/simdisk"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// errKilled is what everything around a killed process answers: whatever it was
// doing comes to nothing, only its disk stays.
var errKilled = errors.New("this process was killed")

// process is one side as the machine sees it: a disk, a line to a chain backend, a
// clock, and a moment at which it may be killed.
type process struct {
	w     *world
	name  string
	disk  *disk
	link  *link
	dead  bool
	fuse  int // effects until it dies; 0: none
	until int // event at which it runs again after a pause; 0: it runs
	skew  time.Duration
}

func newProcess(w *world, name string) *process {
	p := &process{w: w, name: name}
	p.disk = &disk{p: p, inner: simdisk.New(w.rng)}
	p.disk.inner.Shared = w.seed%8 != 0 // one run in eight shows who changes what it was given
	p.link = &link{p: p, inner: simchain.NewFaulty(w.chain)}
	return p
}

// Now is the side's own clock.
func (p *process) Now() time.Time { return p.w.now.Add(p.skew) }

// away reports whether the side does nothing at present.
func (p *process) away() bool { return p.until > p.w.at }

// point is an effect of the side; the process may end right before it.
func (p *process) point(where string) error {
	if p.dead {
		return errKilled
	}
	if p.fuse > 0 {
		if p.fuse--; p.fuse == 0 {
			p.die(where)
			return errKilled
		}
	}
	return nil
}

func (p *process) die(where string) {
	p.dead, p.fuse = true, 0
	p.w.result.Crashes++
	p.w.fault("crash-" + p.name)
	p.w.tell("  %s is killed %s", p.name, where)
}

// disk is a side's store. It fails as disks do, and tells the audit what was saved.
type disk struct {
	p      *process
	inner  *simdisk.Disk
	open   store.Store
	full   int  // event until which nothing more can be saved
	failed bool // it refused to make a commit durable; only opening it again helps
	copy   *simdisk.Snapshot
}

// Get implements the drivers' store.
func (d *disk) Get(ctx context.Context, bucket, key string) (store.Entry, error) {
	if d.p.dead {
		return store.Entry{}, errKilled
	}
	return d.open.Get(ctx, bucket, key)
}

// List implements the drivers' store.
func (d *disk) List(ctx context.Context, bucket, prefix string) ([]store.Entry, error) {
	if d.p.dead {
		return nil, errKilled
	}
	return d.open.List(ctx, bucket, prefix)
}

// Commit implements the drivers' store.
func (d *disk) Commit(ctx context.Context, ops ...store.Op) error {
	if err := d.p.point("before a save"); err != nil {
		return err
	}
	if d.full > 0 && d.full <= d.p.w.at {
		d.mend()
	}
	if err := d.open.Commit(ctx, ops...); err != nil {
		if !errors.Is(err, store.ErrConflict) {
			d.failed = d.failed || errors.Is(err, store.ErrFailed)
			d.p.w.fault("disk-refuses-" + d.p.name)
			d.p.w.tell("  %s cannot save: %v", d.p.name, err)
		}
		return err
	}
	d.p.w.audit.saved(d.p, ops)
	return d.p.point("after a save")
}

// mend ends a full or read-only disk.
func (d *disk) mend() {
	d.full = 0
	d.inner.Free()
	d.inner.SetReadOnly(false)
}

// opened opens the disk for a process that begins anew; what of unknown saves is
// there is known now.
func (d *disk) opened() {
	d.failed = false
	d.inner.Crash()
	d.open = d.inner.Open()
	d.p.w.audit.reread(d.p, d.open)
}

// link is a side's line to its backend.
type link struct {
	p     *process
	inner *simchain.Faulty
	bad   int // event until which it is not what it should be

	lying  bool           // what is wrong with it is a lie
	lied   time.Time      // when it was made honest last: what was seen before counts for a while
	struck map[string]int // how often its faults were counted already
}

// up is the reason why nothing can be asked.
func (l *link) up() error {
	switch {
	case l.p.dead:
		return errKilled
	case l.bad > 0 && l.bad <= l.p.w.at:
		l.honest()
	}
	return nil
}

// honest makes the backend what it should be.
func (l *link) honest() {
	l.bad, l.lying, l.lied = 0, false, l.p.w.now
	l.inner.Honest()
}

// Tip implements the drivers' chain.
func (l *link) Tip(ctx context.Context) (chain.Tip, error) {
	if err := l.up(); err != nil {
		return chain.Tip{}, err
	}
	return l.inner.Tip(ctx)
}

// Tx implements the drivers' chain.
func (l *link) Tx(ctx context.Context, id chainhash.Hash) (chain.TxInfo, error) {
	if err := l.up(); err != nil {
		return chain.TxInfo{}, err
	}
	return l.inner.Tx(ctx, id)
}

// Spend implements the drivers' chain.
func (l *link) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	if err := l.up(); err != nil {
		return nil, err
	}
	return l.inner.Spend(ctx, op)
}

// FeeRate implements the drivers' chain.
func (l *link) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	if err := l.up(); err != nil {
		return 0, err
	}
	rate, err := l.inner.FeeRate(ctx, blocks)
	return chain.ClampFeeRate(rate), err // as every backend does with what it is told
}

// Broadcast implements the drivers' chain. What is sent must be on the disk.
func (l *link) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if err := l.p.point("before a broadcast"); err != nil {
		return err
	}
	if err := l.up(); err != nil {
		return err
	}
	l.p.w.audit.broadcast(l.p, tx)
	err := l.inner.Broadcast(ctx, tx)
	if errors.Is(err, chain.ErrRejected) {
		l.p.w.tell("  %s sends %.12s: %v", l.p.name, tx.TxHash().String(), err)
	} else {
		l.p.w.tell("  %s sends %.12s to the network", l.p.name, tx.TxHash().String())
	}
	if dead := l.p.point("after a broadcast"); dead != nil {
		return dead
	}
	return err
}

// dice is the event's randomness as a reader.
type dice struct{ w *world }

var _ io.Reader = dice{}

func (d dice) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(d.w.rng.Uint32())
	}
	return len(p), nil
}
