package forward

import (
	"context"
	"errors"
	"testing"
)

// Other resources go at once and never wait for a file that waits; a file has the gate to
// itself, and whoever gives up leaves nothing behind.
func TestGate(t *testing.T) {
	g := newGate()
	must(t, g.enter(t.Context(), false))
	must(t, g.enter(t.Context(), false))
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() { waits <- g.enter(ctx, true) }()
	must(t, g.enter(t.Context(), false)) // a file that waits holds nobody up
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	entered := make(chan error, 1)
	go func() { entered <- g.enter(t.Context(), true) }()
	for range 3 {
		select {
		case <-entered:
			t.Fatal("a file came in beside another answer")
		default:
		}
		g.leave(false)
	}
	must(t, <-entered)
	gone, stop := context.WithCancel(t.Context())
	stop()
	if err := g.enter(gone, false); !errors.Is(err, context.Canceled) {
		t.Fatalf("an answer beside a file: %v", err)
	}
	if err := g.enter(gone, true); !errors.Is(err, context.Canceled) {
		t.Fatalf("a file beside a file: %v", err)
	}
	g.leave(true)
	must(t, g.enter(t.Context(), false))
	g.leave(false)
	if g.others != 0 || g.file {
		t.Fatalf("%+v", g)
	}
}
