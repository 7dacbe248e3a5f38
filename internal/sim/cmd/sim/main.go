// Command sim runs the simulator: a range of seeds, or one of them as a story.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strings"

	"github.com/spillway/spillway/internal/sim"
)

func main() { os.Exit(run()) }

func run() int {
	seeds := flag.String("seeds", "0:200", "range of seeds, from:to")
	one := flag.Int64("seed", -1, "run this seed alone")
	trace := flag.Bool("trace", false, "tell the one seed as a story")
	shrink := flag.Bool("shrink", false, "reduce the one seed to the events that it fails with, and tell those")
	tries := flag.Int("tries", 1500, "runs that -shrink may take")
	keep := flag.String("keep", "", "with -seed: only these of its events, such as 0-4,7,9c; c: nothing goes wrong in them by chance")
	workers := flag.Int("workers", 2, "seeds at once")
	asJSON := flag.Bool("json", false, "one line of JSON alone")
	state := flag.String("state", "", "file that progress is kept in; a run with the same file goes on where the last one ended")
	every := flag.Uint64("every", 500, "seeds between two saves of -state")
	first := flag.Bool("first", false, "stop at the first violation")
	mutant := flag.String("mutant", "", "run the range on the code with this breakage in it, until a seed catches it")
	mutants := flag.Bool("mutants", false, "the same with each breakage in turn")
	debug.SetGCPercent(400) // runs are short-lived garbage
	cpu := flag.String("cpuprofile", "", "file that a profile of the processor's time is written to")
	flag.Parse()
	if *cpu != "" {
		stop, err := profile(*cpu)
		if err != nil {
			fmt.Fprintln(os.Stderr, "sim:", err)
			return 2
		}
		defer stop()
	}
	var total sim.Result
	var err error
	switch {
	case *one >= 0 && *shrink:
		total, err = reduce(uint64(*one), *tries)
	case *one >= 0:
		total, err = single(uint64(*one), *keep, *trace)
	default:
		r := ranged{workers: max(1, *workers), state: *state, every: max(1, *every), quiet: *asJSON, first: *first}
		if _, err := fmt.Sscanf(strings.Replace(*seeds, ":", " ", 1), "%d %d", &r.From, &r.To); err != nil || r.From > r.To {
			fmt.Fprintf(os.Stderr, "sim: -seeds is from:to, not %q\n", *seeds)
			return 2
		}
		if *mutants || *mutant != "" {
			return r.breakages(*mutant)
		}
		total, err = r.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		return 2
	}
	raw, err := json.Marshal(total)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		return 2
	}
	fmt.Println(string(raw))
	if len(total.Violations) > 0 {
		return 1
	}
	return 0
}

// profile writes a profile until it is stopped.
func profile(name string) (stop func(), err error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "sim:", err)
		}
	}, nil
}

// single runs one seed, or some of its events.
func single(seed uint64, keep string, trace bool) (sim.Result, error) {
	var plan sim.Plan
	if keep != "" {
		var err error
		if plan, err = sim.ParsePlan(keep); err != nil {
			return sim.Result{}, err
		}
	}
	if !trace {
		return sim.RunPlan(seed, plan, nil), nil
	}
	return sim.RunPlan(seed, plan, tell), nil
}

func tell(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// reduce shrinks a failing seed and tells what is left of it.
func reduce(seed uint64, tries int) (sim.Result, error) {
	plan, _, ok := sim.Shrink(seed, tries)
	if !ok {
		fmt.Fprintf(os.Stderr, "seed %d does not fail\n", seed)
		return sim.Run(seed, nil), nil
	}
	text := plan.String()
	if text == "" {
		text = "none"
	}
	total := sim.RunPlan(seed, plan, tell)
	fmt.Printf("replay: go run ./internal/sim/cmd/sim -seed %d -keep %s -trace\n", seed, text)
	return total, nil
}
