// Package storetest is the suite that every store passes: the rules of package
// store, one by one, under many writers, and against a plain map.
//
// It never looks at how a store keeps things.
package storetest

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/store"
)

// rules are what holds of any store, each tested on a fresh one.
var rules = map[string]func(*testing.T, store.Store){
	"CompareAndSwap": compareAndSwap, "Atomic": atomic, "ConflictNamesTheKey": conflictNames, "List": list, "Delete": deletes,
	"Values": values, "Isolation": isolation, "Revisions": revisions, "Invalid": invalid, "Context": contexts,
}

// races are what holds however many use a store at once.
var races = map[string]func(*testing.T, store.Store){
	"Counters": counters, "CreateOnce": createOnce, "Snapshots": snapshots, "Cancelled": cancelled, "ClosedMeanwhile": closedMeanwhile,
}

// Suite runs the suite on stores that open makes; each call is a fresh, empty one,
// closed by whoever made it or by the suite.
func Suite(t *testing.T, open func(t testing.TB) store.Store) {
	for name, run := range rules {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
	for name, run := range races {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
	t.Run("Closed", func(t *testing.T) { closed(t, open(t)) })
	t.Run("Model", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			s := open(t)
			model(rt, func() store.Store { return s }, false)
			if err := s.Close(); err != nil {
				rt.Fatal(err)
			}
		})
	})
}

// SuiteReopened runs the rules on stores that are closed and opened again before
// each read, and the model with reopening as one of its actions. place names a
// fresh, empty place each time; what it returns opens the store that is there.
func SuiteReopened(t *testing.T, place func(t testing.TB) (open func() (store.Store, error))) {
	for name, run := range rules {
		t.Run(name, func(t *testing.T) {
			s := &reopened{t: t, open: place(t)}
			s.again()
			defer s.close()
			run(t, s)
		})
	}
	t.Run("Model", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			s := &reopened{t: rt, open: place(t)}
			defer s.close()
			model(rt, func() store.Store { s.again(); return s.Store }, true)
		})
	})
}

func compareAndSwap(t *testing.T, s store.Store) {
	if _, err := s.Get(ctx, "b", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("an empty store answers %v", err)
	}
	commit(t, s, put("k", "1", 0))
	if err := s.Commit(ctx, put("k", "x", 0)); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("creating what is there: %v", err)
	}
	if err := s.Commit(ctx, put("other", "x", 1)); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("a revision of what is not there: %v", err)
	}
	first := get(t, s, "b", "k")
	commit(t, s, put("k", "2", first.Revision))
	for _, rev := range []uint64{0, first.Revision, first.Revision + 2, 1 << 63, store.Any - 1} {
		if err := s.Commit(ctx, put("k", "x", rev)); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("revision %d of what is at %d: %v", rev, first.Revision+1, err)
		}
	}
	if e := get(t, s, "b", "k"); string(e.Value) != "2" || e.Revision != first.Revision+1 {
		t.Fatalf("after conflicts: %q at %d", e.Value, e.Revision)
	}
	commit(t, s, put("k", "3", store.Any), put("new", "1", store.Any))
	if e := get(t, s, "b", "k"); string(e.Value) != "3" {
		t.Fatalf("unconditional: %q", e.Value)
	}
}

func atomic(t *testing.T, s store.Store) {
	commit(t, s, put("a", "1", 0))
	if err := s.Commit(ctx, put("b", "1", 0), put("a", "2", 0), put("c", "1", 0)); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("want a conflict, got %v", err)
	}
	if err := s.Commit(ctx, store.Op{Bucket: "b", Key: "a", Expect: store.Any}, put("d", "1", 9)); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("want a conflict, got %v", err)
	}
	all, err := s.List(ctx, "b", "")
	if err != nil || len(all) != 1 || string(all[0].Value) != "1" || all[0].Revision != 1 {
		t.Fatalf("refused commits left %v, %v", all, err)
	}
	if err := s.Commit(ctx); err != nil {
		t.Fatalf("an empty commit: %v", err)
	}
	var many []store.Op
	for i := range 500 {
		many = append(many, put(fmt.Sprintf("many/%03d", i), "x", 0))
	}
	commit(t, s, many...)
	if all, err := s.List(ctx, "b", "many/"); err != nil || len(all) != 500 {
		t.Fatalf("%d of 500 ops of a commit, %v", len(all), err)
	}
}

