package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spillway/spillway/internal/durable"
)

// alone checks that a folder holds nothing but these files.
func alone(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the folder holds %q, want %q", got, names)
	}
}

func content(t *testing.T, path, want string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil || string(raw) != want {
		t.Errorf("%q, %v, want %q", raw, err, want)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for _, text := range []string{"one", "", "three is longer"} {
		if err := durable.Write(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		content(t, path, text)
	}
	alone(t, dir, "a")
}

func TestCreateNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seed")
	if err := durable.Create(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := durable.Create(path, []byte("two")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	content(t, path, "one")
	alone(t, dir, "seed")
}

// Of many at once one wins, and its content is whole.
func TestCreateAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seed")
	var work sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		work.Go(func() { errs[i] = durable.Create(path, []byte(strings.Repeat(string(rune('a'+i)), 10_000))) })
	}
	work.Wait()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won >= 0:
			t.Fatalf("%d and %d both made it", won, i)
		case err == nil:
			won = i
		case !errors.Is(err, fs.ErrExist):
			t.Error(err)
		}
	}
	if won < 0 {
		t.Fatal("nobody made it")
	}
	content(t, path, strings.Repeat(string(rune('a'+won)), 10_000))
	alone(t, dir, "seed")
}

// What cannot be written leaves nothing behind, and what was there as it was.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	if err := durable.Write(filepath.Join(dir, "none", "a"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.Write(taken, []byte("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if err := durable.Create(taken, []byte("x")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the place of a folder: %v", err)
	}
	alone(t, dir, "taken")
	if err := durable.Dir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(durable.Remove(filepath.Join(dir, "none")), durable.Dir(dir)); err != nil {
		t.Error(err)
	}
	if err := durable.Remove(taken); err == nil {
		t.Error("a folder with something in it was removed")
	}
}

// A name at the file system's limit can be written too.
func TestLongName(t *testing.T) {
	dir := t.TempDir()
	name := strings.Repeat("n", 255)
	if err := durable.Write(filepath.Join(dir, name), []byte("x")); err != nil {
		t.Fatal(err)
	}
	content(t, filepath.Join(dir, name), "x")
	alone(t, dir, name)
}
