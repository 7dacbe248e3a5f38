package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spillway/spillway/store"
)

// Where a backup says what it is of.
const (
	bucketBackup = "backup"
	keyAbout     = "about"
)

// ErrNotBackup: a file that Backup did not write, be it a copy of a store: what a
// plain copy takes of a store in use is not one moment of it.
var ErrNotBackup = errors.New("this is no backup of a store")

// ErrExists: something is where a backup, or a restored store, was to be put. It was
// not touched.
var ErrExists = errors.New("there is something already")

// Backup writes the store at path, as it is at one moment, to a new file (mode 0600)
// whose name must be free. Any process may be using the store meanwhile: it goes on
// writing. about is kept in the backup, for Restore. The copy was looked through, every
// entry's checksum included, before it got its name, and is durable then.
// Errors: fs.ErrNotExist, store.ErrDamaged, ErrFull, ErrExists, of ctx and of the file
// system.
func Backup(ctx context.Context, path, to string, about []byte) (err error) {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	if to, err = filepath.Abs(to); err != nil {
		return err
	}
	if about == nil {
		about = []byte{} // nil would delete
	}
	if err := free(to); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(to), ".spillway-backup-*") // mode 0700
	if err != nil {
		return classify(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	copied := filepath.Join(dir, "store.db")
	if err := vacuumInto(ctx, path, copied); err != nil {
		return fmt.Errorf("%s: %w", path, classify(err))
	}
	err = within(ctx, copied, func(s *Store) error {
		return s.Commit(ctx, store.Op{Bucket: bucketBackup, Key: keyAbout, Value: about, Expect: store.Any})
	})
	if err != nil {
		return err
	}
	return classify(publish(copied, to))
}

// vacuumInto has SQLite write a database as its readers see it to a new file.
func vacuumInto(ctx context.Context, path, to string) (err error) {
	q := url.Values{"mode": {"rw"}, "_pragma": {"busy_timeout(10000)"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := ours(ctx, db); err != nil {
		return err
	}
	// the copy has the pages of a new store, whatever the store has
	if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA page_size = %d", pageSize)); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", to)
	return err
}

// within opens a copy alone, looks all of it through, lets something be done to it,
// and closes it again, durably. The copy is one file then.
func within(ctx context.Context, path string, do func(*Store) error) error {
	s, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	if err = s.verify(ctx); err == nil {
		err = do(s)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		return fmt.Errorf("%w: the log of %s was not written back", store.ErrFailed, path)
	}
	return classify(syncFile(path))
}

// verify checks every entry's checksum. Errors: store.ErrDamaged.
func (s *Store) verify(ctx context.Context) (err error) {
	rows, err := s.read.QueryContext(ctx, "SELECT bucket, key, revision, value, sum FROM entries")
	if err != nil {
		return classify(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var e store.Entry
		var want sql.NullInt64
		if err := rows.Scan(&e.Bucket, &e.Key, &e.Revision, &e.Value, &want); err != nil {
			return fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
		if want.Valid && want.Int64 != sum(e.Bucket, e.Key, e.Revision, e.Value) {
			return fmt.Errorf("%w: %s %s at revision %d has not the checksum that it was saved with", store.ErrDamaged, e.Bucket, e.Key, e.Revision)
		}
	}
	return classify(rows.Err())
}

// Restore makes a store at path, where there is none, from a backup. mark is given the
// new store, and what the backup says of itself, before the store gets its name: what
// it refuses is not restored, what it saves is there from the first moment. The backup
// is only read. Whoever opens path meanwhile is refused.
// Errors: ErrNotBackup, ErrExists, store.ErrLocked, ErrDamaged, ErrNewer, ErrFull, those
// of mark, of ctx and of the file system.
func Restore(ctx context.Context, backup, path string, mark func(s *Store, about []byte) error) (err error) {
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return classify(err)
	}
	l, err := takeLock(ctx, path+".lock", false, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	if err := vacant(path); err != nil {
		return err
	}
	if err := leftovers(path); err != nil {
		return classify(err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), restoring+"*") // mode 0700
	if err != nil {
		return classify(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	copied := filepath.Join(dir, "store.db")
	if err := copyFile(ctx, backup, copied); err != nil {
		return classify(err)
	}
	err = within(ctx, copied, func(s *Store) error {
		about, err := s.Get(ctx, bucketBackup, keyAbout)
		if errors.Is(err, store.ErrNotFound) {
			return ErrNotBackup
		} else if err != nil {
			return err
		}
		return mark(s, about.Value)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", backup, err)
	}
	if err := os.Rename(copied, path); err != nil {
		return classify(err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return classify(err)
	}
	return l.settle()
}

// restoring begins the name of the folder that a store is restored in.
const restoring = ".spillway-restore-"

// leftovers removes what restores that were killed left beside a store. Whoever calls
// it has the lock.
func leftovers(path string) error {
	dir := filepath.Dir(path)
	all, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var failed []error
	for _, f := range all {
		if strings.HasPrefix(f.Name(), restoring) {
			failed = append(failed, os.RemoveAll(filepath.Join(dir, f.Name())))
		}
	}
	return errors.Join(failed...)
}

// vacant refuses a place where a store is, or the log of one that is gone. An empty
// file is none: SQLite had not begun it.
func vacant(path string) error {
	for _, name := range []string{path, path + "-wal"} {
		info, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if info.Size() > 0 || !info.Mode().IsRegular() {
			return fmt.Errorf("%w: %s", ErrExists, name)
		}
	}
	return nil
}

func free(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%w: %s", ErrExists, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// publish gives a file its name, which must be free, durably.
func publish(from, to string) error {
	err := os.Link(from, to)                                              // a rename would overwrite
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) { // no such thing on this file system
		if err = free(to); err == nil {
			err = os.Rename(from, to)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, to)
	} else if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(to))
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// copyFile copies a regular file to a new one, mode 0600, durably.
func copyFile(ctx context.Context, from, to string) (err error) {
	info, err := os.Stat(from) // first: opening a pipe would wait for its other end
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is no file", ErrNotBackup, from)
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, &until{ctx, in})
	return errors.Join(err, out.Sync(), out.Close())
}

// until reads until the context ends.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u *until) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}
