package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestReadmeAndDocsFitTheBinary: each command is in the README, each document is linked from
// it, each link leads somewhere, and no document names a command or flag that is not there.
func TestReadmeAndDocsFitTheBinary(t *testing.T) {
	root := (&app{out: newOutput(&bytes.Buffer{}, &bytes.Buffer{})}).root()
	root.InitDefaultCompletionCmd()
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(docs) < 10 {
		t.Fatalf("%d documents: %v", len(docs), err)
	}
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(raw)
	for _, c := range root.Commands() {
		if !c.Hidden && c.Name() != "help" && !regexp.MustCompile(`spillway `+regexp.QuoteMeta(c.Name())+`\b`).MatchString(readme) {
			t.Errorf("README.md does not name spillway %s", c.Name())
		}
	}
	for _, path := range docs {
		if !strings.Contains(readme, "docs/"+filepath.Base(path)) {
			t.Errorf("README.md does not link docs/%s", filepath.Base(path))
		}
	}
	for _, path := range append(docs, "../../README.md") {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		for _, m := range regexp.MustCompile(`\]\(([^)#:\s]+)[^):\s]*\)`).FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links %s: %v", path, m[1], err)
			}
		}
		for _, line := range strings.Split(text, "\n") {
			for _, name := range namedFlags(root, line) {
				t.Errorf("%s: %s in %.120q", path, name, line)
			}
		}
	}
}

// namedFlags are the flags of commands that a line names and that do not exist.
func namedFlags(root *cobra.Command, line string) (bad []string) {
	for _, m := range regexp.MustCompile("(?:^|[\\s`/])spillway ((?:[^`#|&;()]|\\[)*)").FindAllStringSubmatch(line, -1) {
		words := strings.Fields(m[1])
		cmd, rest, err := root.Find(words)
		if err != nil || cmd == root {
			continue // a sentence about spillway
		}
		for _, w := range rest {
			if w == "--" { // what follows is another command's
				break
			}
			name, _, _ := strings.Cut(strings.Trim(w, "[].,:\"'…"), "=")
			if flag, ok := strings.CutPrefix(name, "--"); ok && regexp.MustCompile(`^[a-z][a-z-]+$`).MatchString(flag) && cmd.Flag(flag) == nil && cmd.InheritedFlags().Lookup(flag) == nil && flag != "help" {
				bad = append(bad, cmd.CommandPath()+" has no --"+flag)
			}
		}
	}
	return bad
}
