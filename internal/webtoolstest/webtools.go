// Package webtoolstest gives tests the programs that people fetch and serve things
// with: nginx, curl, wget and aria2, from Debian. It fetches them where they are
// missing and fails where it cannot; it never skips. It is for tests only.
package webtoolstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/internal/nginx"
	"github.com/spillway/spillway/internal/programs"
)

// Path is where a program lies: nginx, curl, wget or aria2c.
func Path(t testing.TB, program string) string {
	t.Helper()
	dir, err := programs.Get("webtools", "get-webtools")
	if err != nil {
		t.Fatalf("no %s: %v", program, err)
	}
	return filepath.Join(dir, "bin", program)
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
