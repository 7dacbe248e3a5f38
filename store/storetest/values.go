package storetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/spillway/spillway/store"
)

var ctx = context.Background()

func get(t testing.TB, s store.Store, bucket, key string) store.Entry {
	t.Helper()
	e, err := s.Get(ctx, bucket, key)
	if err != nil {
		t.Fatalf("get %s %s: %v", bucket, key, err)
	}
	if e.Bucket != bucket || e.Key != key {
		t.Fatalf("get %s %s answers %s %s", bucket, key, e.Bucket, e.Key)
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

func remove(key string, expect uint64) store.Op {
	return store.Op{Bucket: "b", Key: key, Expect: expect}
}

func values(t *testing.T, s store.Store) {
	big := bytes.Repeat([]byte{0xa5, 0, 1}, 3<<20)
	for key, value := range map[string][]byte{"big": big, "empty": {}, "zero": {0}, "text": []byte("\xff\x00'\"--"), "null": []byte("null")} {
		given := bytes.Clone(value)
		commit(t, s, store.Op{Bucket: "b", Key: key, Value: given})
		if len(given) > 0 {
			given[0] ^= 0xff // the caller's again
		}
		e := get(t, s, "b", key)
		if !bytes.Equal(e.Value, value) {
			t.Errorf("%s: %d bytes were saved, other %d are there", key, len(value), len(e.Value))
		}
		if len(e.Value) > 0 {
			e.Value[0] ^= 0xff
		}
		if again := get(t, s, "b", key); !bytes.Equal(again.Value, value) {
			t.Errorf("%s: a reader changed what is stored", key)
		}
	}
	all, err := s.List(ctx, "b", "big")
	if err != nil || len(all) != 1 || !bytes.Equal(all[0].Value, big) {
		t.Errorf("a large value in a list: %d entries, %v", len(all), err)
	}
	commit(t, s, store.Op{Bucket: "b", Key: "big", Value: []byte{}, Expect: 1})
	if e := get(t, s, "b", "big"); len(e.Value) != 0 || e.Revision != 2 {
		t.Errorf("emptied: %d bytes at revision %d", len(e.Value), e.Revision)
	}
}

// Names that look alike are different entries.
func isolation(t *testing.T, s store.Store) {
	names := [][2]string{
		{"a", "b/c"}, {"a/b", "c"}, {"a", "b"}, {"a/", "b/c"}, {"A", "b"}, {"a", "B"}, {"a", " b"}, {"a", "b "}, {"a", "é"}, {"a", "e\u0301"},
		{"a", "1"}, {"a", "01"}, {"a", "1.0"}, {"1", "a"}, {"a", "%"}, {"a", "_"}, {"a", "'"}, {"a", strings.Repeat("k", store.MaxName)},
	}
	for _, n := range names {
		commit(t, s, store.Op{Bucket: n[0], Key: n[1], Value: []byte(n[0] + "|" + n[1])})
	}
	for _, n := range names {
		if e := get(t, s, n[0], n[1]); string(e.Value) != n[0]+"|"+n[1] || e.Revision != 1 {
			t.Errorf("%q holds %q at revision %d", n, e.Value, e.Revision)
		}
	}
	commit(t, s, store.Op{Bucket: "a", Key: "b", Expect: 1})
	for _, n := range names {
		if _, err := s.Get(ctx, n[0], n[1]); (err == nil) == (n == [2]string{"a", "b"}) {
			t.Errorf("after deleting a b: %q: %v", n, err)
		}
	}
}

// A revision rises by one with each write and never comes back, also after a
// deletion: who holds an old one is told.
func revisions(t *testing.T, s store.Store) {
	seen := map[uint64]bool{}
	var last uint64
	for round := range 4 {
		commit(t, s, put("k", "new", 0))
		last = get(t, s, "b", "k").Revision
		for range 1 + 5*(3-round) { // longer lives first
			if seen[last] {
				t.Fatalf("revision %d came back in life %d", last, round)
			}
			seen[last] = true
			commit(t, s, put("k", "x", last))
			last++
			if e := get(t, s, "b", "k"); e.Revision != last {
				t.Fatalf("revision %d after a write on %d", e.Revision, last-1)
			}
		}
		seen[last] = true
		commit(t, s, remove("k", last))
		for old := range seen {
			if err := s.Commit(ctx, put("k", "old", old)); !errors.Is(err, store.ErrConflict) {
				t.Fatalf("revision %d on what was deleted: %v", old, err)
			}
		}
	}
	commit(t, s, put("k", "last", 0))
	for old := range seen {
		if err := s.Commit(ctx, put("k", "old", old)); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("revision %d from before the deletion: %v", old, err)
		}
	}
	commit(t, s, put("another", "1", 0), put("k", "1", store.Any))
	if e := get(t, s, "b", "another"); e.Revision <= last {
		t.Fatalf("a key created after deletions is at %d, one was deleted at %d", e.Revision, last)
	}
}

// What no store takes is refused whole.
func invalid(t *testing.T, s store.Store) {
	long := strings.Repeat("x", store.MaxName+1)
	for name, op := range map[string]store.Op{
		"no bucket": {Key: "k"}, "no key": {Bucket: "b"}, "a long bucket": {Bucket: long, Key: "k"}, "a long key": {Bucket: "b", Key: long},
		"NUL": {Bucket: "b", Key: "k\x00"}, "no text": {Bucket: "b\xff", Key: "k"}, "a surrogate": {Bucket: "b", Key: "\xed\xa0\x80"},
		"a huge value": {Bucket: "b", Key: "k", Value: make([]byte, store.MaxValue+1)},
	} {
		if op.Value == nil {
			op.Value = []byte("x")
		}
		op.Expect = store.Any
		if err := s.Commit(ctx, put("fine", "1", store.Any), op); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Commit(ctx, put("fine", "1", 0), put("k", "1", 0), put("fine", "2", store.Any)); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("one key twice in a commit: %v", err)
	}
	if all, err := s.List(ctx, "b", ""); err != nil || len(all) != 0 {
		t.Errorf("refused commits left %v, %v", all, err)
	}
}

// A context that is over when the call is made: nothing happens.
func contexts(t *testing.T, s store.Store) {
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Commit(over, put("k", "1", 0)); !errors.Is(err, context.Canceled) {
		t.Fatalf("a commit with a cancelled context: %v", err)
	}
	if _, err := s.Get(ctx, "b", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("it was saved all the same, or: %v", err)
	}
	commit(t, s, put("k", "1", 0))
	if _, err := s.Get(over, "b", "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.List(over, "b", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
}

func closed(t *testing.T, s store.Store) {
	commit(t, s, put("k", "1", 0))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, put("k", "1", 0)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("commit: %v", err)
	}
	if err := s.Commit(ctx); !errors.Is(err, store.ErrClosed) {
		t.Errorf("an empty commit: %v", err)
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
