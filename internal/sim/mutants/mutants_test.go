package mutants

import (
	"errors"
	"flag"
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
	whole  = flag.Bool("all", false, "catch every breakage, not only the few of every change")
	within = flag.String("seeds", "0:2000", "seeds within which a breakage is to be caught")
)

// few are the breakages that every change catches; all of them are .ci/full's.
var few = []string{"charge-not-saved", "no-settlement-at-the-margin", "signed-not-saved"}

// Each breakage is caught within the seeds of every change.
func TestCaught(t *testing.T) {
	root, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	dir, tried := t.TempDir(), 0
	for _, m := range all {
		if !*whole && !slices.Contains(few, m.Name) {
			continue
		}
		tried++
		said, err := m.Catch(t.Context(), root, dir, *within, runtime.NumCPU())
		switch {
		case err != nil:
			t.Error(err)
		case said == "":
			t.Errorf("%s (%s) was not caught", m.Name, m.Why)
		default:
			t.Logf("%s: %s", m.Name, said)
		}
	}
	if tried < len(few) {
		t.Errorf("only %d breakages were tried", tried)
	}
}

func TestBadForms(t *testing.T) {
	for _, text := range []string{"", "why", "why\nfile: a.go", "why\nfile: a.go\n--- old\nx", "\nfile: a.go\n--- old\nx\n--- new\ny", "why\n--- old\nx\n--- new\ny"} {
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
