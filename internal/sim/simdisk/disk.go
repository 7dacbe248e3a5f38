// Package simdisk is a store for the simulator with a disk's bad days: commits that
// fail, that fail and are there all the same, a full or read-only disk, damaged
// entries, a crash, an old backup. A run can look at, and stop at, each commit.
//
// It never writes to a real disk, reads no clock, starts no goroutine and takes
// randomness only from the source that it is given: the same calls give the same
// answers.
//
// # Durability
//
// What a commit acknowledged is durable and survives Crash. A commit whose fate is
// unknown (FailUnknownNext) leaves the store failed: it answers commits with store.ErrFailed until it is opened again, and whether the commit is
// there is decided then, by the source of randomness. Reads show meanwhile what was
// before.
package simdisk

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/spillway/spillway/store"
)

// Kinds of faults, as Counts names them.
const (
	Failed    = "save-failed"               // nothing was saved, and the answer says so
	Persisted = "save-failed-but-persisted" // it was saved, the answer says that it failed
	Unknown   = "save-of-unknown-fate"      // known after the store is opened again
	Full      = "disk-full"
	ReadOnly  = "disk-read-only"
	Damaged   = "damaged-entry" // a read of one
	Lost      = "lost-at-crash" // a commit of unknown fate that a crash took
	Kept      = "kept-at-crash" // one that was there after it
	Restored  = "old-backup"    // a restore that took something away
)

// Hook is called at each commit: before it is judged (after is false), and after it
// is saved and before it is answered. n counts the commits of the disk, from 1. What
// it returns, if anything, is the commit's answer: before, nothing is saved then;
// after, everything is. It may use the Disk, also Crash it, and may panic, but not
// commit.
type Hook func(n int, after bool, ops []store.Op) error

// Disk is what stays when a process dies. It is safe for concurrent use, and
// deterministic where one goroutine uses it.
type Disk struct {
	// CommitHook is called at each commit; nil: nobody.
	CommitHook Hook
	// Shared gives readers the stored bytes themselves, not copies of their own: faster, for readers that change nothing.
	Shared bool

	mu       sync.Mutex
	rng      *rand.Rand
	data     content
	faults   []fault
	pending  []store.Op // a commit of unknown fate
	kept     bool       // its fate is known: it is there
	full     bool
	readOnly bool
	damaged  map[name]bool
	open     *handle
	commits  int
	counts   map[string]int
}

type name struct{ bucket, key string }

type cell struct {
	value []byte // never changed once it is here
	rev   uint64
}

// content is what a disk holds. Buckets are copied before they are changed while a
// backup or a clone shares them.
type content struct {
	buckets map[string]*bucket
	floor   uint64 // the highest revision at which a key was deleted
}

type bucket struct {
	cells  map[string]cell
	keys   []string // sorted
	shared bool     // somebody else holds it
}

type fault struct {
	kind string
	err  error
}

// New is an empty disk. rng decides what becomes of commits of unknown fate; nil:
// they are lost.
func New(rng *rand.Rand) *Disk {
	return &Disk{rng: rng, data: content{buckets: map[string]*bucket{}}, damaged: map[name]bool{}, counts: map[string]int{}}
}

// share makes another content that holds the same.
func (c content) share() content {
	for _, b := range c.buckets {
		b.shared = true
	}
	c.buckets = maps.Clone(c.buckets)
	return c
}

// own is a bucket that only this content holds, made where there is none.
func (c *content) own(of string) *bucket {
	b := c.buckets[of]
	switch {
	case b == nil:
		b = &bucket{cells: map[string]cell{}}
	case b.shared:
		b = &bucket{cells: maps.Clone(b.cells), keys: slices.Clone(b.keys)}
	default:
		return b
	}
	c.buckets[of] = b
	return b
}

func (c *content) get(bucket, key string) (cell, bool) {
	b := c.buckets[bucket]
	if b == nil {
		return cell{}, false
	}
	e, ok := b.cells[key]
	return e, ok
}

// conflict is the first op whose revision is not there.
func (c *content) conflict(ops []store.Op) error {
	for _, op := range ops {
		if e, _ := c.get(op.Bucket, op.Key); op.Expect != store.Any && op.Expect != e.rev {
			return &store.ConflictError{Bucket: op.Bucket, Key: op.Key, Expected: op.Expect, Have: e.rev}
		}
	}
	return nil
}

// write applies one op whose expectation was checked. The rule of revisions is in
// package store.
func (c *content) write(op store.Op) {
	old, there := c.get(op.Bucket, op.Key)
	if op.Value == nil {
		if there {
			b := c.own(op.Bucket)
			c.floor = max(c.floor, old.rev+1)
			delete(b.cells, op.Key)
			i, _ := slices.BinarySearch(b.keys, op.Key)
			b.keys = slices.Delete(b.keys, i, i+1)
		}
		return
	}
	b := c.own(op.Bucket)
	rev := old.rev + 1
	if !there {
		rev = c.floor + 1
		i, _ := slices.BinarySearch(b.keys, op.Key)
		b.keys = slices.Insert(b.keys, i, op.Key)
	}
	b.cells[op.Key] = cell{append([]byte{}, op.Value...), rev}
}

// Open gives the store that is on the disk; a process that had it open before is
// gone, and its store answers store.ErrClosed.
func (d *Disk) Open() store.Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open != nil {
		d.open.closed = true
	}
	d.recover()
	d.open = &handle{d: d}
	return d.open
}

// recover decides what became of a commit of unknown fate.
func (d *Disk) recover() {
	if d.pending == nil {
		return
	}
	ops := d.pending
	d.pending = nil
	switch {
	case d.kept:
	case d.rng == nil || d.rng.IntN(2) == 0:
		d.counts[Lost]++
		return
	default:
		d.counts[Kept]++
	}
	d.write(ops)
}

// write saves what was judged; an entry that is written again is whole.
func (d *Disk) write(ops []store.Op) {
	for _, op := range ops {
		d.data.write(op)
		if len(d.damaged) > 0 {
			delete(d.damaged, name{op.Bucket, op.Key})
		}
	}
}

// Crash kills the process: its store answers store.ErrClosed, and what was asked
// for and has not struck yet is forgotten. A full or read-only disk stays so.
func (d *Disk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open != nil {
		d.open.closed = true
		d.open = nil
	}
	d.recover()
	d.faults = nil
}

// Clone is a copy that goes its own way, with its own randomness, closed and
// without a hook.
func (d *Disk) Clone(rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Disk{
		rng: rng, data: d.data.share(), faults: slices.Clone(d.faults), pending: keep(d.pending), kept: d.kept, full: d.full, readOnly: d.readOnly,
		damaged: maps.Clone(d.damaged), commits: d.commits, counts: maps.Clone(d.counts),
	}
}

// Commits is how many commits were asked for that had something to write.
func (d *Disk) Commits() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.commits
}

// Counts is how often each kind of fault struck: changed an answer or what is
// stored.
func (d *Disk) Counts() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.counts)
}
