// Package sqlite is the store that survives: SQLite with a write-ahead log and
// synchronous=FULL. Commits that wait at the same time share one transaction and
// one fsync, each all-or-nothing by itself.
//
// It never acknowledges a commit before the transaction that holds it is on the
// disk, and never opens a file that it does not understand or that is torn: it
// says what is wrong instead.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/spillway/spillway/store"
)

// Options of a store. The zero value is a store for one process.
type Options struct {
	// Shared lets several processes use the store at once. Without it a second
	// process is refused with store.ErrLocked.
	Shared bool
	// Wait is how long another process's transaction is waited for before a commit
	// fails with store.ErrLocked; 0: ten seconds. Only a shared store waits.
	Wait time.Duration
	// MaxPages limits the file's size, in pages of 8192 bytes, of 4096 where an older
	// version made the file; 0: no limit. A
	// commit that needs more fails with store.ErrFull.
	MaxPages int64
}

// Store is a store in a SQLite file. Open makes it.
type Store struct {
	path    string
	lock    *lock
	write   *sql.DB // one connection, the committer's
	read    *sql.DB
	w       *writer
	get     *sql.Stmt
	list    *sql.Stmt
	listEnd *sql.Stmt
	cache   *cache

	mu      sync.Mutex // guards what follows
	waiting []*pending
	taken   int // how many commits the committer took up
	shut    bool
	failed  error         // of the disk: nothing more is taken
	wake    chan struct{} // tells the committer that something waits
	done    chan struct{} // closed when the committer has ended
	once    sync.Once
}

// Open opens the store at path, or makes it: its file, and what SQLite puts beside
// it, readable by nobody else (mode 0600), in a folder that is made private (0700)
// where it is missing. The whole file is looked through.
// Errors: store.ErrLocked, ErrDamaged, ErrNewer, ErrFull, ErrReadOnly, of ctx and
// of the file system.
func Open(ctx context.Context, path string, o Options) (_ *Store, err error) {
	if o.Wait == 0 {
		o.Wait = 10 * time.Second
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, classify(err)
	}
	s := &Store{path: path, cache: newCache(!o.Shared), wake: make(chan struct{}, 1), done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeFiles())
		}
	}()
	if s.lock, err = takeLock(ctx, path+".lock", o.Shared, o.Wait); err != nil {
		return nil, err
	}
	if err := makeFile(path, s.lock.ready); err != nil {
		return nil, classify(err)
	}
	if err := s.connect(ctx, o); err != nil {
		return nil, fmt.Errorf("%s: %w", path, s.explain(unreadable(classify(err))))
	}
	if err := s.lock.settle(); err != nil {
		return nil, err
	}
	go s.run()
	return s, nil
}

// connect opens the connections, brings the schema up to date and looks the file
// through.
func (s *Store) connect(ctx context.Context, o Options) (err error) {
	if err := s.lay(ctx); err != nil {
		return err
	}
	if s.write, err = sql.Open("sqlite", dsn(s.path, o, "cache_size(-32768)")); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if err := migrate(ctx, s.write, s.lock.alone()); err != nil {
		return err
	}
	if s.w, err = newWriter(ctx, s.write, s.cache); err != nil {
		return err
	}
	if s.read, err = sql.Open("sqlite", dsn(s.path, o, "query_only(1)")); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	return s.prepareReads(ctx)
}

// pageSize is the size of a new store's pages, in bytes: the record of a channel lies in
// one of them. Of 4096 it would take two, as a row may fill a quarter of its page at most.
const pageSize = 8192

// lay gives a file that is still empty its pages. One that an older version made keeps
// those that it has.
func (s *Store) lay(ctx context.Context) (err error) {
	if info, err := os.Stat(s.path); err != nil || info.Size() > 0 || !s.lock.alone() {
		return err
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: s.path}).EscapedPath()}).String())
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, fmt.Sprintf("PRAGMA page_size = %d; PRAGMA synchronous = FULL; PRAGMA journal_mode = WAL", pageSize))
	return errors.Join(err, db.Close())
}

// How many pages the log holds before it is written back and begun again from its start.
// Every commit that makes the log's file longer has the file system write the file's length
// too, which costs the kernel a third of a commit; one that writes over what was there
// has not. A shared store is a payer's: a few pages again and again. One of a single process
// may be a provider's with very many, which are then written back seldom.
const (
	logPages       = 4000
	sharedLogPages = 100
)

// dsn names the file and the settings of a connection: its cache is in KiB, and the log is
// cut to 64 MiB after it was written back.
func dsn(path string, o Options, more ...string) string {
	pages := logPages
	if o.Shared {
		pages = sharedLogPages
	}
	q := url.Values{"_pragma": append([]string{fmt.Sprintf("busy_timeout(%d)", o.Wait.Milliseconds()), "journal_mode(WAL)", "synchronous(FULL)",
		fmt.Sprintf("wal_autocheckpoint(%d)", pages), "journal_size_limit(67108864)"}, more...)}
	if o.MaxPages > 0 {
		q.Add("_pragma", fmt.Sprintf("max_page_count(%d)", o.MaxPages))
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// makeFolder makes a folder and what is missing above it, mode 0700, durably.
func makeFolder(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := makeFolder(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncFolder(filepath.Dir(dir))
}

// makeFile makes the database's file before SQLite does, so that it is mode 0600,
// and takes from others the rights to one that is there. It never opens an
// existing file: closing it would drop the locks that SQLite holds on it for this
// process. known: there was a store here before.
func makeFile(path string, known bool) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && known && info.Size() == 0:
		return fmt.Errorf("%w: %s is empty, but a store was kept in it; put its backup there, or remove %s.lock to begin anew", store.ErrDamaged, path, path)
	case err == nil && info.Mode().Perm()&0o077 != 0:
		return os.Chmod(path, 0o600)
	case err == nil:
		return nil
	case !errors.Is(err, os.ErrNotExist):
		return err
	case known:
		return fmt.Errorf("%w: %s is missing, but a store was kept there; put its backup there, or remove %s.lock to begin anew", store.ErrDamaged, path, path)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close finishes the commits that were handed in and closes the file; later calls
// of the store's methods answer store.ErrClosed.
func (s *Store) Close() (err error) {
	s.once.Do(func() {
		s.mu.Lock()
		s.shut = true
		s.mu.Unlock()
		s.nudge()
		<-s.done
		err = s.closeFiles()
	})
	return err
}

func (s *Store) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shut
}

func (s *Store) closeFiles() error {
	var failed []error
	for _, stmt := range []*sql.Stmt{s.get, s.list, s.listEnd} {
		if stmt != nil {
			failed = append(failed, stmt.Close())
		}
	}
	if s.w != nil {
		failed = append(failed, s.w.close())
	}
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			failed = append(failed, db.Close())
		}
	}
	if s.lock != nil {
		failed = append(failed, s.lock.release())
	}
	return errors.Join(failed...)
}
