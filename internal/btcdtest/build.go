package btcdtest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/internal/programs"
)

// module is what the program is built from, at the version of go.mod.
const module = "github.com/btcsuite/btcd"

// program is the path of btcd, built where it is not there yet.
func program(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatalf("no btcd: %v", err)
	}
	return path
}

// build makes btcd once for all processes of this machine. Its folder's name holds the
// version.
func build() (path string, err error) {
	root, err := programs.Root()
	if err != nil {
		return "", err
	}
	version, err := goTool(root, "list", "-m", "-f", "{{.Version}}", module)
	if err != nil {
		return "", err
	}
	dir, err := programs.Cache("btcd-" + strings.TrimSpace(version))
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "btcd")
	return path, programs.Once(dir, func() error {
		_, err := goTool(root, "build", "-o", path, module)
		return err
	})
}

func goTool(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, failed.String())
	}
	return string(out), nil
}
