// Package bench measures what this machine makes of Spillway: how many payments a
// second it takes and saves, what one costs, and how fast a paid download is beside
// an unpaid one. Every figure comes with what bounds it, measured in the same run,
// and with the ratio of the two: machines differ, ratios less.
//
// It measures the code that ships, with real signatures, a real store on a real
// disk and real connections; only the chain is a stand-in that says that every
// funding is confirmed. It holds no money and asserts nothing.
package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Figure is one measured value beside what bounds it.
type Figure struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline string  `json:"baseline"`        // what Value is compared with, in words
	Bound    float64 `json:"bound"`           // its value, in the same unit
	Ratio    float64 `json:"ratio"`           // Value / Bound
	Floor    float64 `json:"floor,omitempty"` // the ratio that is wanted at least; 0: none
	Ceiling  float64 `json:"ceiling,omitempty"`
}

// compared returns a figure with its ratio.
func compared(name string, value float64, unit, baseline string, bound float64) Figure {
	f := Figure{Name: name, Value: value, Unit: unit, Baseline: baseline, Bound: bound}
	if bound > 0 {
		f.Ratio = value / bound
	}
	return f
}

// String is a figure as a person reads it.
func (f Figure) String() string {
	s := fmt.Sprintf("%-44s %12.4g %-12s", f.Name, f.Value, f.Unit)
	if f.Baseline != "" {
		s += fmt.Sprintf(" %5.2f of %s (%.4g)", f.Ratio, f.Baseline, f.Bound)
	}
	switch {
	case f.Floor > 0 && f.Ratio < f.Floor:
		s += fmt.Sprintf("  below %.2f", f.Floor)
	case f.Ceiling > 0 && f.Ratio > f.Ceiling:
		s += fmt.Sprintf("  above %.2f", f.Ceiling)
	}
	return s
}

// cores lets the process use n cores until the returned function is called.
func cores(n int) (restore func()) {
	before := runtime.GOMAXPROCS(n)
	return func() { runtime.GOMAXPROCS(before) }
}

// rate calls do from so many goroutines at once, each with the numbers of its own
// turns (worker, worker + workers, …, below n), and returns the calls per second.
func rate(ctx context.Context, workers, n int, do func(ctx context.Context, i int) error) (float64, error) {
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && first.Load() == nil && ctx.Err() == nil; i += workers {
				if err := do(ctx, i); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	if err := first.Load(); err != nil {
		return 0, *err
	}
	return float64(n) / took.Seconds(), ctx.Err()
}
