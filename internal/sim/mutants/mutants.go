// Package mutants holds deliberate breakages of the code that ships, and shows
// that the simulator catches each of them.
//
// A breakage is a file NAME.mutant: a line that says what goes wrong, the source
// file, the first seed that catches it, a piece of the file, and what stands there
// instead. It is never part of a
// build: the compiler is handed the changed file beside the tree.
package mutants

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed *.mutant
var files embed.FS

// Mutant is one breakage.
type Mutant struct {
	Name string
	Why  string // what goes wrong with it
	File string // path in the module
	Old  string // occurs once in File
	New  string
	Seed int64 // the first seed that catches it, as it was last seen; -1: none is known
}

// unknown is no seed.
const unknown = -1

// ErrForm: a file is no breakage, or does not fit the source any more.
var ErrForm = errors.New("the breakage does not fit")

// All returns the breakages, sorted by name. Errors: ErrForm.
func All() ([]Mutant, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	all := make([]Mutant, len(entries))
	for i, e := range entries {
		raw, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, err
		}
		if all[i], err = parse(strings.TrimSuffix(e.Name(), ".mutant"), string(raw)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ByName returns one breakage. Errors: ErrForm.
func ByName(name string) (Mutant, error) {
	raw, err := files.ReadFile(name + ".mutant")
	if err != nil {
		return Mutant{}, fmt.Errorf("%w: no %q", ErrForm, name)
	}
	return parse(name, string(raw))
}

// parse reads a breakage: why, then members of its head, then the two pieces.
func parse(name, text string) (Mutant, error) {
	head, body, ok := strings.Cut(text, "\n--- old\n")
	old, replacement, also := strings.Cut(body, "\n--- new\n")
	m := Mutant{Name: name, Old: old, New: strings.TrimSuffix(replacement, "\n"), Seed: unknown}
	for i, line := range strings.Split(head, "\n") {
		what, value, _ := strings.Cut(line, ": ")
		switch {
		case i == 0:
			m.Why = line
		case what == "file":
			m.File = value
		case what == "seed":
			seed, err := strconv.ParseInt(value, 10, 64)
			if err != nil || seed < 0 {
				return Mutant{}, fmt.Errorf("%w: %s: %q is no seed", ErrForm, name, value)
			}
			m.Seed = seed
		default:
			return Mutant{}, fmt.Errorf("%w: %s: %q", ErrForm, name, line)
		}
	}
	if !ok || !also || m.Why == "" || m.File == "" || old == "" {
		return Mutant{}, fmt.Errorf("%w: %s", ErrForm, name)
	}
	return m, nil
}

// Apply returns the source of m.File with the breakage in it; root is the
// module's folder. Errors: ErrForm where the piece does not stand there once.
func (m Mutant) Apply(root string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.File)))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(raw, []byte(m.Old)); n != 1 {
		return nil, fmt.Errorf("%w: %s stands %d times in %s", ErrForm, m.Name, n, m.File)
	}
	return bytes.Replace(raw, []byte(m.Old), []byte(m.New), 1), nil
}

// Build compiles the simulator with the breakage in it into dir and returns the
// program's path.
func (m Mutant) Build(ctx context.Context, root, dir string) (string, error) {
	source, err := m.Apply(root)
	if err != nil {
		return "", err
	}
	changed, program := filepath.Join(dir, m.Name+".go"), filepath.Join(dir, m.Name)
	overlay := filepath.Join(dir, m.Name+".json")
	raw, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, filepath.FromSlash(m.File)): changed}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(changed, source, 0o600), os.WriteFile(overlay, raw, 0o600)); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-overlay", overlay, "-o", program, "./internal/sim/cmd/sim")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s does not compile: %w\n%s", ErrForm, m.Name, err, out)
	}
	return program, nil
}

// Caught is what caught a breakage.
type Caught struct {
	Seed int64  // the first seed that did; -1: none of them
	Said string // its violation
}

// Catch runs seeds, from:to, on the simulator with the breakage in it until one of
// them reports a violation.
func (m Mutant) Catch(ctx context.Context, program, seeds string, workers int) (Caught, error) {
	var said, failed bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-json", "-first", "-seeds", seeds, "-workers", fmt.Sprint(workers))
	cmd.Stdout, cmd.Stderr = &said, &failed
	none := Caught{Seed: unknown}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return none, fmt.Errorf("%s: %w: %s", m.Name, err, failed.Bytes())
	}
	var result struct{ Violations []string }
	if err := json.Unmarshal(said.Bytes(), &result); err != nil {
		return none, fmt.Errorf("%s: %w: %.200s", m.Name, err, said.Bytes())
	}
	for _, v := range result.Violations {
		var seed int64
		if _, err := fmt.Sscanf(v, "seed %d,", &seed); err != nil {
			return none, fmt.Errorf("%s: %q names no seed", m.Name, v)
		}
		if none.Seed == unknown || seed < none.Seed {
			none = Caught{Seed: seed, Said: v}
		}
	}
	return none, nil
}

// Root finds the module's folder from a folder inside it.
func Root(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	for err == nil {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("the breakages are built from the source: no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
