package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spillway/spillway/internal/sim/mutants"
)

// breakages is what came of running the simulator on broken code.
type breakages struct {
	Breakages int              `json:"breakages"`
	Caught    map[string]int64 `json:"caught"` // the first seed that catches it, by name
	Missed    []string         `json:"missed"`
}

// breakages runs the range on the simulator with one breakage in it, or with each of
// them in turn, and prints a table and a line of JSON. It returns the exit code: 0
// where all are caught.
func (r ranged) breakages(name string) int {
	got, err := r.catch(name)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		return 2
	}
	raw, err := json.Marshal(got)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		return 2
	}
	fmt.Println(string(raw))
	if len(got.Missed) > 0 {
		return 1
	}
	return 0
}

func (r ranged) catch(name string) (got breakages, err error) {
	got = breakages{Caught: map[string]int64{}, Missed: []string{}}
	all, err := mutants.All()
	if name != "" {
		var one mutants.Mutant
		one, err = mutants.ByName(name)
		all = []mutants.Mutant{one}
	}
	if err != nil {
		return got, err
	}
	root, err := mutants.Root(".")
	if err != nil {
		return got, err
	}
	dir, err := os.MkdirTemp("", "breakages")
	if err != nil {
		return got, err
	}
	defer os.RemoveAll(dir)
	table := tabwriter.NewWriter(os.Stdout, 28, 8, 2, ' ', 0)
	if !r.quiet {
		fmt.Fprintln(table, "breakage\tfirst seed\twhat it says")
	}
	for _, m := range all {
		c, err := r.one(m, root, dir)
		if err != nil {
			return got, err
		}
		got.Breakages++
		seed := "none"
		if c.Seed >= 0 {
			seed, got.Caught[m.Name] = fmt.Sprint(c.Seed), c.Seed
		} else {
			got.Missed = append(got.Missed, m.Name)
		}
		if r.quiet {
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%.160s\n", m.Name, seed, c.Said)
		if err := table.Flush(); err != nil {
			return got, err
		}
	}
	return got, nil
}

func (r ranged) one(m mutants.Mutant, root, dir string) (mutants.Caught, error) {
	ctx := context.Background()
	program, err := m.Build(ctx, root, dir)
	if err != nil {
		return mutants.Caught{}, err
	}
	defer os.Remove(program)
	return m.Catch(ctx, program, fmt.Sprintf("%d:%d", r.From, r.To), r.workers)
}
