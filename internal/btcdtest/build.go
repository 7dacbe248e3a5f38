package btcdtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// module is what the program is built from, at the version of go.mod.
const module = "github.com/btcsuite/btcd"

// program is the path of btcd, built where it is not there yet.
func program(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("no cache folder for btcd: %v", err)
	}
	path, err := build(filepath.Join(cache, "spillway"))
	if err != nil {
		t.Fatalf("no btcd: %v", err)
	}
	return path
}

// build makes btcd once for all processes of this machine: a lock beside it makes
// the others wait. Its name holds the version.
func build(dir string) (path string, err error) {
	_, source, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source folder is not known")
	}
	root := filepath.Join(filepath.Dir(source), "..", "..")
	version, err := goTool(root, "list", "-m", "-f", "{{.Version}}", module)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "btcd-"+strings.TrimSpace(version))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fresh := path + ".new"
	if _, err := goTool(root, "build", "-o", fresh, module); err != nil {
		return "", err
	}
	return path, os.Rename(fresh, path)
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
