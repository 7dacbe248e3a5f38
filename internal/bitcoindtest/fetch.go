package bitcoindtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// binary is the path of bitcoind, fetched where it is not there yet.
func binary(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("no cache folder for bitcoind: %v", err)
	}
	path, err := fetch(filepath.Join(cache, "spillway", "bitcoind"))
	if err != nil {
		t.Fatalf("no bitcoind: %v", err)
	}
	return path
}

// fetch runs tools/get-bitcoind once for all processes of this machine: a lock
// beside the folder makes the others wait, a mark in it says that it is whole.
func fetch(dir string) (path string, err error) {
	path, mark := filepath.Join(dir, "bin", "bitcoind"), filepath.Join(dir, "complete")
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(mark); err == nil {
		return path, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	_, source, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source folder is not known")
	}
	tool := filepath.Join(filepath.Dir(source), "..", "..", "tools", "get-bitcoind")
	if out, err := exec.Command("bash", tool, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", tool, err, out)
	}
	return path, os.WriteFile(mark, nil, 0o644)
}

// Program is the path of bitcoind, fetched where it is not there yet, for who starts it by himself.
func Program(t testing.TB) string { return binary(t) }
