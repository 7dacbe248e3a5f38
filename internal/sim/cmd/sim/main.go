// Command sim runs the simulator: a range of seeds, or one as a story.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/spillway/spillway/internal/sim"
)

func main() { os.Exit(run()) }

func run() int {
	seeds := flag.String("seeds", "0:200", "range of seeds, from:to")
	one := flag.Int64("seed", -1, "run this seed alone")
	trace := flag.Bool("trace", false, "tell the one seed as a story")
	workers := flag.Int("workers", 2, "seeds at once")
	asJSON := flag.Bool("json", false, "one line of JSON alone")
	first := flag.Bool("first", false, "stop at the first violation")
	flag.Parse()
	var total sim.Result
	if *one >= 0 {
		tell := func(string, ...any) {}
		if *trace {
			tell = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
		}
		total = sim.Run(uint64(*one), tell)
	} else {
		var from, to uint64
		if _, err := fmt.Sscanf(strings.Replace(*seeds, ":", " ", 1), "%d %d", &from, &to); err != nil || from > to {
			fmt.Fprintf(os.Stderr, "sim: -seeds is from:to, not %q\n", *seeds)
			return 2
		}
		total = many(from, to, max(1, *workers), *first)
	}
	raw, err := json.Marshal(total)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		return 1
	}
	if !*asJSON {
		for _, v := range total.Violations {
			fmt.Println(v)
		}
	}
	fmt.Println(string(raw))
	if len(total.Violations) > 0 {
		return 1
	}
	return 0
}

func many(from, to uint64, workers int, first bool) sim.Result {
	next, results, enough := make(chan uint64), make(chan sim.Result), make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for range workers {
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
	total := sim.Result{Violations: []string{}}
	for r := range results {
		total.Add(r)
		if first && len(total.Violations) > 0 {
			once.Do(func() { close(enough) })
		}
	}
	return total
}
