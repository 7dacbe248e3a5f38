// Package badinput makes bad inputs out of good ones, runs them, and holds what
// comes of each to a catalogue in a file that people read.
//
// It is for tests only. It knows no message and no command: those who own one hand
// in a good example, and get back what can be wrong with it. It never decides
// what is bad: a test says which of the inputs are meant to be taken.
package badinput

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// Case is one bad input.
type Case struct {
	Group string // what is bad, such as "voucher: signature"
	What  string // how, such as "missing"
	Input []byte
}

// Name names a case: no two of a catalogue have one name.
func (c Case) Name() string { return c.Group + " " + c.What }

// patience is how long one input may take before it counts as a hang.
const patience = 20 * time.Second

// Guard runs f, and fails the test where it panics or does not end.
func Guard(t testing.TB, name string, f func()) {
	t.Helper()
	done := make(chan string, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Sprintf("panic: %v\n%s", r, debug.Stack())
				return
			}
			done <- ""
		}()
		f()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case text := <-done:
		if text != "" {
			t.Errorf("%s: %s", name, text)
		}
	case <-timer.C:
		t.Fatalf("%s: it hangs", name)
	}
}

// Sentinel is the name of the first of the known errors that err is, in the order
// given; "" where it is none of them.
func Sentinel(err error, known []Named) string {
	for _, k := range known {
		if errors.Is(err, k.Err) {
			return k.Name
		}
	}
	return ""
}

// Named is a sentinel with its name as it is written in Go.
type Named struct {
	Name string
	Err  error
}

// Catalogue is what came of each input.
type Catalogue struct {
	title string
	rows  map[row]string
}

// row is one input of a catalogue.
type row struct{ group, what string }

// NewCatalogue is an empty catalogue; the title stands at the head of its file.
func NewCatalogue(title string) *Catalogue {
	return &Catalogue{title: title, rows: map[row]string{}}
}

// Put enters what came of an input. Two inputs of one name fail the test.
func (c *Catalogue) Put(t testing.TB, in Case, outcome string) {
	t.Helper()
	at := row{oneLine(in.Group), oneLine(in.What)}
	if old, twice := c.rows[at]; twice {
		t.Errorf("two inputs are called %q (%s, %s)", at, old, outcome)
	}
	c.rows[at] = oneLine(outcome)
}

// Len is how many inputs are in the catalogue.
func (c *Catalogue) Len() int { return len(c.rows) }

// Check compares the catalogue with its file, or with update writes the file.
func (c *Catalogue) Check(t testing.TB, path string, update bool) {
	t.Helper()
	if update {
		if err := os.WriteFile(path, []byte(c.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := read(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range sorted(c.rows) {
		old, known := want[at]
		switch {
		case !known:
			t.Errorf("%s: a new input: %s %s gives %q; look at it, then run this test with -update", path, at.group, at.what, c.rows[at])
		case old != c.rows[at]:
			t.Errorf("%s: %s %s gives %q, was %q", path, at.group, at.what, c.rows[at], old)
		}
		delete(want, at)
	}
	for _, at := range sorted(want) {
		t.Errorf("%s: %s %s is tried no more; run this test with -update", path, at.group, at.what)
	}
}

func sorted(rows map[row]string) []row {
	return slices.SortedFunc(maps.Keys(rows), func(x, y row) int {
		return cmp.Or(cmp.Compare(x.group, y.group), cmp.Compare(rows[x], rows[y]), cmp.Compare(x.what, y.what))
	})
}

// How a line of a file is divided: GROUP → OUTCOME: WHAT | WHAT …
const (
	arrow = "  →  "
	colon = ":  "
	bar   = " | "
)

// String is the catalogue as its file has it: a line for each group and outcome.
func (c *Catalogue) String() string {
	wide := 0
	for at := range c.rows {
		wide = max(wide, min(utf8.RuneCountInString(at.group), 60))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n# %d inputs, and what comes of each. Written by the test with -update: read the difference.", c.title, len(c.rows))
	group, outcome := "", ""
	for _, at := range sorted(c.rows) {
		if at.group == group && c.rows[at] == outcome {
			b.WriteString(bar + at.what)
			continue
		}
		group, outcome = at.group, c.rows[at]
		fmt.Fprintf(&b, "\n%-*s%s%s%s%s", wide, group, arrow, outcome, colon, at.what)
	}
	return b.String() + "\n"
}

func read(path string) (map[row]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rows := map[row]string{}
	for line := range strings.Lines(string(raw)) {
		group, rest, ok := strings.Cut(strings.TrimRight(line, "\n"), arrow)
		outcome, list, both := strings.Cut(rest, colon)
		if !ok || !both {
			continue
		}
		for what := range strings.SplitSeq(list, bar) {
			rows[row{strings.TrimRight(group, " "), what}] = outcome
		}
	}
	return rows, nil
}

// oneLine is a text without line ends, fit for a row.
func oneLine(s string) string {
	return strings.TrimSpace(strings.NewReplacer("\n", `\n`, "\r", `\r`, "\t", `\t`, "\x00", `\0`, arrow, " → ", colon, ": ", bar, " ¦ ").Replace(strings.ToValidUTF8(s, "?")))
}
