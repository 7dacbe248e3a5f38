package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/storetest"
)

// open opens a store that is closed at the test's end.
func open(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func put(key, value string, expect uint64) store.Op {
	return store.Op{Bucket: "b", Key: key, Value: []byte(value), Expect: expect}
}

func commit1(t testing.TB, s *Store, ops ...store.Op) {
	t.Helper()
	if err := s.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
}

func TestSuite(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared=%v", shared), func(t *testing.T) {
			n, dir := 0, t.TempDir()
			storetest.Suite(t, func(t testing.TB) store.Store {
				n++
				return open(t, filepath.Join(dir, fmt.Sprint(n), "s.db"), Options{Shared: shared})
			})
		})
	}
}

func TestSuiteReopened(t *testing.T) {
	n, dir := 0, t.TempDir()
	storetest.SuiteReopened(t, func(t testing.TB) func() (store.Store, error) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n), "s.db")
		return func() (store.Store, error) { return Open(context.Background(), path, Options{}) }
	})
}

// Nobody else may read what is stored: files 0600, folders 0700.
func TestPitfall45_Modes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "s.db")
	s := open(t, path, Options{})
	commit1(t, s, put("k", "1", 0))
	check := func() {
		t.Helper()
		err := filepath.WalkDir(filepath.Dir(dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; err == nil && info.Mode().Perm() != want {
				t.Errorf("%s has mode %v, want %v", p, info.Mode(), want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	commit1(t, open(t, path, Options{}), put("k", "2", 1))
	check()
}

// The name of a file is taken as it is.
func TestOddNames(t *testing.T) {
	for _, name := range []string{"a b.db", "100%25?mode=ro#x.db", "ü&_pragma=synchronous(0).db", "'.db"} {
		path := filepath.Join(t.TempDir(), name)
		commit1(t, open(t, path, Options{}), put("k", "1", 0))
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	t.Chdir(t.TempDir())
	commit1(t, open(t, "s.db", Options{}), put("k", "1", 0))
	if _, err := os.Stat("s.db"); err != nil {
		t.Error(err)
	}
}

// What is asked of SQLite for durability is what the connection does.
func TestPitfall23_Settings(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{})
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "10000", "application_id": "1397774169"} {
		var got string
		if err := s.w.conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q, %v", pragma, got, want, err)
		}
	}
	if _, err := s.read.Exec("DELETE FROM entries"); err == nil {
		t.Error("a reader can write")
	}
}

// batch hands commits to the committer as one batch.
func batch(t *testing.T, s *Store, commits ...[]store.Op) (answers []error) {
	t.Helper()
	var all []*pending
	for _, ops := range commits {
		all = append(all, &pending{ops, make(chan error, 1)})
	}
	s.commit(all)
	for _, p := range all {
		answers = append(answers, <-p.answer)
	}
	return answers
}

// A commit that conflicts does not disturb those that share its transaction, and
// each sees what those before it wrote.
func TestConflictInABatch(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{})
	answers := batch(t, s,
		[]store.Op{put("1", "x", 0)}, []store.Op{put("2", "x", 7)}, []store.Op{put("1", "y", 0)}, []store.Op{put("3", "x", 0), put("1", "z", 9)},
		[]store.Op{put("1", "w", 1), put("4", "x", 0)}, []store.Op{{Bucket: "b", Key: "4", Expect: 1}}, []store.Op{put("4", "again", 0)},
		[]store.Op{{Bucket: "b", Key: "5", Expect: 0}}, []store.Op{put("6", "x", 0)}, []store.Op{{Bucket: "b", Key: "6", Expect: 3}})
	for i, fails := range []bool{false, true, true, true, false, false, false, false, false, false} {
		if err := answers[i]; (err != nil) != fails || fails && !errors.Is(err, store.ErrConflict) {
			t.Errorf("commit %d: %v", i, err)
		}
	}
	all, err := s.List(t.Context(), "b", "")
	if got := fmt.Sprint(all); err != nil || got != "[{b 1 [119] 2} {b 4 [97 103 97 105 110] 3}]" {
		t.Errorf("%v, %v", got, err)
	}
	if s.w.count != 2 { // the first was taken back: an expected revision was not there
		t.Errorf("it took %d transactions", s.w.count)
	}
	commit1(t, s, put("7", "x", 0))
	if e, err := s.Get(t.Context(), "b", "7"); err != nil || e.Revision != 5 {
		t.Errorf("a key created after a deletion at 4 is at %d, %v", e.Revision, err)
	}
}

// Writers that wait at the same time share transactions.
func TestGroupCommit(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{})
	const writers, each = 64, 20
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				if err := s.Commit(t.Context(), put(fmt.Sprint(w), "x", uint64(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s.w.count > writers*each/4 {
		t.Errorf("%d commits took %d transactions", writers*each, s.w.count)
	}
}

// holdLock takes SQLite's write lock, as another process's transaction does.
func holdLock(t *testing.T, path string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		_, err := c.ExecContext(context.Background(), "ROLLBACK")
		if err := errors.Join(err, c.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A commit whose context ends while it waits is withdrawn; one that the committer
// has taken up is answered truthfully.
func TestCancelWhileWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, Options{Shared: true})
	release := holdLock(t, path)
	over, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- s.Commit(over, put("first", "x", 0)) }()
	await(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.taken > 0 })
	go func() { second <- s.Commit(over, put("second", "x", 0)) }()
	await(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.waiting) == 1 })
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that waited: %v", err)
	}
	release()
	if err := <-first; err != nil {
		t.Errorf("the one that was taken up: %v", err)
	}
	if all, err := s.List(t.Context(), "b", ""); err != nil || len(all) != 1 || all[0].Key != "first" {
		t.Errorf("%v, %v", all, err)
	}
}

