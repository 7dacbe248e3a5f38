package scenario

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// exact is how a story ends, to the satoshi: what each side was owed and got of the
// channels, what it paid in fees, and what it has on the chain in all.
type exact struct {
	Owed, Got, Fees Amounts
	Wallets         Wallets
}

// exactOf are the sums of a result, and under which name they are written down.
func exactOf(r *Result) (string, exact) {
	return r.Scenario + "/" + r.Channel, exact{r.Owed, r.Got, r.Fees, r.Wallets}
}

// numbers are the sums in the order of their columns.
func (e *exact) numbers() (all []*int64) {
	w := &e.Wallets
	for _, a := range []*Amounts{&e.Owed, &e.Got, &e.Fees, &w.Had, &w.Funding, &w.Has} {
		all = append(all, &a.Payer, &a.Payee)
	}
	return all
}

var (
	endsFile = filepath.Join("testdata", "ends.txt")
	columns  = []string{"payer is owed", "provider is owed", "payer got", "provider got", "payer's fees", "provider's fees",
		"payer had", "provider had", "payer's fundings", "provider's fundings", "payer has", "provider has"}
)

// exactEnds are the sums of all stories in all kinds of channel, by "story/kind".
func exactEnds(t *testing.T) map[string]exact {
	t.Helper()
	raw, err := os.ReadFile(endsFile)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]exact{}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		var e exact
		numbers := e.numbers()
		if len(fields) != 1+len(numbers) {
			t.Fatalf("%s: %q has %d fields", endsFile, line, len(fields))
		}
		for i, n := range numbers {
			if _, err := fmt.Sscan(fields[1+i], n); err != nil {
				t.Fatalf("%s: %q: %v", endsFile, line, err)
			}
		}
		ends[fields[0]] = e
	}
	return ends
}

// writeEnds writes the sums down anew: after a change that is meant to change them,
// and that a person has looked at.
var writeEnds = flag.Bool("write", false, "write down what every story ends with")

func write(t *testing.T, ends map[string]exact) {
	t.Helper()
	text := "# In sat: " + strings.Join(columns, ", ") + "\n"
	for _, name := range slices.Sorted(maps.Keys(ends)) {
		e := ends[name]
		text += fmt.Sprintf("%-47s", name)
		for _, n := range e.numbers() {
			text += fmt.Sprintf(" %d", *n)
		}
		text += "\n"
	}
	if err := os.WriteFile(endsFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkExact holds a result against the sums that are written down for it.
func checkExact(t *testing.T, ends map[string]exact, r *Result) {
	t.Helper()
	name, got := exactOf(r)
	want, ok := ends[name]
	if !ok {
		t.Fatalf("no sums are written down for %s in %s", name, endsFile)
	}
	for i, n := range got.numbers() {
		if w := *want.numbers()[i]; *n != w {
			t.Errorf("%s: %s %d sat, want %d sat", name, columns[i], *n, w)
		}
	}
}
