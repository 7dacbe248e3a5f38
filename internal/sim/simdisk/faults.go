package simdisk

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"syscall"

	"github.com/spillway/spillway/store"
)

// persistedUnseen is Persisted as the contract of stores has it.
const persistedUnseen = "persisted"

// Causes of the errors, for errors.Is.
var (
	// ErrDisk is what a commit that failed says.
	ErrDisk = errors.New("simdisk: input/output error")
	errFull = fmt.Errorf("%w: simdisk: %w", store.ErrFull, syscall.ENOSPC)
	errRead = fmt.Errorf("%w: simdisk: %w", store.ErrReadOnly, syscall.EROFS)
)

// FailNext makes the next commit fail without effect, with err or, where that is
// nil, ErrDisk. Calls queue up, also with those of the others: each is used by one
// commit that would have succeeded.
func (d *Disk) FailNext(err error) { d.fail(Failed, err) }

// FailButPersistNext makes the next commit fail although it is saved. With nil it
// answers store.ErrFailed, as a store must whose disk refused to sync, every other
// commit does too, and after the store is opened again the commit is there. With an
// err the commit is there at once and the store goes on: an answer that was lost.
func (d *Disk) FailButPersistNext(err error) {
	if err == nil {
		d.fail(persistedUnseen, nil)
		return
	}
	d.fail(Persisted, err)
}

// FailUnknownNext makes the next commit answer store.ErrFailed, as a store does
// whose disk refused to sync. Until it is opened again every other commit does too
// and reads show what was before; then the commit is there or not.
func (d *Disk) FailUnknownNext() { d.fail(Unknown, nil) }

func (d *Disk) fail(kind string, err error) {
	if err == nil {
		err = ErrDisk
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, fault{kind, err})
}

// Fill makes the disk full: commits answer store.ErrFull (syscall.ENOSPC) until
// Free.
func (d *Disk) Fill() { d.set(&d.full, true) }

// Free ends Fill.
func (d *Disk) Free() { d.set(&d.full, false) }

// SetReadOnly makes the disk read-only or writable: commits answer
// store.ErrReadOnly (syscall.EROFS) meanwhile.
func (d *Disk) SetReadOnly(on bool) { d.set(&d.readOnly, on) }

func (d *Disk) set(flag *bool, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*flag = on
}

// Corrupt damages one stored entry: reads that meet it answer store.ErrDamaged
// until it is written again or Repair. It reports whether the entry is there.
func (d *Disk) Corrupt(bucket, key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.data.get(bucket, key); !ok {
		return false
	}
	d.damaged[name{bucket, key}] = true
	return true
}

// Repair ends Corrupt, of all entries.
func (d *Disk) Repair() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.damaged)
}

// Snapshot is a backup. It stays as it is.
type Snapshot struct {
	data    content
	damaged map[name]bool
}

// Backup is what a commit acknowledged by now.
func (d *Disk) Backup() Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Snapshot{d.data.share(), maps.Clone(d.damaged)}
}

// Restore puts a backup in the place of what is there; a process that has the store
// open is gone. The zero Snapshot is an empty disk.
func (d *Disk) Restore(s Snapshot) {
	d.Crash()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !same(d.data, s.data) {
		d.counts[Restored]++
	}
	d.data = s.data.share()
	if d.data.buckets == nil {
		d.data.buckets = map[string]*bucket{}
	}
	d.damaged = map[name]bool{}
	maps.Copy(d.damaged, s.damaged)
}

// same tells whether two contents hold the same entries.
func same(a, b content) bool {
	cells := func(c content) map[name]cell {
		all := map[name]cell{}
		for of, b := range c.buckets {
			for key, e := range b.cells {
				all[name{of, key}] = e
			}
		}
		return all
	}
	return maps.EqualFunc(cells(a), cells(b), func(x, y cell) bool { return x.rev == y.rev && bytes.Equal(x.value, y.value) })
}
