package deploytest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/internal/programs"
)

// root is the repository.
var root = filepath.Join("..", "..")

func read(t *testing.T, path ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// tool is a program of tools/get-opstools, fetched where it is not there yet.
func tool(t *testing.T, name string) string {
	t.Helper()
	dir, err := programs.Get("opstools", "get-opstools")
	if err != nil {
		t.Fatalf("no %s: %v", name, err)
	}
	return filepath.Join(dir, "bin", name)
}

// run runs a program; stdin may be "".
func run(t *testing.T, stdin, path string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%s %q: %v\n%s", filepath.Base(path), args, err, out.String())
	}
	return out.String()
}
