package watch_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/watch"
)

// deaf is a chain that does not answer; it counts how often it was asked.
type deaf struct {
	watch.Chain
	asked chan struct{}
}

func (d deaf) Tip(context.Context) (chain.Tip, error) {
	d.asked <- struct{}{}
	return chain.Tip{}, errors.New("no answer")
}

// Run steps at once and with each tick, says a failure once, and ends with the ticks or
// the context.
func TestRunStepsWithEachTick(t *testing.T) {
	var told bytes.Buffer
	d := deaf{asked: make(chan struct{}, 10)}
	w := &watch.Watch{Chain: d, Log: slog.New(slog.NewTextHandler(&told, nil))}
	ticks := make(chan time.Time, 3)
	for range 3 {
		ticks <- time.Time{}
	}
	close(ticks)
	w.Run(t.Context(), ticks)
	if len(d.asked) != 4 || strings.Count(told.String(), "no answer") != 1 {
		t.Fatalf("%d steps, told %q", len(d.asked), told.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.Run(ctx, make(chan time.Time))
	if len(d.asked) != 5 {
		t.Fatalf("%d steps", len(d.asked))
	}
}
