package mutants

import (
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"testing"
)

// At least so many breakages there are to be.
const least = 20

// Every breakage fits the source as it is.
func TestFit(t *testing.T) {
	root, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < least {
		t.Errorf("only %d breakages", len(all))
	}
	for _, m := range all {
		if _, err := m.Apply(root); err != nil {
			t.Error(err)
		}
	}
}

var (
	whole  = flag.Bool("all", false, "catch every breakage, not only the few of every test")
	within = flag.String("seeds", "0:2000", "seeds within which a breakage is to be caught")
)

// few are the breakages that every run of the tests catches; .ci/full catches all.
var few = []string{"charge-not-saved", "no-settlement-at-the-margin", "signed-not-saved"}

// Each breakage whose first seed is known is caught: by that seed, or, where the days
// have changed since, by another one of those of every change.
func TestCaught(t *testing.T) {
	root, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	known, tried := 0, 0
	for _, m := range all {
		if m.Seed == unknown {
			continue
		}
		known++
		if !*whole && !slices.Contains(few, m.Name) {
			continue
		}
		tried++
		got, err := caught(t, m, root)
		switch {
		case err != nil:
			t.Error(err)
		case got.Seed == unknown:
			t.Errorf("%s (%s) was not caught", m.Name, m.Why)
		case got.Seed != m.Seed:
			t.Logf("%s: the days have changed, it is seed %d that catches it now: %s", m.Name, got.Seed, got.Said)
		default:
			t.Logf("%s: %s", m.Name, got.Said)
		}
	}
	if known < least || tried < len(few) {
		t.Errorf("the first seed of only %d breakages is known, %d were tried", known, tried)
	}
}

func caught(t *testing.T, m Mutant, root string) (Caught, error) {
	program, err := m.Build(t.Context(), root, t.TempDir())
	if err != nil {
		return Caught{}, err
	}
	got, err := m.Catch(t.Context(), program, fmt.Sprintf("%d:%d", m.Seed, m.Seed+1), 1)
	if err != nil || got.Seed != unknown {
		return got, err
	}
	return m.Catch(t.Context(), program, *within, runtime.NumCPU())
}

func TestBadForms(t *testing.T) {
	for _, text := range []string{"", "why", "why\nfile: a.go", "why\nfile: a.go\n--- old\nx", "\nfile: a.go\n--- old\nx\n--- new\ny", "why\n--- old\nx\n--- new\ny",
		"why\nfile: a.go\nseed: x\n--- old\nx\n--- new\ny", "why\nfile: a.go\nseed: -1\n--- old\nx\n--- new\ny", "why\nfile: a.go\nfiel: b.go\n--- old\nx\n--- new\ny"} {
		if _, err := parse("bad", text); !errors.Is(err, ErrForm) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ByName("no such"); !errors.Is(err, ErrForm) {
		t.Error(err)
	}
	if _, err := (Mutant{Name: "x", File: "go.mod", Old: "no such piece"}).Apply("../../.."); !errors.Is(err, ErrForm) {
		t.Error(err)
	}
}
