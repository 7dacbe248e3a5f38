// Package memory is a store that forgets everything when its process ends, for
// tests and for demonstrations. It can be told to fail.
//
// It never writes to a disk: what it acknowledges lives as long as the Store.
package memory

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/spillway/spillway/store"
)

// Store is a store in memory. The zero value is not usable; see New.
type Store struct {
	mu      sync.Mutex
	buckets map[string]map[string]store.Entry
	floor   uint64 // the highest revision at which a key was deleted
	closed  bool
	faults  []fault
}

type fault struct {
	err       error
	persisted bool
}

// New returns an empty store.
func New() *Store { return &Store{buckets: map[string]map[string]store.Entry{}} }

// FailNext makes the next commit fail without effect. Calls queue up: each is
// used by one commit.
func (s *Store) FailNext(err error) { s.fail(fault{err: err}) }

// FailButPersistNext makes the next commit that would succeed report err although
// it was saved: the answer was lost. Calls queue up, also with those of FailNext.
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
	e, ok := s.buckets[bucket][key]
	if !ok {
		return store.Entry{}, store.ErrNotFound
	}
	return own(e), nil
}

// own returns an entry whose value nobody else holds.
func own(e store.Entry) store.Entry {
	e.Value = append([]byte{}, e.Value...)
	return e
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
	for _, key := range slices.Sorted(maps.Keys(s.buckets[bucket])) {
		if strings.HasPrefix(key, prefix) {
			found = append(found, own(s.buckets[bucket][key]))
		}
	}
	return found, nil
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, ops ...store.Op) error {
	if err := store.Check(ops); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	if len(s.faults) > 0 && !s.faults[0].persisted {
		return s.fault()
	}
	if err := s.conflict(ops); err != nil {
		return err
	}
	for _, op := range ops {
		s.write(op)
	}
	return s.fault()
}

// fault takes the next fault that was asked for, if any.
func (s *Store) fault() error {
	if len(s.faults) == 0 {
		return nil
	}
	f := s.faults[0]
	s.faults = s.faults[1:]
	return f.err
}

func (s *Store) conflict(ops []store.Op) error {
	for _, op := range ops {
		if have := s.buckets[op.Bucket][op.Key].Revision; op.Expect != store.Any && op.Expect != have {
			return &store.ConflictError{Bucket: op.Bucket, Key: op.Key, Expected: op.Expect, Have: have}
		}
	}
	return nil
}

// write applies one op whose expectation was checked.
func (s *Store) write(op store.Op) {
	entries := s.buckets[op.Bucket]
	old, there := entries[op.Key]
	if op.Value == nil {
		if there {
			s.floor = max(s.floor, old.Revision+1)
			delete(entries, op.Key)
		}
		return
	}
	if entries == nil {
		entries = map[string]store.Entry{}
		s.buckets[op.Bucket] = entries
	}
	rev := s.floor + 1
	if there {
		rev = old.Revision + 1
	}
	entries[op.Key] = own(store.Entry{Bucket: op.Bucket, Key: op.Key, Value: op.Value, Revision: rev})
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
