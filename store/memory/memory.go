// Package memory is a store that forgets everything when its process ends, for
// tests and for demonstrations. It can be told to fail.
package memory

import (
	"context"
	"sort"
	"strings"
	"sync"

	"github.com/spillway/spillway/store"
)

// Store is a store in memory. The zero value is not usable; see New.
type Store struct {
	mu      sync.Mutex
	entries map[[2]string]store.Entry
	seq     uint64
	closed  bool
	faults  []fault
}

type fault struct {
	err       error
	persisted bool
}

// New returns an empty store.
func New() *Store { return &Store{entries: map[[2]string]store.Entry{}} }

// FailNext makes the next commit fail without effect.
func (s *Store) FailNext(err error) { s.fail(fault{err: err}) }

// FailButPersistNext makes the next commit report a failure although it was saved.
func (s *Store) FailButPersistNext(err error) { s.fail(fault{err: err, persisted: true}) }

func (s *Store) fail(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, bucket, key string) (store.Entry, error) {
	if err := ctx.Err(); err != nil {
		return store.Entry{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.Entry{}, store.ErrClosed
	}
	e, ok := s.entries[[2]string{bucket, key}]
	if !ok {
		return store.Entry{}, store.ErrNotFound
	}
	e.Value = append([]byte{}, e.Value...)
	return e, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, bucket, prefix string) ([]store.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	var found []store.Entry
	for k, e := range s.entries {
		if k[0] == bucket && strings.HasPrefix(k[1], prefix) {
			e.Value = append([]byte{}, e.Value...)
			found = append(found, e)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Key < found[j].Key })
	return found, nil
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, ops ...store.Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	var f fault
	if len(s.faults) > 0 {
		f, s.faults = s.faults[0], s.faults[1:]
		if !f.persisted {
			return f.err
		}
	}
	for i, op := range ops {
		have := s.entries[[2]string{op.Bucket, op.Key}].Revision
		for _, before := range ops[:i] {
			if before.Bucket == op.Bucket && before.Key == op.Key {
				return &store.ConflictError{Bucket: op.Bucket, Key: op.Key, Expected: op.Expect, Have: have}
			}
		}
		if op.Expect != store.Any && op.Expect != have {
			return &store.ConflictError{Bucket: op.Bucket, Key: op.Key, Expected: op.Expect, Have: have}
		}
	}
	for _, op := range ops {
		s.seq++
		k := [2]string{op.Bucket, op.Key}
		if op.Value == nil {
			delete(s.entries, k)
			continue
		}
		s.entries[k] = store.Entry{Bucket: op.Bucket, Key: op.Key, Value: append([]byte{}, op.Value...), Revision: s.seq}
	}
	return f.err
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
