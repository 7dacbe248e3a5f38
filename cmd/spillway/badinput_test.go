package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/spillway/spillway/internal/badinput"
)

var update = flag.Bool("update", false, "write testdata/badinput.txt and docs/errors.md")

// bad is one bad invocation of the program.
type bad struct {
	group, what string
	args        []string
	stdin       string
	env         [2]string         // a variable and its value; "": none
	change      func(data string) // what is wrong in the data folder, if it is there
	data        bool              // only where there is a data folder
}

// answer is what the program said at its end.
type answer struct {
	Type    string `json:"type"`
	Code    string `json:"code"`
	Exit    int    `json:"exit"`
	Message string `json:"message"`
	Money   string `json:"money"`
	Next    string `json:"next"`
}

// invoke runs the program in this process.
func invoke(t *testing.T, b bad) (exit int, a answer, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if b.env[0] != "" {
		if err := os.Setenv(b.env[0], b.env[1]); err != nil {
			t.Fatal(err)
		}
		defer os.Unsetenv(b.env[0])
	}
	var out, said bytes.Buffer
	badinput.Guard(t, b.group+" "+b.what, func() {
		exit = runUntil(ctx, append([]string{"--json"}, b.args...), strings.NewReader(b.stdin), &out, &said)
	})
	if ctx.Err() != nil {
		t.Errorf("%s %s: the command went on running: %.300s", b.group, b.what, said.String())
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &a); err != nil && exit != exitDone {
		t.Errorf("%s %s: exit %d, and the last line is no JSON: %.300s", b.group, b.what, exit, out.String())
	}
	return exit, a, out.String() + said.String()
}

// check runs a bad invocation on no data folder and on one that is in use: each time
// it has to be refused in the same way, in three parts, and to change nothing.
func (w *world) check(t *testing.T, catalogue *badinput.Catalogue, b bad) {
	t.Helper()
	name := b.group + " " + b.what
	outcome := ""
	for _, data := range []string{w.none, w.used} {
		if b.data && data == w.none {
			continue
		}
		if b.change != nil && data == w.used {
			b.change(data)
		}
		before := w.digest(t, data)
		t.Setenv("SPILLWAY_DATA", data)
		exit, a, text := invoke(t, b)
		if after := w.digest(t, data); after != before {
			t.Errorf("%s: the data folder was changed:\n%s\nwas\n%s\n%s", name, after, before, text)
		}
		if data == w.none || b.change != nil || w.digest(t, data) != before {
			w.reset(t, data)
		}
		switch {
		case exit == exitDone || exit == exitInterrupted:
			t.Errorf("%s: taken, exit %d: %.300s", name, exit, text)
			return
		case exit == exitDefect:
			t.Errorf("%s: it counts as a defect of ours: %.300s", name, text)
		case a.Type != "error" || a.Exit != exit:
			t.Errorf("%s: exit %d: %+v", name, exit, a)
		}
		for part, said := range map[string]string{"message": a.Message, "money": a.Money, "next": a.Next} {
			if len(said) < 8 || len(said) > 2500 || strings.ContainsAny(said, "\n\x00\x1b") || part != "message" && !strings.ContainsAny(said[:1], "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") {
				t.Errorf("%s: its %s is %q", name, part, said)
			}
		}
		got := fmt.Sprintf("%d %s", exit, a.Code)
		if outcome != "" && got != outcome {
			got = outcome + ", on a used folder " + got
		}
		outcome = got
	}
	catalogue.Put(t, badinput.Case{Group: b.group, What: b.what}, outcome)
}

// TestBadInput: whatever is wrong with a command line, a variable, a file or what is
// typed, the program says what happened, what it means for the money and what to do
// next, ends with the code that the catalogue has, and changes nothing.
func TestBadInput(t *testing.T) {
	frozen, err := filepath.Abs("testdata/badinput.txt")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	catalogue := badinput.NewCatalogue("Bad command lines, variables and files, and how the program ends.")
	for _, b := range slices.Concat(w.lines(t), w.files(t)) {
		w.check(t, catalogue, b)
	}
	if catalogue.Len() < 300 {
		t.Errorf("%d inputs", catalogue.Len())
	}
	catalogue.Check(t, frozen, *update)
}

