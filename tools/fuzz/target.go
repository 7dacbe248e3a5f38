package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is one fuzz function.
type target struct {
	dir, name, holds string
}

// id is the target as it is named in the record, such as mpp/FuzzJCS.
func (t target) id() string { return filepath.ToSlash(t.dir) + "/" + t.name }

// corpus is the folder of the target's committed inputs.
func (t target) corpus() string { return filepath.Join(t.dir, "testdata", "fuzz", t.name) }

// find lists the fuzz targets below a folder, sorted.
func find(root string) (targets []target, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz") && len(f.Type.Params.List) == 1 {
				targets = append(targets, target{filepath.Dir(path), f.Name.Name, holds(f)})
			}
		}
		return nil
	})
	slices.SortFunc(targets, func(a, b target) int { return cmp.Compare(a.id(), b.id()) })
	return targets, err
}

// holds is a target's comment on one line, without its name in front.
func holds(f *ast.FuncDecl) string {
	text := strings.Join(strings.Fields(f.Doc.Text()), " ")
	text = strings.TrimPrefix(strings.TrimPrefix(text, f.Name.Name), ":")
	return strings.TrimSpace(text)
}

var progress = regexp.MustCompile(`elapsed: ([0-9hms]+), execs: (\d+)`)

// run fuzzes a target on one worker. A finding is an error; its input is where go
// test wrote it.
func (t target) run(ctx context.Context, limit time.Duration) (result, error) {
	begin := time.Now()
	out, err := t.test(ctx, "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", limit.String(), "-parallel", "1", "-fuzzminimizetime", "1s")
	if err != nil {
		return result{}, fmt.Errorf("%w\n%s", err, out)
	}
	all := progress.FindAllSubmatch(out, -1)
	if len(all) == 0 {
		return result{}, errors.New("no executions were reported")
	}
	last := all[len(all)-1]
	spent, err1 := time.ParseDuration(string(last[1]))
	execs, err2 := strconv.ParseUint(string(last[2]), 10, 64)
	return result{Seconds: spent.Seconds(), Execs: execs, When: begin.UTC().Format(time.DateOnly)}, errors.Join(err1, err2)
}

// seeds counts the inputs that plain go test replays.
func (t target) seeds(ctx context.Context) (int, error) {
	out, err := t.test(ctx, "-run", "^"+t.name+"$", "-v")
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, out)
	}
	return bytes.Count(out, []byte("    --- PASS: "+t.name+"/")), nil
}

// test runs go test on the target's package, out of the way of other work.
func (t target) test(ctx context.Context, args ...string) ([]byte, error) {
	command := append(append([]string{"-n", "10", "go", "test"}, args...), "./"+filepath.ToSlash(t.dir))
	cmd := exec.CommandContext(ctx, "nice", command...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd.CombinedOutput()
}

// Limits of what keep takes over for a target.
const (
	maxKept      = 16      // inputs
	maxKeptBytes = 4 << 10 // of one input
)

// keep copies a few of the inputs that new code was reached with, of all sizes, from
// Go's cache to the committed corpus.
func (t target) keep(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return err
	}
	pkg, err := exec.CommandContext(ctx, "go", "list", "./"+filepath.ToSlash(t.dir)).Output()
	if err != nil {
		return err
	}
	from := filepath.Join(strings.TrimSpace(string(out)), "fuzz", strings.TrimSpace(string(pkg)), t.name)
	found, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if have, err := os.ReadDir(t.corpus()); err == nil && len(have) >= maxKept {
		return nil
	}
	var inputs [][]byte
	for _, e := range found {
		raw, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if len(raw) <= maxKeptBytes {
			inputs = append(inputs, raw)
		}
	}
	slices.SortFunc(inputs, func(a, b []byte) int { return cmp.Or(len(a)-len(b), bytes.Compare(a, b)) })
	return t.write(inputs)
}

// write commits up to maxKept of the inputs, evenly over their sizes.
func (t target) write(inputs [][]byte) error {
	if len(inputs) == 0 {
		return nil
	}
	if err := os.MkdirAll(t.corpus(), 0o755); err != nil {
		return err
	}
	n := min(maxKept, len(inputs))
	for i := range n {
		raw := inputs[(i*len(inputs)+len(inputs)/2)/n]
		if err := os.WriteFile(filepath.Join(t.corpus(), name(raw)), raw, 0o644); err != nil {
			return err
		}
	}
	return nil
}
