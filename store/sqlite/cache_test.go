package sqlite

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/spillway/spillway/store"
)

// Whoever reads while others write never sees less than was answered before, also
// where the entries in memory come and go.
func TestCacheIsNeverBehind(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{})
	const keys, writes = 8, 60
	var saved [keys]atomic.Uint64 // revision that was answered
	var writers, readers sync.WaitGroup
	var done atomic.Bool
	for k := range keys {
		commit1(t, s, put(fmt.Sprint(k), "1", 0))
		saved[k].Store(1)
		writers.Go(func() {
			for n := uint64(2); n <= writes; n++ {
				if err := s.Commit(t.Context(), put(fmt.Sprint(k), strconv.FormatUint(n, 10), n-1)); err != nil {
					t.Error(err)
					return
				}
				saved[k].Store(n)
			}
		})
	}
	for range 4 {
		readers.Go(func() {
			for i := 0; !done.Load(); i++ {
				k := i % keys
				least := saved[k].Load()
				e, err := s.Get(t.Context(), "b", fmt.Sprint(k))
				if err != nil || e.Revision < least || string(e.Value) != strconv.FormatUint(e.Revision, 10) {
					t.Errorf("key %d: revision %d with %q after %d, %v", k, e.Revision, e.Value, least, err)
					return
				}
				if i%50 == 0 {
					s.cache.mu.Lock()
					for _, k := range s.cache.all {
						s.cache.drop(k)
						break
					}
					s.cache.mu.Unlock()
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	for _, busy := range s.cache.busy {
		if busy != 0 {
			t.Fatal("a transaction that is over is thought to go on")
		}
	}
}

// What is kept is bounded, a value that is the caller's changes nothing that is kept,
// what is deleted is gone, and a conflict leaves what was there.
func TestCacheKeeps(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{})
	value := []byte("mine")
	commit1(t, s, store.Op{Bucket: "b", Key: "k", Value: value})
	value[0] = 'x'
	for range 2 {
		e, err := s.Get(t.Context(), "b", "k")
		if err != nil || string(e.Value) != "mine" || e.Revision != 1 {
			t.Fatalf("%+v, %v", e, err)
		}
		e.Value[0] = 'y'
	}
	if err := s.Commit(t.Context(), put("k", "other", 7)); err == nil {
		t.Fatal("no conflict")
	}
	if e, err := s.Get(t.Context(), "b", "k"); err != nil || string(e.Value) != "mine" {
		t.Fatalf("%+v, %v", e, err)
	}
	commit1(t, s, store.Op{Bucket: "b", Key: "k", Expect: 1})
	if e, err := s.Get(t.Context(), "b", "k"); err == nil {
		t.Fatalf("%+v", e)
	}
	for i := range 64 {
		commit1(t, s, store.Op{Bucket: "big", Key: fmt.Sprint(i), Value: make([]byte, cacheBytes/32), Expect: store.Any})
	}
	commit1(t, s, store.Op{Bucket: "big", Key: "too big", Value: make([]byte, cacheBytes/2), Expect: store.Any})
	if s.cache.bytes > cacheBytes || len(s.cache.all) < 20 {
		t.Fatalf("%d entries of %d bytes are kept", len(s.cache.all), s.cache.bytes)
	}
	if e, err := s.Get(t.Context(), "big", "too big"); err != nil || len(e.Value) != cacheBytes/2 {
		t.Fatalf("%d bytes, %v", len(e.Value), err)
	}
}

// Where other processes may write, nothing is kept.
func TestSharedStoresKeepNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{Shared: true})
	commit1(t, s, put("k", "v", 0))
	if _, err := s.Get(t.Context(), "b", "k"); err != nil || len(s.cache.all) != 0 {
		t.Fatalf("%d entries are kept, %v", len(s.cache.all), err)
	}
}