// lines are the bad command lines of every command: the tree of commands is walked,
// and what is bad for a flag follows from its type, and from its row in values.
func (w *world) lines(t *testing.T) (all []bad) {
	t.Helper()
	a := &app{out: &output{}}
	root := a.root()
	root.InitDefaultHelpFlag()
	seen := map[string]bool{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		all = append(all, w.counts(t, c)...)
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" || c != root && c.InheritedFlags().Lookup(f.Name) != nil || seen[c.CommandPath()+f.Name] {
				return
			}
			seen[c.CommandPath()+f.Name] = true
			all = append(all, w.flag(t, c, f)...)
		})
		for _, sub := range c.Commands() {
			if sub.Name() != actorName && sub.Name() != "help" && sub.Name() != "completion" {
				walk(sub)
			}
		}
	}
	walk(root)
	return append(all, w.conflicts()...)
}

// line is a good command line of a command.
func (w *world) line(t *testing.T, c *cobra.Command) []string {
	t.Helper()
	rest, ok := w.good[command(c)]
	if !ok && c.Runnable() {
		t.Errorf("no good arguments of %q are known: add them to the world of this test", command(c))
	}
	return append(strings.Fields(command(c)), rest...)
}

// counts are the wrong numbers of arguments, an unknown flag, and an unknown command.
func (w *world) counts(t *testing.T, c *cobra.Command) (all []bad) {
	t.Helper()
	name := "spillway " + command(c)
	words := strings.Fields(command(c))
	for n := range 5 {
		if c.Args == nil || c.Args(c, slices.Repeat([]string{"x"}, n)) == nil {
			continue
		}
		what := strconv.Itoa(n) + " arguments"
		all = append(all, bad{group: name, what: what, args: append(slices.Clone(words), slices.Repeat([]string{"x"}, n)...)})
	}
	return append(all,
		bad{group: name, what: "unknown flag", args: append(w.line(t, c), "--no-such-flag")},
		bad{group: name, what: "unknown short flag", args: append(w.line(t, c), "-Z")})
}

// flag are the bad uses of a flag.
func (w *world) flag(t *testing.T, c *cobra.Command, f *pflag.Flag) (all []bad) {
	t.Helper()
	group := strings.TrimSpace("spillway "+command(c)) + " --" + f.Name
	add := func(what string, args ...string) {
		line := append(w.line(t, c), args...)
		if c.Parent() == nil { // a common flag: on a command that does something
			line = append([]string{"wallet", "balance"}, args...)
		}
		all = append(all, bad{group: group, what: what, args: line})
	}
	list, known := w.values(command(c), f.Name)
	if f.Value.Type() == "bool" {
		list = append(list, "maybe", "", "2", "yes")
	} else {
		list = append(list, mechanical[f.Value.Type()]...)
		add("no value", "--"+f.Name)
	}
	if strings.HasPrefix(f.Value.Type(), "string") {
		list = append(list, "")
		if !known {
			t.Errorf("%s: what is bad for it is not known: add it to values in badvalues_test.go", group)
		}
	}
	for _, v := range list {
		add(fmt.Sprintf("%.60q", w.short(v)), "--"+f.Name+"="+v)
	}
	if f.Name != "json" && f.Value.Type() != "string" && f.Value.Type() != "stringArray" {
		for _, b := range slices.Clone(all[len(all)-1:]) {
			variable := "SPILLWAY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
			b.group, b.what, b.env = group, variable+"=nonsense", [2]string{variable, "nonsense"}
			b.args = b.args[:len(b.args)-1]
			all = append(all, b)
		}
	}
	return all
}

// short writes the paths of a world so that they are the same each time.
func (w *world) short(s string) string {
	return strings.NewReplacer(w.dir, "DIR", w.id, "ID", strconv.Quote(w.id[:5]), "a part of ID").Replace(s)
}

// mechanical are values that are none of a flag's type.
var mechanical = map[string][]string{
	"int":      {"", "x", "1.5", "1e3", "9223372036854775808", "-9223372036854775809", " 1", "1sat"},
	"int64":    {"", "x", "1.5", "1e3", "9223372036854775808", "-9223372036854775809", " 1", "1sat"},
	"uint64":   {"", "x", "-1", "1.5", "1e3", "18446744073709551616", " 1", "1MiB"},
	"float64":  {"", "x", "1,5", "1e999", "NaN", "-1", "Inf", "1s"},
	"duration": {"", "x", "10", "-1s", "1 s", "9999999999h", "1sat"},
}

// paths makes the folder of a case and its bad files.
func (w *world) path(name string) string { return filepath.Join(w.dir, "files", name) }
