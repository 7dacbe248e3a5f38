package memory

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Suite(t, func(testing.TB) store.Store { return New() })
}

// A save that failed, and one that failed and persisted: each is used once, in the
// order that they were asked for.
func TestFaults(t *testing.T) {
	s, ctx, boom, bang := New(), t.Context(), errors.New("boom"), errors.New("bang")
	s.FailNext(boom)
	s.FailButPersistNext(bang)
	if err := s.Commit(ctx, store.Op{Bucket: "b", Key: "a", Value: []byte("1")}); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "b", "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a failed commit was saved: %v", err)
	}
	if err := s.Commit(ctx, store.Op{Bucket: "b", Key: "a", Value: []byte("2"), Expect: 5}); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("a conflict persists nothing, and keeps the fault for the next: %v", err)
	}
	if err := s.Commit(ctx, store.Op{Bucket: "b", Key: "a", Value: []byte("3")}); !errors.Is(err, bang) {
		t.Fatal(err)
	}
	if e, err := s.Get(ctx, "b", "a"); err != nil || string(e.Value) != "3" || e.Revision != 1 {
		t.Fatalf("it should have been saved: %+v, %v", e, err)
	}
	if err := s.Commit(ctx, store.Op{Bucket: "b", Key: "a", Value: []byte("4"), Expect: 1}); err != nil {
		t.Fatalf("the faults are over: %v", err)
	}
}

func BenchmarkCommit(b *testing.B) {
	s, value := New(), make([]byte, 200)
	b.ReportAllocs()
	for i := range b.N {
		if err := s.Commit(b.Context(), store.Op{Bucket: "b", Key: "k", Value: value, Expect: uint64(i)}); err != nil {
			b.Fatal(err)
		}
	}
}
