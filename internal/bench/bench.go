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
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config is what a run of the figures is given. The zero value measures in the
// system's folder for temporary files, for about a second a figure.
type Config struct {
	Dir      string        // where stores and files lie while it runs: its disk is what is measured
	Time     time.Duration // about how long one figure is measured; default: a second
	Rounds   int           // alternating rounds, whose median counts; default: 5
	Channels int           // of the large store; default: 100,000
	// File is how many bytes one payer downloads with chunks of 1 and of 16 MiB; with
	// smaller ones it is a sixteenth. Default: 256 MiB. Where the disk has too little room
	// it is less.
	File uint64
	// Payers are how many payers download at once; default: one, and 16.
	Payers []int
	// Say is told what is being measured; nil: nobody is.
	Say func(what string)
}

func (c Config) defaults() Config {
	if c.Time <= 0 {
		c.Time = time.Second
	}
	if c.Rounds <= 0 {
		c.Rounds = 5
	}
	if c.Channels <= 0 {
		c.Channels = 100_000
	}
	if c.File == 0 {
		c.File = 256 << 20
	}
	if len(c.Payers) == 0 {
		c.Payers = []int{1, 16}
	}
	if c.Say == nil {
		c.Say = func(string) {}
	}
	return c
}

func (c Config) say(format string, args ...any) { c.Say(fmt.Sprintf(format, args...)) }

// Figure is one measured value beside what bounds it.
type Figure struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline string  `json:"baseline"`          // what Value is compared with, in words
	Bound    float64 `json:"bound"`             // its value, in the same unit
	Ratio    float64 `json:"ratio"`             // Value / Bound; of rounds the median of their ratios
	Floor    float64 `json:"floor,omitempty"`   // the ratio that is wanted at least; 0: none
	Ceiling  float64 `json:"ceiling,omitempty"` // the ratio that is wanted at most; 0: none
	Note     string  `json:"note,omitempty"`    // why there is no figure
}

// pairs are what was measured in alternating rounds: values, and beside each what
// bounds it.
type pairs struct{ values, bounds []float64 }

func (p *pairs) add(value, bound float64) {
	p.values, p.bounds = append(p.values, value), append(p.bounds, bound)
}

// figure is the medians of the rounds, and the median of their ratios: rounds are
// disturbed together, their ratios less.
func (p *pairs) figure(name, unit, baseline string) Figure {
	f := Figure{Name: name, Value: median(p.values), Unit: unit, Baseline: baseline, Bound: median(p.bounds)}
	var ratios []float64
	for i, v := range p.values {
		if p.bounds[i] > 0 {
			ratios = append(ratios, v/p.bounds[i])
		}
	}
	f.Ratio = median(ratios)
	return f
}

// median of values; 0 where there are none.
func median[T float64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// busy is what this process has used of the cores so far: on a machine that others
// use too it is the steadier figure.
func busy() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("the time on the cores is not known: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// cost runs do and returns how long it took, and how long the cores were busy.
func cost(do func() error) (wall, cpu time.Duration, err error) {
	before, err := busy()
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if err := do(); err != nil {
		return 0, 0, err
	}
	wall = time.Since(begin)
	after, err := busy()
	return wall, after - before, err
}

// compared returns a figure with its ratio.
func compared(name string, value float64, unit, baseline string, bound float64) Figure {
	f := Figure{Name: name, Value: value, Unit: unit, Baseline: baseline, Bound: bound}
	if bound > 0 {
		f.Ratio = value / bound
	}
	return f
}

// Missed reports whether a figure falls short of what is wanted.
func (f Figure) Missed() bool {
	return f.Note == "" && (f.Floor > 0 && f.Ratio < f.Floor || f.Ceiling > 0 && f.Ratio > f.Ceiling)
}

// String is a figure as a person reads it.
func (f Figure) String() string {
	if f.Note != "" {
		return fmt.Sprintf("%-52s %s", f.Name, f.Note)
	}
	s := fmt.Sprintf("%-52s %10.4g %-5s", f.Name, f.Value, f.Unit)
	if f.Baseline != "" {
		s += fmt.Sprintf(" %6.2f of %s (%.4g)", f.Ratio, f.Baseline, f.Bound)
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
