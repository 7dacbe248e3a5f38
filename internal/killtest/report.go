//go:build linux && amd64

package killtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

// Report sums rounds up.
type Report struct {
	Rounds   int            `json:"rounds"`
	Kills    int            `json:"kills"`
	KillsAt  map[string]int `json:"kills_at"`     // rounds by the point that was reached, without its number
	Faults   map[string]int `json:"faults"`       // rounds by what failed and where
	Moments  int            `json:"moments"`      // rounds of kills at random moments
	Missed   int            `json:"missed"`       // rounds whose point was not reached
	Acked    int            `json:"acknowledged"` // receipts that left a provider
	Lost     int            `json:"lost"`         // acknowledged payments that a store did not hold
	Double   int            `json:"double"`       // charged or paid more than once
	Whole    int            `json:"whole"`        // files
	Books    int            `json:"books"`        // rounds where both sides agree with the chain
	Failed   int            `json:"failed"`
	Seconds  float64        `json:"seconds"` // of all rounds together
	Failures []string       `json:"failures,omitempty"`
}

// Sum sums outcomes up.
func Sum(all []Outcome) Report {
	r := Report{KillsAt: map[string]int{}, Faults: map[string]int{}}
	for _, o := range all {
		r.Rounds++
		r.Kills += o.Kills
		r.Acked += o.Acked
		r.Lost += o.Lost
		r.Double += o.Double
		r.Seconds += o.Seconds
		r.Whole += one(o.Whole)
		r.Books += one(o.Books)
		name := o.Role + " " + o.At[:max(0, strings.LastIndexByte(o.At, ' '))]
		switch {
		case o.Kind == Moment:
			r.Moments++
		case o.At == "" && o.Kind != Calm:
			r.Missed++
		case o.Kind == Point:
			r.KillsAt[name]++
		case o.Kind != Calm:
			r.Faults[o.Kind+" "+name]++
		}
		if o.Error != "" {
			r.Failed++
			r.Failures = append(r.Failures, fmt.Sprintf("round %d: %s", o.Number, o.Error))
		}
	}
	return r
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Run plays rounds, several at a time, and tells of each. It stops early when the
// context is over; rounds that had begun are not told of then.
func (s *Stand) Run(ctx context.Context, rounds []Round, workers int, tell func(Outcome) error) error {
	todo := make(chan Round)
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for r := range todo {
				out := s.Play(ctx, r)
				if ctx.Err() != nil {
					continue
				}
				mu.Lock()
				failed = errors.Join(failed, tell(out))
				mu.Unlock()
			}
		})
	}
	for _, r := range rounds {
		select {
		case todo <- r:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(todo)
	all.Wait()
	return failed
}

// Progress is a file that remembers a long run: the session it is laid out over,
// and each round that was played. A run that was killed goes on from it.
type Progress struct {
	file    *os.File
	Session Session
	Seed    uint64
	Done    []Outcome
}

// head is the file's first line.
type head struct {
	Layout  int     `json:"layout"`
	Session Session `json:"session"`
	Seed    uint64  `json:"seed"`
}

// OpenProgress opens the file, or makes it. A line that a kill cut is dropped.
func OpenProgress(path string, seed uint64) (*Progress, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	p := &Progress{file: f, Seed: seed}
	if err := p.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return p, nil
}

func (p *Progress) load() error {
	in := bufio.NewReader(p.file)
	var at int64
	for {
		raw, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if at == 0 {
			var h head
			if err := json.Unmarshal(raw, &h); err != nil {
				return err
			}
			if h.Layout != layout {
				return fmt.Errorf("it was begun with layout %d of the rounds, this is %d: begin another", h.Layout, layout)
			}
			p.Session, p.Seed = h.Session, h.Seed
		} else {
			var o Outcome
			if err := json.Unmarshal(raw, &o); err != nil {
				return err
			}
			p.Done = append(p.Done, o)
		}
		at += int64(len(raw))
	}
	if err := p.file.Truncate(at); err != nil {
		return err
	}
	_, err := p.file.Seek(at, io.SeekStart)
	return err
}

// Begin writes the session that the run is laid out over.
func (p *Progress) Begin(s Session) error {
	p.Session = s
	return p.write(head{layout, s, p.Seed})
}

// Add remembers a round.
func (p *Progress) Add(o Outcome) error {
	p.Done = append(p.Done, o)
	return p.write(o)
}

func (p *Progress) write(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := p.file.Write(append(raw, '\n')); err != nil {
		return err
	}
	return p.file.Sync()
}

// Left is what of the rounds is not played yet.
func (p *Progress) Left(rounds []Round) (left []Round) {
	played := map[int]bool{}
	for _, o := range p.Done {
		played[o.Number] = true
	}
	for _, r := range rounds {
		if !played[r.Number] {
			left = append(left, r)
		}
	}
	return left
}

// Newest is each round's newest outcome, in their order.
func (p *Progress) Newest() (all []Outcome) {
	newest := map[int]Outcome{}
	for _, o := range p.Done {
		newest[o.Number] = o
	}
	for _, n := range slices.Sorted(maps.Keys(newest)) {
		all = append(all, newest[n])
	}
	return all
}

// Round is a round as it was played, or, if it was not yet, as it is laid out.
func (p *Progress) Round(rounds []Round, n int) Round {
	for _, o := range p.Done {
		if o.Number == n {
			return o.Round
		}
	}
	return rounds[n]
}

// Failed is the rounds whose newest outcome is a failure.
func (p *Progress) Failed() (again []Round) {
	for _, o := range p.Newest() {
		if o.Error != "" {
			again = append(again, o.Round)
		}
	}
	return again
}

// Close closes the file.
func (p *Progress) Close() error { return p.file.Close() }