// await waits for a condition, ten seconds at the most.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	over := time.After(10 * time.Second)
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatal("it did not come to that")
		}
	}
}

// Another process's transaction that does not end: every commit that waits is
// refused after one wait, and the store works once it has ended.
func TestBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, Options{Shared: true, Wait: 30 * time.Millisecond})
	release := holdLock(t, path)
	for _, err := range batch(t, s, []store.Op{put("1", "x", 0)}, []store.Op{put("2", "x", 0)}) {
		if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), path) {
			t.Errorf("want ErrLocked naming the file, got %v", err)
		}
	}
	if s.w.count != 0 {
		t.Errorf("%d transactions were begun", s.w.count)
	}
	release()
	commit1(t, s, put("1", "x", 0))
}

// After an fsync that failed nobody can tell what is on the disk: nothing is taken
// until the store is opened again.
func TestPitfall43_FailedSync(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, Options{})
	commit1(t, s, put("k", "1", 0))
	for _, c := range []int{4, 5} { // SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC
		if err := error(coded(10 | c<<8)); !gone(err) || !gone(fmt.Errorf("wrapped: %w", err)) {
			t.Errorf("code %d is no failed fsync", 10|c<<8)
		}
	}
	if gone(coded(13)) || gone(nil) || gone(coded(10|3<<8)) {
		t.Error("a full disk, or a write that failed, loses nothing")
	}
	s.fail(coded(10 | 4<<8))
	for range 2 {
		if err := s.Commit(t.Context(), put("k", "2", 1)); !errors.Is(err, store.ErrFailed) || !strings.Contains(err.Error(), path) {
			t.Fatalf("want ErrFailed naming the file, got %v", err)
		}
	}
	if answers := batch(t, s, []store.Op{put("k", "2", 1)}); !errors.Is(answers[0], store.ErrFailed) {
		t.Fatalf("handed in before: %v", answers[0])
	}
	if e, err := s.Get(t.Context(), "b", "k"); err != nil || string(e.Value) != "1" {
		t.Fatalf("reading: %+v, %v", e, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	commit1(t, open(t, path, Options{}), put("k", "2", 1))
}

// coded is an error with a code of SQLite.
type coded int

func (c coded) Error() string { return fmt.Sprintf("code %d", int(c)) }
func (c coded) Code() int     { return int(c) }
