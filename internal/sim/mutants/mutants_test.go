package mutants

import (
	"errors"
	"runtime"
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

// Each breakage is caught within the seeds of every change.
func TestCaught(t *testing.T) {
	if testing.Short() {
		t.Log("the breakages are built and caught by the whole run")
		return
	}
	root, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, m := range all {
		said, err := m.Catch(t.Context(), root, dir, "0:2000", runtime.NumCPU())
		switch {
		case err != nil:
			t.Error(err)
		case said == "":
			t.Errorf("%s (%s) was not caught", m.Name, m.Why)
		default:
			t.Logf("%s: %s", m.Name, said)
		}
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
