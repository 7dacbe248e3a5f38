package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/spillway/spillway/internal/sim"
)

// ranged runs a range of seeds, and keeps its progress where it is told to.
type ranged struct {
	From, To uint64
	workers  int
	state    string // file; "": none
	every    uint64 // seeds between two saves
	quiet    bool
	first    bool // stop at the first violation
}

// progress is what the state file holds.
type progress struct {
	From  uint64     `json:"from"`
	To    uint64     `json:"to"`
	Next  uint64     `json:"next"`
	Total sim.Result `json:"total"`
}

func (r ranged) run() (sim.Result, error) {
	at := progress{From: r.From, To: r.To, Next: r.From, Total: sim.Result{Violations: []string{}}}
	if err := r.load(&at); err != nil {
		return at.Total, err
	}
	for at.Next < r.To {
		end := r.To
		if r.state != "" {
			end = min(end, at.Next+r.every)
		}
		at.Total.Add(r.block(at.Next, end))
		at.Next = end
		if err := r.save(at); err != nil || r.first && len(at.Total.Violations) > 0 {
			return at.Total, err
		}
	}
	return at.Total, nil
}

// load reads the state of an earlier run of the same range.
func (r ranged) load(at *progress) error {
	if r.state == "" {
		return nil
	}
	raw, err := os.ReadFile(r.state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var old progress
	if err := json.Unmarshal(raw, &old); err != nil {
		return fmt.Errorf("%s: %w", r.state, err)
	}
	if old.From != r.From || old.To != r.To || old.Next < r.From || old.Next > r.To {
		return fmt.Errorf("%s is of seeds %d:%d, not %d:%d", r.state, old.From, old.To, r.From, r.To)
	}
	*at = old
	return nil
}

// save replaces the state file at once, so that a run that is killed finds the old
// one or the new one.
func (r ranged) save(at progress) error {
	if r.state == "" {
		return nil
	}
	raw, err := json.Marshal(at)
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.state+".new", append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(r.state+".new", r.state)
}

// block runs seeds from..to-1. Violations are told as they come.
func (r ranged) block(from, to uint64) sim.Result {
	next, results, enough := make(chan uint64), make(chan sim.Result), make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for range r.workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for seed := range next {
				results <- sim.Run(seed, nil)
			}
		}()
	}
	go func() {
		defer close(next)
		for seed := from; seed < to; seed++ {
			select {
			case next <- seed:
			case <-enough:
				return
			}
		}
	}()
	go func() {
		wg.Wait()
		close(results)
	}()
	var total sim.Result
	for got := range results {
		total.Add(got)
		if r.first && len(total.Violations) > 0 {
			once.Do(func() { close(enough) })
		}
		if r.quiet {
			continue
		}
		for _, v := range got.Violations {
			var seed uint64
			if _, err := fmt.Sscanf(v, "seed %d", &seed); err != nil {
				fmt.Println(v)
				continue
			}
			fmt.Printf("%s\n  replay: go run ./internal/sim/cmd/sim -seed %d -trace (or -shrink)\n", v, seed)
		}
	}
	return total
}
