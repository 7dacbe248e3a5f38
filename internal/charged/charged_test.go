package charged

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
)

// What is marked is marked for good, on its channel and resource alone, until it is
// cleared.
func TestPages(t *testing.T) {
	ctx, s := t.Context(), memory.New()
	a, far, other := Item{Chunk: 7}, Item{Chunk: 4096 + 7}, Item{Resource: [32]byte{1}, Chunk: 7}
	load := func(id string) Pages {
		t.Helper()
		ps, err := Load(ctx, s, "b", id, []Item{a, far, other})
		if err != nil {
			t.Fatal(err)
		}
		return ps
	}
	ps := load("x")
	if ps.Mark(a) || !ps.Mark(a) || len(ps.Ops()) != 1 {
		t.Fatal("marked once")
	}
	if err := s.Commit(ctx, ps.Ops()...); err != nil {
		t.Fatal(err)
	}
	ps = load("x")
	if !ps.Mark(a) || ps.Mark(far) || ps.Mark(other) || load("y").Mark(a) {
		t.Fatal("another chunk, resource or channel is marked, or the mark is gone")
	}
	ps = load("x")
	ps.Clear(a)
	if err := s.Commit(ctx, ps.Ops()...); err != nil {
		t.Fatal(err)
	}
	if load("x").Mark(a) {
		t.Fatal("a cleared mark is there")
	}
	if err := s.Commit(ctx, store.Op{Bucket: "b", Key: pageKey("x", a), Value: []byte{1}, Expect: store.Any}); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(ctx, s, "b", "x", []Item{a}); !errors.Is(err, store.ErrDamaged) {
		t.Fatalf("a short page: %v", err)
	}
}
