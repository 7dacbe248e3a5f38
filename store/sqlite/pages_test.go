package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/store"
)

func pagesOf(t *testing.T, s *Store) (size int) {
	t.Helper()
	if err := s.read.QueryRowContext(t.Context(), "PRAGMA page_size").Scan(&size); err != nil {
		t.Fatal(err)
	}
	return size
}

// A new store has pages in one of which a channel's record lies. A store with the pages
// of an older version is used as it is, and a backup of it has the new ones.
func TestPages(t *testing.T) {
	dir := t.TempDir()
	for _, shared := range []bool{false, true} {
		s := open(t, filepath.Join(dir, fmt.Sprint("new", shared)), Options{Shared: shared})
		if got := pagesOf(t, s); got != pageSize {
			t.Errorf("shared %v: a new store has pages of %d bytes", shared, got)
		}
		commit1(t, s, store.Op{Bucket: "b", Key: "record", Value: make([]byte, 1800)})
		var pages int // of one row: more than a leaf where it overflows
		if err := s.read.QueryRowContext(t.Context(), "SELECT count(*) FROM dbstat WHERE name = 'entries'").Scan(&pages); err == nil && pages != 1 {
			t.Errorf("a record of 1,800 bytes takes %d pages", pages)
		}
	}
	old, to := filepath.Join(dir, "old"), filepath.Join(dir, "backup")
	db, err := sql.Open("sqlite", old)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA user_version = 0"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, old, Options{})
	if got := pagesOf(t, s); got != 4096 {
		t.Errorf("an old store has pages of %d bytes", got)
	}
	value := bytes.Repeat([]byte{7}, 3000)
	commit1(t, s, store.Op{Bucket: "b", Key: "k", Value: value})
	if err := errors.Join(s.Close(), Backup(t.Context(), old, to, []byte("about"))); err != nil {
		t.Fatal(err)
	}
	fresh := open(t, to, Options{})
	e, err := fresh.Get(t.Context(), "b", "k")
	if err != nil || !bytes.Equal(e.Value, value) || e.Revision != 1 || pagesOf(t, fresh) != pageSize {
		t.Errorf("the backup has pages of %d bytes, and revision %d: %v", pagesOf(t, fresh), e.Revision, err)
	}
	again := open(t, old, Options{})
	if e, err := again.Get(t.Context(), "b", "k"); err != nil || !bytes.Equal(e.Value, value) {
		t.Error(err)
	}
}

// Expected revisions are taken for those that are there; where one is not, nothing that
// was written on that ground stays, and the writer is told what is there.
func TestExpectedRevisionsAreNotBelieved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s, other := open(t, path, Options{Shared: true}), open(t, path, Options{Shared: true})
	commit1(t, s, put("1", "one", 0), put("2", "two", 0), put("3", "three", 0))
	commit1(t, other, put("2", "by another", 1))
	before := s.w.count
	err := s.Commit(context.Background(), put("1", "x", 1), put("2", "x", 1), put("3", "x", 9))
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || conflict.Key != "2" || conflict.Have != 2 || conflict.Expected != 1 {
		t.Fatalf("got %v", err)
	}
	if all, err := s.List(t.Context(), "b", ""); err != nil || len(all) != 3 || string(all[0].Value) != "one" || string(all[1].Value) != "by another" {
		t.Fatalf("%v, %v", all, err)
	}
	if s.w.count != before+2 {
		t.Errorf("it took %d transactions", s.w.count-before)
	}
	commit1(t, s, put("1", "y", 1), put("2", "y", 2))
	if s.w.count != before+3 {
		t.Errorf("what is there was asked for")
	}
	answers := batch(t, s, []store.Op{put("1", "z", 2)}, []store.Op{put("1", "zz", 3), put("2", "z", 2)}, []store.Op{put("3", "z", 1)})
	if answers[0] != nil || !errors.As(answers[1], &conflict) || conflict.Key != "2" || answers[2] != nil {
		t.Errorf("%v", answers)
	}
	all, err := other.List(t.Context(), "b", "")
	if got := fmt.Sprint(all); err != nil || got != "[{b 1 [122] 3} {b 2 [121] 3} {b 3 [122] 2}]" {
		t.Errorf("%v, %v", got, err)
	}
}

// The log of a shared store is begun again from its start after few pages: it does not grow
// with every commit.
func TestSharedLogStaysShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := Open(t.Context(), path, Options{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 4 * sharedLogPages {
		if err := s.Commit(t.Context(), store.Op{Bucket: "b", Key: "k", Value: make([]byte, 3000), Expect: store.Any}); err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
	}
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(2 * sharedLogPages * (pageSize + 24)); info.Size() > most {
		t.Errorf("the log has %d bytes after %d commits, not at most %d", info.Size(), 4*sharedLogPages, most)
	}
}
