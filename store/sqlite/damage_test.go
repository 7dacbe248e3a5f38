package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/store"
)

// made makes a store with some entries, closed, and returns its file's bytes.
func made(t *testing.T, path string) []byte {
	t.Helper()
	s := open(t, path, Options{})
	for i := range 200 {
		commit1(t, s, put(fmt.Sprintf("key/%03d", i), strings.Repeat(fmt.Sprintf("value/%03d ", i), 30), 0))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// A file that is not what it should be is not opened, is named, and stays as it is.
func TestPitfall43_Damaged(t *testing.T) {
	with := func(raw []byte, at int, b byte, n int) []byte {
		raw = bytes.Clone(raw)
		copy(raw[at:], bytes.Repeat([]byte{b}, n))
		return raw
	}
	for name, damage := range map[string]func(raw []byte) []byte{
		"no database":      func([]byte) []byte { return []byte(strings.Repeat("no database ", 1000)) },
		"half of it":       func(raw []byte) []byte { return raw[:len(raw)/2] },
		"cut in a page":    func(raw []byte) []byte { return raw[:len(raw)-1000] },
		"its head zeroed":  func(raw []byte) []byte { return with(raw, 0, 0, 100) },
		"a page zeroed":    func(raw []byte) []byte { return with(raw, len(raw)/4096/2*4096, 0, 4096) },
		"a page with ones": func(raw []byte) []byte { return with(raw, len(raw)/4096/2*4096, 0xff, 4096) },
		"empty":            func([]byte) []byte { return nil },
		"a few bytes":      func(raw []byte) []byte { return raw[:10] },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			raw := damage(made(t, path))
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, shared := range []bool{false, true} {
				_, err := Open(t.Context(), path, Options{Shared: shared})
				if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), path) {
					t.Fatalf("shared=%v: want ErrDamaged naming the file, got %v", shared, err)
				}
				if name == "half of it" && !strings.Contains(err.Error(), fmt.Sprintf("it has %d bytes, its head says %d", len(raw), 2*len(raw))) {
					t.Errorf("what is wrong is not said: %v", err)
				}
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, raw) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

// A store that is gone is not quietly begun anew.
func TestPitfall43_FileMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	made(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), path+".lock") {
		t.Fatalf("want ErrDamaged saying what to do, got %v", err)
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	commit1(t, open(t, path, Options{}), put("k", "1", 0))
}

// One flipped bit in a value: SQLite does not see it, the sum does, and the error
// names the entry. The others are read.
func TestPitfall43_FlippedBit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	raw := made(t, path)
	at := bytes.Index(raw, []byte("value/123 "))
	if at < 0 {
		t.Fatal("the value is not in the file")
	}
	raw[at+3] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Options{})
	if _, err := s.Get(t.Context(), "b", "key/123"); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "key/123") {
		t.Errorf("get: %v", err)
	}
	if _, err := s.List(t.Context(), "b", "key/12"); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "key/123") {
		t.Errorf("list: %v", err)
	}
	if all, err := s.List(t.Context(), "b", "key/11"); err != nil || len(all) != 10 {
		t.Errorf("its neighbours: %d, %v", len(all), err)
	}
}

// alter runs statements on a closed store's file, or makes it.
func alter(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range statements {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestForeignAndNewerFiles(t *testing.T) {
	for name, c := range map[string]struct {
		statements []string
		want       error
	}{
		"another program's": {[]string{"CREATE TABLE cookies (id INTEGER)"}, store.ErrDamaged},
		"another's with id": {[]string{"PRAGMA application_id = 7", "CREATE TABLE goose_db_version (id INTEGER)"}, store.ErrDamaged},
	} {
		path := filepath.Join(t.TempDir(), "s.db")
		alter(t, path, c.statements...)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after[100:], before[100:]) {
			t.Errorf("%s: the file was changed (%v)", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "s.db")
	made(t, path)
	alter(t, path, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
	if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Errorf("a newer version's: %v", err)
	}
}

// A store of the first version is brought up to date and keeps what it holds; its
// revisions go on above those that were given out.
func TestMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	alter(t, path, "ALTER TABLE entries DROP COLUMN sum", "PRAGMA application_id = 0", "DELETE FROM goose_db_version WHERE version_id = 2",
		"INSERT INTO entries (bucket, key, revision, value) VALUES ('b', 'old', 7, 'x')", "UPDATE counter SET revision = 9")
	sharer, err := Open(t.Context(), path, Options{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := sharer.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	if e, err := s.Get(t.Context(), "b", "old"); err != nil || e.Revision != 7 || string(e.Value) != "x" {
		t.Fatalf("%+v, %v", e, err)
	}
	commit1(t, s, put("old", "y", 7), put("new", "z", 0))
	if e, err := s.Get(t.Context(), "b", "new"); err != nil || e.Revision != 10 {
		t.Errorf("%+v, %v", e, err)
	}
}

// The log is torn at every length, as a power cut tears it: the store opens, every
// commit that was acknowledged before that length is there, and none in part.
func TestPitfall43_TornLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s := open(t, path, Options{})
	var synced []int64 // the log's length when commit i was acknowledged
	for i := range 12 {
		commit1(t, s, put("counter", fmt.Sprint(i+1), uint64(i)), put(fmt.Sprintf("key/%02d", i), strings.Repeat("x", 700*i), 0))
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		synced = append(synced, info.Size())
	}
	base, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	torn := filepath.Join(dir, "torn", "s.db")
	for cut := 0; cut <= len(log); cut += 509 { // not a divisor of a page
		whole := 0
		for whole < len(synced) && synced[whole] <= int64(cut) {
			whole++
		}
		for _, noise := range []int{0, 3000} {
			if n := opened(t, torn, base, append(bytes.Clone(log[:cut]), bytes.Repeat([]byte{0x5a}, noise)...)); n < whole || n > whole {
				t.Errorf("cut at %d, then %d bytes of noise: %d commits of %d are there", cut, noise, n, whole)
			}
		}
	}
}

// opened opens a store from the bytes of its file and log and counts its commits.
func opened(t *testing.T, path string, base, log []byte) int {
	t.Helper()
	if err := errors.Join(os.RemoveAll(filepath.Dir(path)), os.MkdirAll(filepath.Dir(path), 0o700),
		os.WriteFile(path, base, 0o600), os.WriteFile(path+"-wal", log, 0o600)); err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), path, Options{})
	if err != nil {
		t.Fatalf("a torn log of %d bytes: %v", len(log), err)
	}
	keys, err := s.List(t.Context(), "b", "key/")
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Get(t.Context(), "b", "counter")
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	if e.Revision != uint64(len(keys)) || len(keys) > 0 && string(e.Value) != fmt.Sprint(len(keys)) {
		t.Errorf("the counter says %s at %d, %d keys are there", e.Value, e.Revision, len(keys))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return len(keys)
}
