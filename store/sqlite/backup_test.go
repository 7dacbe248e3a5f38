package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spillway/spillway/store"
)

// keepAll is a restore that refuses and changes nothing.
func keepAll(*Store, []byte) error { return nil }

// entries reads a whole store.
func entries(t *testing.T, path string) map[string]string {
	t.Helper()
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.List(t.Context(), "b", "")
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range all {
		got[e.Key] = string(e.Value)
	}
	return got
}

func lonely(t *testing.T, path string) {
	t.Helper()
	dir, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range dir {
		if strings.HasPrefix(f.Name(), ".spillway") {
			t.Errorf("%s was left behind", f.Name())
		}
	}
}

// A backup is one moment of a store that is written to meanwhile: two entries that are
// always saved together are equal in it, and no later commit of another waits for it.
func TestBackupWhileWriting(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s := open(t, path, Options{})
	for i := range 500 {
		commit1(t, s, put(fmt.Sprintf("old/%03d", i), strings.Repeat("old ", 200), 0))
	}
	commit1(t, s, put("left", "0", 0), put("right", "0", 0))
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	written := 0
	work.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			text := strings.Repeat(fmt.Sprint(n, " "), 1+n%500)
			if err := s.Commit(t.Context(), put("left", text, store.Any), put("right", text, store.Any)); err != nil {
				t.Error(err)
				return
			}
			written = n
		}
	})
	for i := range 8 {
		to := filepath.Join(dir, fmt.Sprintf("backup-%d", i))
		if err := Backup(t.Context(), path, to, []byte("note")); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(to); err != nil || info.Mode() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
	}
	stop()
	work.Wait()
	if written < 8 {
		t.Errorf("only %d commits during the backups", written)
	}
	last := ""
	for i := range 8 {
		to := filepath.Join(dir, fmt.Sprint(i), "s.db")
		err := Restore(t.Context(), filepath.Join(dir, fmt.Sprintf("backup-%d", i)), to, func(_ *Store, about []byte) error {
			if string(about) != "note" {
				return fmt.Errorf("about %q", about)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got := entries(t, to)
		if len(got) != 502 || got["left"] != got["right"] {
			t.Errorf("backup %d: %d entries, %.20q and %.20q", i, len(got), got["left"], got["right"])
		}
		if got["left"] == last {
			t.Logf("backup %d is as the one before", i)
		}
		last = got["left"]
	}
	lonely(t, path)
}

// A store that nobody uses, killed with its log not written back, is backed up whole.
func TestBackupOfStoppedStore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	made(t, path)
	if err := Backup(t.Context(), path, filepath.Join(dir, "b"), nil); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), filepath.Join(dir, "b"), filepath.Join(dir, "new", "deep", "s.db"), keepAll); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, filepath.Join(dir, "new", "deep", "s.db")); len(got) != 200 {
		t.Errorf("%d entries", len(got))
	}
	if err := Backup(t.Context(), filepath.Join(dir, "nothing"), filepath.Join(dir, "c"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	if err := Backup(t.Context(), path, filepath.Join(dir, "b"), nil); !errors.Is(err, ErrExists) {
		t.Errorf("over another: %v", err)
	}
	if err := Backup(t.Context(), path, filepath.Join(dir, "no", "folder"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into no folder: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Backup(ctx, path, filepath.Join(dir, "d"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	lonely(t, path)
}

// A damaged store is not backed up as if it were whole.
func TestPitfall43_DamagedIsNotBackedUp(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	raw := made(t, path)
	at := bytes.Index(raw, []byte("value/100 value"))
	if at < 0 {
		t.Fatal("the value is not found")
	}
	raw[at+3] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Backup(t.Context(), path, filepath.Join(dir, "b"), nil); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a value: %v", err)
	}
	if err := os.WriteFile(path, raw[:len(raw)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Backup(t.Context(), path, filepath.Join(dir, "b"), nil); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("half: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
	lonely(t, path)
}

// What a changed byte of a backup changes is refused; nothing is put in place then.
func TestPitfall43_DamagedIsNotRestored(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "s.db"), filepath.Join(dir, "b")
	made(t, path)
	want := entries(t, path)
	if err := Backup(t.Context(), path, backup, []byte("note")); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range 60 {
		bad := bytes.Clone(raw)
		bad[(i*7919+i*i)%len(bad)] ^= 1 << (i % 8)
		if err := os.WriteFile(backup, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, fmt.Sprint(i), "s.db")
		err := Restore(t.Context(), backup, to, keepAll)
		if err == nil {
			if got := entries(t, to); len(got) != len(want) {
				t.Fatalf("%d entries of %d", len(got), len(want))
			} else {
				for k, v := range want {
					if got[k] != v {
						t.Fatalf("%s was changed", k)
					}
				}
			}
			continue
		}
		refused++
		if !errors.Is(err, store.ErrDamaged) && !errors.Is(err, ErrNotBackup) {
			t.Errorf("byte %d: %v", i, err)
		}
		if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("put in place: %v", err)
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// A restore goes only where no store is, and never over anything.
func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "s.db"), filepath.Join(dir, "b")
	made(t, path)
	if err := Backup(t.Context(), path, backup, nil); err != nil {
		t.Fatal(err)
	}
	into := func(name string) string { return filepath.Join(dir, name, "s.db") }
	if err := Restore(t.Context(), backup, path, keepAll); !errors.Is(err, ErrExists) {
		t.Errorf("over a store: %v", err)
	}
	if err := Restore(t.Context(), path, into("copy"), keepAll); !errors.Is(err, ErrNotBackup) {
		t.Errorf("a plain copy: %v", err)
	}
	if err := Restore(t.Context(), dir, into("folder"), keepAll); !errors.Is(err, ErrNotBackup) {
		t.Errorf("a folder: %v", err)
	}
	if err := Restore(t.Context(), filepath.Join(dir, "nothing"), into("none"), keepAll); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	other := errors.New("another network")
	if err := Restore(t.Context(), backup, into("mark"), func(*Store, []byte) error { return other }); !errors.Is(err, other) {
		t.Errorf("refused: %v", err)
	}
	if _, err := os.Lstat(into("mark")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("put in place: %v", err)
	}
	// the log of a store that is gone must not be read into another one
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(into("log")+"-wal", []byte("frames"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), backup, into("log"), keepAll); !errors.Is(err, ErrExists) {
		t.Errorf("beside a log: %v", err)
	}
	// a store that is lost is put back where it was; meanwhile nobody may open it
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	err := Restore(t.Context(), backup, path, func(s *Store, _ []byte) error {
		if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, store.ErrLocked) {
			t.Errorf("opened meanwhile: %v", err)
		}
		return s.Commit(t.Context(), put("mark", "here", 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := entries(t, path); len(got) != 201 || got["mark"] != "here" {
		t.Errorf("%d entries", len(got))
	}
	// what a restore that was killed left is gone with the next one
	if err := os.MkdirAll(filepath.Join(dir, "killed", ".spillway-restore-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), backup, into("killed"), keepAll); err != nil {
		t.Fatal(err)
	}
	lonely(t, into("killed"))
	held := open(t, path, Options{})
	if err := Restore(t.Context(), backup, path, keepAll); !errors.Is(err, store.ErrLocked) {
		t.Errorf("under a running one: %v", err)
	}
	commit1(t, held, put("after", "1", 0))
}

// A backup of a newer program is refused as that.
func TestRestoreNewer(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "s.db"), filepath.Join(dir, "b")
	made(t, path)
	if err := Backup(t.Context(), path, backup, nil); err != nil {
		t.Fatal(err)
	}
	alter(t, backup, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
	if err := Restore(t.Context(), backup, filepath.Join(dir, "new", "s.db"), keepAll); !errors.Is(err, store.ErrNewer) {
		t.Errorf("%v", err)
	}
}
