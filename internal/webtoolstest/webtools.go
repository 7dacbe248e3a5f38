// Package webtoolstest gives tests the programs that people fetch and serve things
// with: nginx, curl, wget and aria2, from Debian. It fetches them where they are
// missing and fails where it cannot; it never skips. It is for tests only.
package webtoolstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/spillway/spillway/internal/nginx"
)

// Path is where a program lies: nginx, curl, wget or aria2c.
func Path(t testing.TB, program string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("no cache folder for %s: %v", program, err)
	}
	dir, err := fetch(filepath.Join(cache, "spillway", "webtools"))
	if err != nil {
		t.Fatalf("no %s: %v", program, err)
	}
	return filepath.Join(dir, program)
}

// fetch runs tools/get-webtools once for all processes of this machine: a lock beside
// the folder makes the others wait, a mark in it says that it is whole.
func fetch(dir string) (bin string, err error) {
	bin, mark := filepath.Join(dir, "bin"), filepath.Join(dir, "complete")
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
		return bin, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	_, source, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source folder is not known")
	}
	tool := filepath.Join(filepath.Dir(source), "..", "..", "tools", "get-webtools")
	if out, err := exec.Command("bash", tool, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", tool, err, out)
	}
	return bin, os.WriteFile(mark, nil, 0o644)
}

// Nginx serves a folder with nginx until the test ends, and returns its URL. more is put
// into its server block.
func Nginx(t testing.TB, root, more string) string {
	t.Helper()
	url, stop, err := nginx.Start(Path(t, "nginx"), t.TempDir(), root, more)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return url
}

// Repository makes a flat repository with one package in a folder, as apt reads it, and
// returns the path of the package in it.
func Repository(t testing.TB, dir, name string, payload []byte) string {
	t.Helper()
	tree := t.TempDir()
	for path, data := range map[string][]byte{
		"DEBIAN/control":              fmt.Appendf(nil, "Package: %s\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a package of a test\n", name),
		"usr/share/" + name + "/data": payload,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, path), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(dir, name+"_1.0_all.deb")
	if out, err := exec.Command("dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	return deb
}
