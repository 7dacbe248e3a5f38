package deploytest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("no cache folder for %s: %v", name, err)
	}
	dir := filepath.Join(cache, "spillway", "opstools")
	if err := fetch(dir); err != nil {
		t.Fatalf("no %s: %v", name, err)
	}
	return filepath.Join(dir, "bin", name)
}

// fetch runs the installer once for all processes of this machine.
func fetch(dir string) (err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	mark := filepath.Join(dir, "complete")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if out, err := exec.Command("bash", filepath.Join(root, "tools", "get-opstools"), dir).CombinedOutput(); err != nil {
		return fmt.Errorf("tools/get-opstools: %w\n%s", err, out)
	}
	return os.WriteFile(mark, nil, 0o644)
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
