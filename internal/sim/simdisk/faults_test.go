package simdisk

import (
	"errors"
	"maps"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/spillway/spillway/store"
)

func put(key, value string, expect uint64) store.Op {
	return store.Op{Bucket: "b", Key: key, Value: []byte(value), Expect: expect}
}

// has wants a value at a key, or nothing for "".
func has(t *testing.T, s store.Store, key, want string) {
	t.Helper()
	e, err := s.Get(t.Context(), "b", key)
	if want == "" && errors.Is(err, store.ErrNotFound) {
		return
	}
	if err != nil || string(e.Value) != want {
		t.Fatalf("%s: %q, %v; want %q", key, e.Value, err, want)
	}
}

func save(t *testing.T, s store.Store, want error, ops ...store.Op) {
	t.Helper()
	if err := s.Commit(t.Context(), ops...); !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Fatalf("commit: %v, want %v", err, want)
	}
}

func counted(t *testing.T, d *Disk, want map[string]int) {
	t.Helper()
	if got := d.Counts(); !maps.Equal(got, want) {
		t.Fatalf("struck: %v, want %v", got, want)
	}
}

func TestFailures(t *testing.T) {
	d, boom := New(nil), errors.New("boom")
	s := d.Open()
	d.FailNext(nil)
	d.FailButPersistNext(boom)
	save(t, s, store.ErrConflict, put("a", "x", 7)) // uses up nothing
	save(t, s, ErrDisk, put("a", "1", 0))
	has(t, s, "a", "")
	save(t, s, boom, put("a", "2", 0))
	has(t, s, "a", "2")
	save(t, s, nil, put("a", "3", 1))
	counted(t, d, map[string]int{Failed: 1, Persisted: 1})
}

// TestFailedUntilReopened: after a commit of unknown fate nothing is taken until the
// store is opened again.
func TestFailedUntilReopened(t *testing.T) {
	d := New(nil)
	s := d.Open()
	d.FailButPersistNext(nil)
	save(t, s, store.ErrFailed, put("a", "1", 0))
	save(t, s, store.ErrFailed, put("b", "1", 0))
	has(t, s, "a", "")
	s = d.Open()
	has(t, s, "a", "1")
	has(t, s, "b", "")
	d.FailUnknownNext()
	save(t, s, store.ErrFailed, put("a", "2", 1))
	d.Crash()
	save(t, s, store.ErrClosed, put("a", "2", 1))
	has(t, d.Open(), "a", "1") // without randomness it is lost
	counted(t, d, map[string]int{Persisted: 1, Unknown: 1, Lost: 1})
}

// TestUnknownFate: a commit of unknown fate is there or not, wholly, and the same
// randomness decides the same.
func TestUnknownFate(t *testing.T) {
	fates := func() (all string) {
		d := New(rand.New(rand.NewPCG(4, 2)))
		for range 40 {
			s := d.Open()
			save(t, s, nil, put("a", "old", store.Any), store.Op{Bucket: "b", Key: "b", Expect: store.Any})
			d.FailUnknownNext()
			save(t, s, store.ErrFailed, put("a", "new", store.Any), put("b", "new", 0))
			s = d.Open()
			e, err := s.Get(t.Context(), "b", "a")
			if err != nil {
				t.Fatal(err)
			}
			if string(e.Value) == "new" {
				has(t, s, "b", "new")
			} else {
				has(t, s, "b", "")
			}
			all += string(e.Value)
		}
		if n := d.Counts(); n[Unknown] != 40 || n[Lost]+n[Kept] != 40 || n[Lost] == 0 || n[Kept] == 0 {
			t.Fatalf("struck: %v", n)
		}
		return all
	}
	first, again := fates(), fates()
	if first != again {
		t.Fatal("the same seed decided otherwise")
	}
}

