package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway/spillway/store"
)

// childBacksUp makes a backup of the store at path, says so, and waits.
func childBacksUp(ctx context.Context, path string) error {
	fmt.Println("begun")
	if err := Backup(ctx, path, path+".backup", []byte("note")); err != nil {
		return err
	}
	fmt.Println("done")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// childRestores restores and marks the store at path, says so, and waits.
func childRestores(ctx context.Context, path string) error {
	fmt.Println("begun")
	if err := Restore(ctx, filepath.Join(filepath.Dir(path), "..", "backup"), path, marked); err != nil {
		return err
	}
	fmt.Println("done")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func marked(s *Store, _ []byte) error {
	return s.Commit(context.Background(), put("mark", "restored", 0))
}

// killed starts a child and kills it after a part of the time that it takes.
func killed(t *testing.T, role, path string, after time.Duration) {
	t.Helper()
	c := start(t, role, path)
	if text, ok := c.line(); !ok || text != "begun" {
		t.Fatalf("the child says %q", text)
	}
	<-time.After(after)
	c.kill(t)
}

// takes measures how long a child takes from its first word to its last.
func takes(t *testing.T, role, path string) time.Duration {
	t.Helper()
	c := start(t, role, path)
	for _, want := range []string{"begun", "done"} {
		begin := time.Now()
		if text, ok := c.line(); !ok || text != want {
			t.Fatalf("the child says %q, want %q", text, want)
		}
		if want == "done" {
			c.kill(t)
			return time.Since(begin)
		}
	}
	return 0
}

// A restore that is killed leaves no store, or a whole one that is marked: never one
// that could be served from as if it were the newest. The next one works.
func TestPitfall28_RestoreKilled(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "source.db")
	made(t, source)
	if err := Backup(t.Context(), source, filepath.Join(dir, "backup"), nil); err != nil {
		t.Fatal(err)
	}
	const kills = 12
	whole := takes(t, "restore", filepath.Join(dir, "first", "s.db"))
	none, done := 0, 0
	for i := range kills {
		path := filepath.Join(dir, fmt.Sprint(i), "s.db")
		killed(t, "restore", path, whole*time.Duration(i)/(kills-2))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			none++
			if err := Restore(t.Context(), filepath.Join(dir, "backup"), path, marked); err != nil {
				t.Fatalf("kill %d: the next restore: %v", i, err)
			}
		} else {
			done++
		}
		if got := entries(t, path); len(got) != 201 || got["mark"] != "restored" {
			t.Fatalf("kill %d: %d entries, mark %q", i, len(got), got["mark"])
		}
	}
	t.Logf("%d kills before the store had its name, %d after", none, done)
	if none == 0 {
		t.Error("none was killed in time")
	}
}

// A backup that is killed leaves nothing under its name, or all of it, and the store
// as it was.
func TestPitfall28_BackupKilled(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	made(t, path)
	whole := takes(t, "backup", path)
	const kills = 12
	none := 0
	for i := range kills {
		if err := os.Remove(path + ".backup"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		killed(t, "backup", path, whole*time.Duration(i)/(kills-2))
		if _, err := os.Lstat(path + ".backup"); errors.Is(err, fs.ErrNotExist) {
			none++
			continue
		}
		to := filepath.Join(dir, fmt.Sprint(i), "s.db")
		if err := Restore(t.Context(), path+".backup", to, keepAll); err != nil {
			t.Fatalf("kill %d: what has the name is not whole: %v", i, err)
		}
		if got := entries(t, to); len(got) != 200 {
			t.Fatalf("kill %d: %d entries", i, len(got))
		}
	}
	if none == 0 {
		t.Error("none was killed in time")
	}
	s := open(t, path, Options{})
	if e, err := s.Get(t.Context(), "b", "key/000"); err != nil || len(e.Value) == 0 {
		t.Fatal(err)
	}
	commit1(t, s, store.Op{Bucket: "b", Key: "after", Value: []byte("1")})
}
