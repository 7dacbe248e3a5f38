package watch

import (
	"context"
	"time"
)

// Run takes a step at once and one for each tick, until the context or the ticks end.
// What fails goes to Log, and the next step tries again; the same text is told once.
//
//	go w.Run(ctx, time.Tick(time.Second))
func (w *Watch) Run(ctx context.Context, ticks <-chan time.Time) {
	last := ""
	for {
		text := ""
		if err := w.Step(ctx); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != last && w.Log != nil {
				w.Log.Error("watch", "error", err)
			}
		}
		last = text
		select {
		case <-ctx.Done():
			return
		case _, more := <-ticks:
			if !more {
				return
			}
		}
	}
}
