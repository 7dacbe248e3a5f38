// Package storetest is the suite that every store passes.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/store"
)

// Suite runs the suite on stores that open makes; each call is a fresh, empty one.
func Suite(t *testing.T, open func(t testing.TB) store.Store) {
	cases := map[string]func(*testing.T, store.Store){
		"CompareAndSwap": compareAndSwap, "Atomic": atomic, "List": list, "Delete": deletes, "Values": values,
		"Revisions": revisions, "TwiceInOneCommit": twice, "Context": contexts, "Concurrent": concurrent, "Closed": closed,
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
	t.Run("Model", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) { model(rt, open(t)) })
	})
}

var ctx = context.Background()

func get(t testing.TB, s store.Store, bucket, key string) store.Entry {
	t.Helper()
	e, err := s.Get(ctx, bucket, key)
	if err != nil {
		t.Fatalf("get %s %s: %v", bucket, key, err)
	}
	return e
}

func commit(t testing.TB, s store.Store, ops ...store.Op) {
	t.Helper()
	if err := s.Commit(ctx, ops...); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func put(key, value string, expect uint64) store.Op {
	return store.Op{Bucket: "b", Key: key, Value: []byte(value), Expect: expect}
}

func compareAndSwap(t *testing.T, s store.Store) {
	if _, err := s.Get(ctx, "b", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("an empty store answers %v", err)
	}
	commit(t, s, put("k", "1", 0))
	first := get(t, s, "b", "k")
	var conflict *store.ConflictError
	err := s.Commit(ctx, put("k", "x", 0))
	if !errors.Is(err, store.ErrConflict) || !errors.As(err, &conflict) || conflict.Key != "k" || conflict.Bucket != "b" || conflict.Have != first.Revision {
		t.Fatalf("creating what is there: %v", err)
	}
	commit(t, s, put("k", "2", first.Revision))
	if err := s.Commit(ctx, put("k", "x", first.Revision)); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("an old revision: %v", err)
	}
	if e := get(t, s, "b", "k"); string(e.Value) != "2" || e.Revision <= first.Revision {
		t.Fatalf("after a conflict: %q at %d", e.Value, e.Revision)
	}
	commit(t, s, put("k", "3", store.Any))
	if e := get(t, s, "b", "k"); string(e.Value) != "3" {
		t.Fatalf("unconditional: %q", e.Value)
	}
}

func atomic(t *testing.T, s store.Store) {
	commit(t, s, put("a", "1", 0))
	if err := s.Commit(ctx, put("b", "1", 0), put("a", "2", 0), put("c", "1", 0)); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("want a conflict, got %v", err)
	}
	all, err := s.List(ctx, "b", "")
	if err != nil || len(all) != 1 || string(all[0].Value) != "1" {
		t.Fatalf("a refused commit left %v, %v", all, err)
	}
	if err := s.Commit(ctx); err != nil {
		t.Fatalf("an empty commit: %v", err)
	}
}

func list(t *testing.T, s store.Store) {
	for _, k := range []string{"b/2", "a", "b/1", "b", "c", "b%", "b_x", "B/9", "b/ü"} {
		commit(t, s, put(k, k, 0))
	}
	commit(t, s, store.Op{Bucket: "other", Key: "b/3", Value: []byte("x")})
	for prefix, want := range map[string]string{"b/": "[b/1 b/2 b/ü]", "b%": "[b%]", "b_": "[b_x]", "zz": "[]", "": "[B/9 a b b% b/1 b/2 b/ü b_x c]"} {
		all, err := s.List(ctx, "b", prefix)
		if err != nil {
			t.Fatal(err)
		}
		keys := []string{}
		for _, e := range all {
			keys = append(keys, e.Key)
			if string(e.Value) != e.Key || e.Bucket != "b" || e.Revision == 0 {
				t.Errorf("entry %+v", e)
			}
		}
		if got := fmt.Sprint(keys); got != want {
			t.Errorf("list %q: %s, want %s", prefix, got, want)
		}
	}
}

func deletes(t *testing.T, s store.Store) {
	commit(t, s, put("k", "1", 0))
	e := get(t, s, "b", "k")
	if err := s.Commit(ctx, store.Op{Bucket: "b", Key: "k", Expect: e.Revision + 1}); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("deleting another revision: %v", err)
	}
	commit(t, s, store.Op{Bucket: "b", Key: "k", Expect: e.Revision})
	if _, err := s.Get(ctx, "b", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("after a deletion: %v", err)
	}
}

