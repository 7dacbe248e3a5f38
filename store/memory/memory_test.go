package memory

import (
	"context"
	"errors"
	"testing"

	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Suite(t, func(testing.TB) store.Store { return New() })
}

func TestFaults(t *testing.T) {
	s, ctx, boom := New(), context.Background(), errors.New("boom")
	op := store.Op{Bucket: "b", Key: "k", Value: []byte("1")}
	s.FailNext(boom)
	if err := s.Commit(ctx, op); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "b", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatal("a failed commit was saved")
	}
	s.FailButPersistNext(boom)
	if err := s.Commit(ctx, op); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "b", "k"); err != nil {
		t.Fatal("it should have been saved")
	}
}