// A conflict says which of the keys it was: the first.
func conflictNames(t *testing.T, s store.Store) {
	commit(t, s, put("a", "1", 0), put("c", "1", 0))
	commit(t, s, put("c", "2", 1))
	err := s.Commit(ctx, put("a", "2", 1), put("new", "1", 0), put("c", "3", 1), put("a2", "1", 7))
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || !errors.Is(err, store.ErrConflict) {
		t.Fatalf("want a *ConflictError, got %v", err)
	}
	if want := (store.ConflictError{Bucket: "b", Key: "c", Expected: 1, Have: 2}); *conflict != want {
		t.Errorf("%+v, want %+v", *conflict, want)
	}
	err = s.Commit(ctx, put("a2", "1", 7))
	if want := (store.ConflictError{Bucket: "b", Key: "a2", Expected: 7}); !errors.As(err, &conflict) || *conflict != want {
		t.Errorf("%v, want %+v", err, want)
	}
}

func list(t *testing.T, s store.Store) {
	for _, k := range []string{"b/2", "a", "b/1", "b", "c", "b%", "b_x", "B/9", "b/ü", "b/ÿ", "\U0010ffff", "\U0010ffff9", "b/10"} {
		commit(t, s, put(k, k, 0))
	}
	commit(t, s, store.Op{Bucket: "other", Key: "b/3", Value: []byte("x")}, store.Op{Bucket: "b/", Key: "x", Value: []byte("x")})
	for prefix, want := range map[string][]string{
		"b/": {"b/1", "b/10", "b/2", "b/ü", "b/ÿ"}, "b/1": {"b/1", "b/10"}, "b/ÿ": {"b/ÿ"}, "b%": {"b%"}, "b_": {"b_x"}, "zz": nil, "B": {"B/9"},
		"\U0010ffff": {"\U0010ffff", "\U0010ffff9"}, "\xff": nil, "b/\xc3": {"b/ü", "b/ÿ"}, "b\x00": nil,
		"": {"B/9", "a", "b", "b%", "b/1", "b/10", "b/2", "b/ü", "b/ÿ", "b_x", "c", "\U0010ffff", "\U0010ffff9"},
	} {
		all, err := s.List(ctx, "b", prefix)
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, e := range all {
			keys = append(keys, e.Key)
			if string(e.Value) != e.Key || e.Bucket != "b" || e.Revision != 1 {
				t.Errorf("entry %+v", e)
			}
		}
		if got, want := fmt.Sprintf("%q", keys), fmt.Sprintf("%q", want); got != want {
			t.Errorf("list %q: %s, want %s", prefix, got, want)
		}
	}
	if all, err := s.List(ctx, "nobody's", ""); err != nil || len(all) != 0 {
		t.Errorf("a bucket that is not there: %v, %v", all, err)
	}
}

func deletes(t *testing.T, s store.Store) {
	commit(t, s, put("k", "1", 0))
	e := get(t, s, "b", "k")
	for _, rev := range []uint64{0, e.Revision + 1} {
		if err := s.Commit(ctx, remove("k", rev)); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("deleting revision %d: %v", rev, err)
		}
	}
	commit(t, s, remove("k", e.Revision))
	if e, err := s.Get(ctx, "b", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("after a deletion: %+v, %v", e, err)
	}
	commit(t, s, remove("k", 0), remove("never", store.Any)) // nothing to do
	if err := s.Commit(ctx, remove("k", e.Revision)); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("deleting twice: %v", err)
	}
	if all, err := s.List(ctx, "b", ""); err != nil || len(all) != 0 {
		t.Fatalf("left over: %v, %v", all, err)
	}
	commit(t, s, put("k", "2", store.Any))
	commit(t, s, remove("k", store.Any))
	if _, err := s.Get(ctx, "b", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("after an unconditional deletion: %v", err)
	}
}
