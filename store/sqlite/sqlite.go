// Package sqlite is the store that survives: SQLite with a write-ahead log and
// synchronous=FULL. Commits that wait at the same time share one transaction and
// one fsync, each all-or-nothing by itself.
//
// Nothing is acknowledged before the transaction that holds it is on the disk.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/spillway/spillway/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options of a store.
type Options struct {
	// Shared lets several processes use the store at once. Without it a second
	// process is refused with store.ErrLocked.
	Shared bool
	// MaxPages limits the file's size in pages of 4096 bytes; 0: no limit.
	MaxPages int64
}

// Store is a store in a SQLite file.
type Store struct {
	write *sql.DB // one connection
	read  *sql.DB
	lock  *os.File
	queue chan *pending
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once
	mu    sync.RWMutex // held for reading while a commit is handed to the queue
	shut  bool
}

// Open opens or makes the store at path; its folder is made private.
// Errors: store.ErrLocked, ErrDamaged, ErrFull, ErrReadOnly, of the file system.
func Open(ctx context.Context, path string, o Options) (_ *Store, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, classify(err)
	}
	s := &Store{queue: make(chan *pending), stop: make(chan struct{}), done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeFiles())
		}
	}()
	if s.lock, err = lockFile(path+".lock", o.Shared); err != nil {
		return nil, err
	}
	if err := private(path); err != nil {
		return nil, classify(err)
	}
	if s.write, err = connect(path, o, 1); err != nil {
		return nil, err
	}
	if err := migrate(ctx, s.write); err != nil {
		return nil, fmt.Errorf("%s: %w", path, classify(err))
	}
	if s.read, err = connect(path, o, 4); err != nil {
		return nil, err
	}
	go s.run()
	return s, nil
}

// lockFile takes the folder for this process, or shares it with other sharers.
func lockFile(path string, shared bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, classify(err)
	}
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", store.ErrLocked, filepath.Dir(path)), f.Close())
	}
	return f, nil
}

// private makes the database's file before SQLite does, so that it is mode 0600.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func connect(path string, o Options, conns int) (*sql.DB, error) {
	q := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
	if o.MaxPages > 0 {
		q.Add("_pragma", fmt.Sprintf("max_page_count(%d)", o.MaxPages))
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, classify(err)
	}
	db.SetMaxOpenConns(conns)
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithVerbose(false))
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return err
	}
	var result string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("%w: %s", store.ErrDamaged, result)
	}
	return nil
}

// classify turns the database's and the system's errors into the store's.
func classify(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case lib.SQLITE_FULL:
			return fmt.Errorf("%w: %w", store.ErrFull, err)
		case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w", store.ErrDamaged, err)
		case lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_PERM:
			return fmt.Errorf("%w: %w", store.ErrReadOnly, err)
		case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
			return fmt.Errorf("%w: %w", store.ErrLocked, err)
		}
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", store.ErrReadOnly, err)
	case errors.Is(err, sql.ErrConnDone):
		return fmt.Errorf("%w: %w", store.ErrClosed, err)
	}
	return err
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, bucket, key string) (store.Entry, error) {
	if s.closed() {
		return store.Entry{}, store.ErrClosed
	}
	e := store.Entry{Bucket: bucket, Key: key}
	row := s.read.QueryRowContext(ctx, "SELECT revision, value FROM entries WHERE bucket = ? AND key = ?", bucket, key)
	err := row.Scan(&e.Revision, &e.Value)
	if errors.Is(err, sql.ErrNoRows) {
		return e, store.ErrNotFound
	}
	return e, classify(err)
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, bucket, prefix string) (all []store.Entry, err error) {
	if s.closed() {
		return nil, store.ErrClosed
	}
	rows, err := s.read.QueryContext(ctx,
		"SELECT key, revision, value FROM entries WHERE bucket = ? AND key >= ? AND substr(key, 1, length(?)) = ? ORDER BY key", bucket, prefix, prefix, prefix)
	if err != nil {
		return nil, classify(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		e := store.Entry{Bucket: bucket}
		if err := rows.Scan(&e.Key, &e.Revision, &e.Value); err != nil {
			return nil, classify(err)
		}
		all = append(all, e)
	}
	return all, classify(rows.Err())
}

func (s *Store) closed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.shut
}

// Close lets the commits that were handed in finish and closes the file.
func (s *Store) Close() (err error) {
	s.once.Do(func() {
		s.mu.Lock()
		s.shut = true
		s.mu.Unlock()
		close(s.stop)
		<-s.done
		err = s.closeFiles()
	})
	return err
}

func (s *Store) closeFiles() error {
	var failed []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			failed = append(failed, db.Close())
		}
	}
	if s.lock != nil {
		failed = append(failed, s.lock.Close())
	}
	return errors.Join(failed...)
}