func values(t *testing.T, s store.Store) {
	big := bytes.Repeat([]byte{0xa5, 0}, 512<<10)
	commit(t, s, store.Op{Bucket: "b", Key: "big", Value: big}, store.Op{Bucket: "b", Key: "empty", Value: []byte{}})
	if e := get(t, s, "b", "big"); !bytes.Equal(e.Value, big) {
		t.Error("a large value changed")
	}
	if e := get(t, s, "b", "empty"); len(e.Value) != 0 {
		t.Errorf("an empty value became %x", e.Value)
	}
	e := get(t, s, "b", "big")
	e.Value[0] = 1
	if again := get(t, s, "b", "big"); again.Value[0] != 0xa5 {
		t.Error("a caller changed what is stored")
	}
}

// A revision never comes back, also after a deletion: who holds an old one is told.
func revisions(t *testing.T, s store.Store) {
	commit(t, s, put("k", "1", 0))
	first := get(t, s, "b", "k")
	commit(t, s, store.Op{Bucket: "b", Key: "k", Expect: first.Revision})
	commit(t, s, put("k", "1", 0))
	if again := get(t, s, "b", "k"); again.Revision <= first.Revision {
		t.Fatalf("revision %d after %d", again.Revision, first.Revision)
	}
	if err := s.Commit(ctx, put("k", "2", first.Revision)); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("a revision from before the deletion: %v", err)
	}
}

func twice(t *testing.T, s store.Store) {
	if err := s.Commit(ctx, put("k", "1", 0), put("k", "2", store.Any)); !errors.Is(err, store.ErrInvalid) {
		t.Fatalf("one key twice in a commit: %v", err)
	}
}

func contexts(t *testing.T, s store.Store) {
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Commit(over, put("k", "1", 0)); !errors.Is(err, context.Canceled) {
		t.Fatalf("a commit with a cancelled context: %v", err)
	}
	if _, err := s.Get(ctx, "b", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatal("it was saved all the same")
	}
}

// Many writers on few keys: each success is one step of its key.
func concurrent(t *testing.T, s store.Store) {
	const writers, keys, steps = 16, 4, 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	wins := map[string]int{}
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range steps {
				key := fmt.Sprint((w + i) % keys)
				e, err := s.Get(ctx, "b", key)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Error(err)
					return
				}
				err = s.Commit(ctx, store.Op{Bucket: "b", Key: key, Value: append(e.Value, '.'), Expect: e.Revision})
				if errors.Is(err, store.ErrConflict) {
					continue
				} else if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				wins[key]++
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	for key, n := range wins {
		if e := get(t, s, "b", key); len(e.Value) != n {
			t.Errorf("key %s: %d successes, %d steps saved", key, n, len(e.Value))
		}
	}
	if len(wins) != keys {
		t.Errorf("only %d keys were written", len(wins))
	}
}

func closed(t *testing.T, s store.Store) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, put("k", "1", 0)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("commit: %v", err)
	}
	if _, err := s.Get(ctx, "b", "k"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.List(ctx, "b", ""); !errors.Is(err, store.ErrClosed) {
		t.Errorf("list: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

// model compares a store with a plain map over random commits.
func model(t *rapid.T, s store.Store) {
	defer func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	type cell struct {
		value string
		rev   uint64
	}
	want := map[string]cell{}
	for range rapid.IntRange(1, 30).Draw(t, "commits") {
		var ops []store.Op
		ok, used := true, map[string]bool{}
		for range rapid.IntRange(1, 3).Draw(t, "ops") {
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			expect := rapid.SampledFrom([]uint64{0, store.Any, want[key].rev, want[key].rev + 1}).Draw(t, "expect")
			op := store.Op{Bucket: "m", Key: key, Expect: expect}
			if rapid.Bool().Draw(t, "put") {
				op.Value = []byte(rapid.StringN(0, 5, 20).Draw(t, "value"))
			}
			ok = ok && !used[key] && (expect == store.Any || expect == want[key].rev)
			used[key] = true
			ops = append(ops, op)
		}
		err := s.Commit(ctx, ops...)
		if ok != (err == nil) {
			t.Fatalf("commit %+v on %v: %v", ops, want, err)
		}
		if err != nil {
			continue
		}
		for _, op := range ops {
			if op.Value == nil {
				delete(want, op.Key)
				continue
			}
			e, err := s.Get(ctx, "m", op.Key)
			if err != nil || !bytes.Equal(e.Value, op.Value) || e.Revision <= want[op.Key].rev {
				t.Fatalf("get %s: %+v, %v", op.Key, e, err)
			}
			want[op.Key] = cell{string(op.Value), e.Revision}
		}
	}
	all, err := s.List(ctx, "m", "")
	if err != nil || len(all) != len(want) {
		t.Fatalf("list: %v, %v; want %v", all, err, want)
	}
}
