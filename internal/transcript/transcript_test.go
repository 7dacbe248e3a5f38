package transcript

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the commands say into the files")

// entry is a command with the comment before it and the output after it.
type entry struct {
	comment, line, want string
}

// read splits a transcript into its entries, and what follows the last of them.
func read(t *testing.T, path string) (entries []entry, tail string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	var e entry
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "" || strings.HasPrefix(line, "#") {
			e.comment += line + "\n"
			continue
		}
		e.line = line
		if i+1 < len(lines) && lines[i+1] == "----" {
			var want []string
			for i += 2; i < len(lines) && lines[i] != ""; i++ {
				want = append(want, lines[i])
			}
			e.want = strings.Join(want, "\n")
			i-- // the empty line belongs to the next entry
		}
		entries = append(entries, e)
		e = entry{}
	}
	return entries, strings.TrimSuffix(e.comment, "\n")
}

func files(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatal("no transcripts", err)
	}
	return names
}

// run plays one command; a side that is killed meanwhile is started again, and the
// command repeated, as a person or a supervisor would.
func (w *world) run(t *testing.T, line string) string {
	t.Helper()
	word, a := parse(line)
	do, ok := commands[word]
	if !ok {
		t.Fatalf("no command %q", word)
	}
	for range 3 {
		out, err := do(w, t.Context(), a)
		killed, rerr := w.restart()
		if rerr != nil {
			t.Fatal(rerr)
		}
		if killed {
			continue
		}
		if errors.Is(err, errCrash) {
			t.Fatalf("%s: %v", line, err)
		}
		if err != nil {
			out = name(err)
		}
		if out == "" {
			out = "ok"
		}
		return out
	}
	t.Fatalf("%s: killed again and again", line)
	return ""
}

func TestTranscripts(t *testing.T) {
	for _, path := range files(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			entries, tail := read(t, path)
			w := newWorld(t, newHost(t))
			var text strings.Builder
			for _, e := range entries {
				got := w.run(t, e.line)
				fmt.Fprintf(&text, "%s%s\n----\n%s\n", e.comment, e.line, got)
				if got != e.want && !*update {
					t.Fatalf("%s\n got: %s\nwant: %s", e.line, got, e.want)
				}
			}
			if *update {
				if err := os.WriteFile(path, []byte(text.String()+tail), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestRestarts: a side that is killed and started again between any two commands
// goes on as if nothing had happened.
func TestRestarts(t *testing.T) {
	for _, path := range files(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			entries, _ := read(t, path)
			w := newWorld(t, newHost(t))
			for _, e := range entries {
				if err := errors.Join(w.startPayer(), w.startPayee()); err != nil {
					t.Fatal(err)
				}
				if got := w.run(t, e.line); got != e.want {
					t.Fatalf("%s\n got: %s\nwant: %s", e.line, got, e.want)
				}
			}
		})
	}
}

// TestKilledAtEachSave: either side is killed at each of its saves, just before and
// just after it; the command is repeated, and in the end both sides and the chain
// stand where the transcript says.
func TestKilledAtEachSave(t *testing.T) {
	for _, path := range files(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			entries, _ := read(t, path)
			h := newHost(t)
			for _, side := range []string{"payer", "payee"} {
				for _, survives := range []bool{false, true} {
					for at := 1; playKilled(t, h, entries, side, at, survives); at++ {
					}
				}
			}
		})
	}
}

// playKilled reports whether the side lived long enough to be killed at that save.
func playKilled(t *testing.T, h *host, entries []entry, side string, at int, survives bool) bool {
	t.Helper()
	w := newWorld(t, h)
	d := map[string]*disk{"payer": w.payerDisk, "payee": w.payeeDisk}[side]
	for _, e := range entries {
		got := w.run(t, e.line)
		word, _ := parse(e.line)
		if word == "coins" { // the story begins here
			d.killAt, d.survives = d.commits+at, survives
		}
		if (word == "status" || word == "chain") && got != e.want {
			t.Fatalf("%s killed at its save %d (saved: %v): %s\n got: %s\nwant: %s", side, at, survives, e.line, got, e.want)
		}
	}
	return d.commits >= d.killAt
}