func TestFullAndReadOnly(t *testing.T) {
	d := New(nil)
	s := d.Open()
	save(t, s, nil, put("a", "1", 0))
	d.Fill()
	save(t, s, store.ErrFull, put("a", "2", 1))
	save(t, s, syscall.ENOSPC, put("a", "2", 1))
	d.Crash()
	s = d.Open()
	save(t, s, store.ErrFull, put("a", "2", 1))
	has(t, s, "a", "1")
	d.Free()
	save(t, s, nil, put("a", "2", 1))
	d.SetReadOnly(true)
	save(t, s, store.ErrReadOnly, put("a", "3", 2))
	save(t, s, syscall.EROFS, put("a", "3", 2))
	save(t, s, nil)
	d.SetReadOnly(false)
	save(t, s, nil, put("a", "3", 2))
	counted(t, d, map[string]int{Full: 3, ReadOnly: 2})
}

func TestDamage(t *testing.T) {
	d := New(nil)
	s := d.Open()
	save(t, s, nil, put("a", "1", 0), put("b", "1", 0))
	if d.Corrupt("b", "c") || !d.Corrupt("b", "a") {
		t.Fatal("what is not there cannot be damaged")
	}
	if _, err := s.Get(t.Context(), "b", "a"); !errors.Is(err, store.ErrDamaged) {
		t.Fatal(err)
	}
	if _, err := s.List(t.Context(), "b", ""); !errors.Is(err, store.ErrDamaged) {
		t.Fatal(err)
	}
	has(t, s, "b", "1")
	save(t, s, nil, put("a", "2", 1))
	has(t, s, "a", "2")
	d.Corrupt("b", "b")
	d.Repair()
	has(t, s, "b", "1")
	counted(t, d, map[string]int{Damaged: 2})
}

func TestBackup(t *testing.T) {
	d := New(nil)
	s := d.Open()
	save(t, s, nil, put("a", "1", 0))
	old := d.Backup()
	d.Restore(old) // changes nothing, so it is no fault
	s = d.Open()
	save(t, s, nil, put("a", "2", 1), put("b", "1", 0))
	twin := d.Clone(nil)
	d.Restore(old)
	save(t, s, store.ErrClosed, put("a", "3", 2))
	s = d.Open()
	has(t, s, "a", "1")
	has(t, s, "b", "")
	save(t, s, nil, put("a", "other", 1))
	has(t, twin.Open(), "a", "2")
	d.Restore(old)
	has(t, d.Open(), "a", "1")
	d.Restore(Snapshot{})
	s = d.Open()
	has(t, s, "a", "")
	save(t, s, nil, put("a", "new", 0))
	counted(t, d, map[string]int{Restored: 3})
	counted(t, twin, map[string]int{})
}

// TestHook: a run can stop before a commit, after it, and count them.
func TestHook(t *testing.T) {
	d := New(nil)
	type killed struct{}
	var at int
	var when, crash bool
	d.CommitHook = func(n int, after bool, ops []store.Op) error {
		if len(ops) != 1 {
			t.Errorf("%d ops", len(ops))
		}
		if n == at && after == when {
			if crash {
				d.Crash()
				return nil
			}
			panic(killed{})
		}
		return nil
	}
	step := func(n int, after bool, op store.Op) (died bool) {
		at, when = n, after
		s := d.Open()
		defer func() {
			died = recover() != nil
		}()
		save(t, s, nil, op)
		return false
	}
	if !step(1, false, put("a", "1", 0)) || !step(2, true, put("b", "1", 0)) || step(9, true, put("c", "1", 0)) {
		t.Fatal("stopped at other places")
	}
	s := d.Open()
	has(t, s, "a", "")
	has(t, s, "b", "1")
	has(t, s, "c", "1")
	crash, at, when = true, 4, false
	save(t, s, store.ErrClosed, put("d", "1", 0))
	at, when = 5, true
	save(t, d.Open(), store.ErrClosed, put("e", "1", 0))
	s = d.Open()
	has(t, s, "d", "")
	has(t, s, "e", "1")
	if d.Commits() != 5 {
		t.Fatalf("%d commits", d.Commits())
	}
}

func BenchmarkCommit(b *testing.B) {
	d := New(nil)
	s, value := d.Open(), make([]byte, 200)
	b.ReportAllocs()
	for i := range b.N {
		if err := s.Commit(b.Context(), store.Op{Bucket: "b", Key: "k", Value: value, Expect: uint64(i)}); err != nil {
			b.Fatal(err)
		}
	}
}
