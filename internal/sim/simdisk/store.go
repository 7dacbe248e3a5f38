package simdisk

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spillway/spillway/store"
)

// handle is the store of one process.
type handle struct {
	d      *Disk
	closed bool
	failed error // of a commit of unknown fate
}

var _ store.Store = (*handle)(nil)

// Get implements store.Store.
func (h *handle) Get(ctx context.Context, bucket, key string) (store.Entry, error) {
	if err := ctx.Err(); err != nil {
		return store.Entry{}, err
	}
	d := h.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.closed {
		return store.Entry{}, store.ErrClosed
	}
	e, ok := d.data.get(bucket, key)
	if !ok {
		return store.Entry{}, store.ErrNotFound
	}
	return d.entry(bucket, key, e)
}

// entry is a stored entry as its reader gets it.
func (d *Disk) entry(bucket, key string, e cell) (store.Entry, error) {
	if len(d.damaged) > 0 && d.damaged[name{bucket, key}] {
		d.counts[Damaged]++
		return store.Entry{}, fmt.Errorf("%w: simdisk: %s %s", store.ErrDamaged, bucket, key)
	}
	value := e.value[:len(e.value):len(e.value)]
	if !d.Shared {
		value = append(make([]byte, 0, len(e.value)), e.value...)
	}
	return store.Entry{Bucket: bucket, Key: key, Value: value, Revision: e.rev}, nil
}

// List implements store.Store.
func (h *handle) List(ctx context.Context, bucket, prefix string) (found []store.Entry, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d := h.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.closed {
		return nil, store.ErrClosed
	}
	b := d.data.buckets[bucket]
	if b == nil {
		return nil, nil
	}
	from, _ := slices.BinarySearch(b.keys, prefix)
	to := from
	for to < len(b.keys) && strings.HasPrefix(b.keys[to], prefix) {
		to++
	}
	if from < to {
		found = make([]store.Entry, 0, to-from)
	}
	for _, key := range b.keys[from:to] {
		e, err := d.entry(bucket, key, b.cells[key])
		if err != nil {
			return nil, err
		}
		found = append(found, e)
	}
	return found, nil
}

// Commit implements store.Store.
func (h *handle) Commit(ctx context.Context, ops ...store.Op) error {
	if err := store.Check(ops); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d := h.d
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case h.closed:
		return store.ErrClosed
	case h.failed != nil:
		return h.failed
	case len(ops) == 0:
		return nil
	}
	d.commits++
	if err := d.hook(false, ops); err != nil {
		return err
	}
	if h.closed { // the process was killed there
		return store.ErrClosed
	}
	if err := d.data.conflict(ops); err != nil {
		return err
	}
	return d.save(h, ops)
}

// hook tells the run of a commit, which may crash or change the disk there.
func (d *Disk) hook(after bool, ops []store.Op) error {
	if d.CommitHook == nil {
		return nil
	}
	n := d.commits
	d.mu.Unlock()
	defer d.mu.Lock()
	return d.CommitHook(n, after, ops)
}

// save writes what is in order, as far as the disk lets it.
func (d *Disk) save(h *handle, ops []store.Op) error {
	switch {
	case d.readOnly:
		d.counts[ReadOnly]++
		return errRead
	case d.full:
		d.counts[Full]++
		return errFull
	}
	var f fault
	if len(d.faults) > 0 {
		f, d.faults = d.faults[0], d.faults[1:]
	}
	switch f.kind {
	case Failed:
		d.counts[Failed]++
		return f.err
	case Persisted:
		d.counts[Persisted]++
	case Unknown, persistedUnseen:
		if d.kept = f.kind == persistedUnseen; d.kept {
			d.counts[Persisted]++
		} else {
			d.counts[Unknown]++
		}
		d.pending = keep(ops)
		h.failed = fmt.Errorf("%w: %w", store.ErrFailed, f.err)
		return h.failed
	}
	d.write(ops)
	if err := d.hook(true, ops); err != nil {
		return err
	}
	if h.closed {
		return store.ErrClosed
	}
	return f.err
}

// keep copies ops that are looked at later, nil for none.
func keep(ops []store.Op) []store.Op {
	ops = slices.Clone(ops)
	for i, op := range ops {
		ops[i].Value = slices.Clone(op.Value)
	}
	return ops
}

// Close implements store.Store.
func (h *handle) Close() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.closed = true
	if h.d.open == h {
		h.d.open = nil
	}
	return nil
}
