// Package mutants holds deliberate breakages of the code that ships, and shows
// that the simulator catches each of them.
//
// A breakage is a file NAME.mutant: a line that says what goes wrong, the source
// file, a piece of it, and what stands there instead. It is never part of a
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
}

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

func parse(name, text string) (Mutant, error) {
	head, body, ok := strings.Cut(text, "\n--- old\n")
	old, replacement, also := strings.Cut(body, "\n--- new\n")
	why, file, named := strings.Cut(head, "\nfile: ")
	if !ok || !also || !named || why == "" || old == "" {
		return Mutant{}, fmt.Errorf("%w: %s", ErrForm, name)
	}
	return Mutant{Name: name, Why: why, File: strings.TrimSpace(file), Old: old, New: strings.TrimSuffix(replacement, "\n")}, nil
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
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", program, "./internal/sim/cmd/sim")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s does not compile: %w\n%s", ErrForm, m.Name, err, out)
	}
	return program, nil
}

// Catch runs the seeds on the simulator with the breakage in it until one of
// them reports a violation, and returns what it said; "" when none did.
func (m Mutant) Catch(ctx context.Context, root, dir, seeds string, workers int) (string, error) {
	program, err := m.Build(ctx, root, dir)
	if err != nil {
		return "", err
	}
	defer os.Remove(program)
	var said, failed bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-first", "-seeds", seeds, "-workers", fmt.Sprint(workers))
	cmd.Stdout, cmd.Stderr = &said, &failed
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case !errors.As(err, &exit) || exit.ExitCode() < 0:
		return "", fmt.Errorf("%s: %w", m.Name, err)
	case exit.ExitCode() != 1: // a panic is as loud as a violation
		line, _, _ := strings.Cut(failed.String(), "\n")
		return line, nil
	}
	line, _, _ := strings.Cut(said.String(), "\n")
	return line, nil
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
