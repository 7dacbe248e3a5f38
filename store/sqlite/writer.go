package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/spillway/spillway/store"
)

// writer holds the committer's connection with its statements. It is used by one
// goroutine.
type writer struct {
	conn  *sql.Conn
	cache *cache
	stmts map[string]*sql.Stmt
	count int // of transactions begun
}

// The committer's statements.
const (
	sqlBegin    = "BEGIN IMMEDIATE"
	sqlCommit   = "COMMIT"
	sqlRollback = "ROLLBACK"
	sqlRevision = "SELECT revision FROM entries WHERE bucket = ? AND key = ?"
	sqlFloor    = "SELECT revision FROM counter WHERE id = 1"
	sqlSetFloor = "UPDATE counter SET revision = ? WHERE id = 1"
	sqlDelete   = "DELETE FROM entries WHERE bucket = ? AND key = ?"
	sqlUpdate   = "UPDATE entries SET revision = ?, value = ?, sum = ? WHERE bucket = ? AND key = ? AND revision = ?"
	sqlPut      = `INSERT INTO entries (bucket, key, revision, value, sum) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (bucket, key) DO UPDATE SET revision = excluded.revision, value = excluded.value, sum = excluded.sum`
)

func newWriter(ctx context.Context, db *sql.DB, c *cache) (_ *writer, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn, cache: c, stmts: map[string]*sql.Stmt{}}
	for _, text := range []string{sqlBegin, sqlCommit, sqlRollback, sqlRevision, sqlFloor, sqlSetFloor, sqlDelete, sqlUpdate, sqlPut} {
		if w.stmts[text], err = conn.PrepareContext(ctx, text); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

func (w *writer) close() error {
	var failed []error
	for _, stmt := range w.stmts {
		if stmt != nil {
			failed = append(failed, stmt.Close())
		}
	}
	return errors.Join(append(failed, w.conn.Close())...)
}

func (w *writer) exec(text string, args ...any) error {
	_, err := w.stmts[text].ExecContext(context.Background(), args...)
	return err
}

// number runs a query for one number; absent: 0.
func (w *writer) number(text string, args ...any) (n uint64, err error) {
	err = w.stmts[text].QueryRowContext(context.Background(), args...).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

// transact applies commits in their order, in one transaction: each wholly, or not
// at all where one of its revisions is not there (its conflict). When err is nil
// the transaction is on the disk; otherwise none of it is, unless gone(err).
//
// First the revisions that writers expect are taken for those that are there, and each
// entry is written where that is so: mostly it is, and nothing is asked. Where one is
// not, that transaction is taken back, and another asks for each before it writes.
func (w *writer) transact(batch []*pending) (conflicts []error, err error) {
	conflicts, err = w.attempt(batch, true)
	if errors.Is(err, errAssumed) && !gone(err) {
		return w.attempt(batch, false)
	}
	return conflicts, err
}

// errAssumed: a revision that a writer expected is not there.
var errAssumed = errors.New("another revision is there than a writer expected")

// attempt is transact with one transaction; assume: expected revisions are taken for
// those that are there. Errors: errAssumed, with nothing changed.
func (w *writer) attempt(batch []*pending, assume bool) (conflicts []error, err error) {
	if err := w.exec(sqlBegin); err != nil {
		return nil, err
	}
	w.count++
	t := &transaction{w: w, assume: assume, cells: map[address]*cell{}}
	done := false
	defer func() { w.cache.end(t.cells, done) }()
	conflicts, err = t.run(batch)
	if err == nil && t.changed {
		err = w.exec(sqlCommit)
		if done = err == nil; done {
			return conflicts, nil
		}
	}
	// SQLite may have rolled back by itself, and then says that there is nothing to
	// roll back; the next transaction would tell if that were not so
	rolled := w.exec(sqlRollback)
	if err == nil {
		err = rolled
	} else if gone(rolled) {
		err = errors.Join(err, rolled)
	}
	return conflicts, err
}

// address names one entry.
type address struct{ bucket, key string }

// cell is what the transaction makes of one entry.
type cell struct {
	revision uint64 // 0: nothing is there
	value    []byte
	was      uint64 // the revision that the database has; 0: nothing
	changed  bool
}

// transaction collects what a batch changes and writes each entry once.
type transaction struct {
	w       *writer
	assume  bool // expected revisions are taken for those that are there
	assumed bool // that was done
	cells   map[address]*cell
	order   []address // of the changed ones, as they came
	floor   uint64    // the highest revision of a deletion
	before  uint64    // what it was
	known   bool      // it was read
	changed bool
}

func (t *transaction) run(batch []*pending) ([]error, error) {
	conflicts := make([]error, len(batch))
	for i, p := range batch {
		conflict, err := t.check(p.ops)
		if err != nil {
			return nil, err
		}
		if conflict != nil && t.assumed {
			return nil, errAssumed // whose conflict it is, is seen when all is asked for
		}
		if conflict != nil {
			conflicts[i] = conflict
			continue
		}
		for _, op := range p.ops {
			if err := t.apply(op); err != nil {
				return nil, err
			}
		}
	}
	return conflicts, t.flush()
}

// cell reads an entry's revision, once, or takes it to be the one that is expected.
func (t *transaction) cell(op store.Op) (*cell, error) {
	at := address{op.Bucket, op.Key}
	if c := t.cells[at]; c != nil {
		return c, nil
	}
	c := &cell{}
	rev, known := t.w.cache.begin(at)
	t.cells[at] = c // begun: whatever becomes of it, it is ended
	switch {
	case known:
	case t.assume && op.Value != nil && op.Expect > 0 && op.Expect != store.Any:
		rev, t.assumed = op.Expect, true
	default:
		var err error
		if rev, err = t.w.number(sqlRevision, op.Bucket, op.Key); err != nil {
			return nil, err
		}
	}
	c.revision, c.was = rev, rev
	return c, nil
}

// check compares every op's expected revision with what is there.
func (t *transaction) check(ops []store.Op) (conflict, err error) {
	for _, op := range ops {
		c, err := t.cell(op)
		if err != nil {
			return nil, err
		}
		if op.Expect != store.Any && op.Expect != c.revision {
			return &store.ConflictError{Bucket: op.Bucket, Key: op.Key, Expected: op.Expect, Have: c.revision}, nil
		}
	}
	return nil, nil
}

// apply notes one op. The rule of revisions is in package store.
func (t *transaction) apply(op store.Op) error {
	c, err := t.cell(op)
	if err != nil || op.Value == nil && c.revision == 0 {
		return err
	}
	if op.Value == nil || c.revision == 0 {
		if err := t.readFloor(); err != nil {
			return err
		}
	}
	switch {
	case op.Value == nil:
		t.floor = max(t.floor, c.revision+1)
		c.revision = 0
	case c.revision == 0:
		c.revision = t.floor + 1
	default:
		c.revision++
	}
	c.value = op.Value
	if !c.changed {
		t.order = append(t.order, address{op.Bucket, op.Key})
	}
	c.changed, t.changed = true, true
	return nil
}

func (t *transaction) readFloor() (err error) {
	if !t.known {
		t.before, err = t.w.number(sqlFloor)
		t.floor = t.before
		t.known = err == nil
	}
	return err
}

// update writes an entry in the place of the one that was there. Errors: errAssumed
// where that is not so.
func (t *transaction) update(at address, c *cell) error {
	sum := sum(at.bucket, at.key, c.revision, c.value)
	done, err := t.w.stmts[sqlUpdate].ExecContext(context.Background(), int64(c.revision), c.value, sum, at.bucket, at.key, int64(c.was))
	if err != nil {
		return err
	}
	n, err := done.RowsAffected()
	if err == nil && n != 1 {
		return errAssumed
	}
	return err
}

// flush writes what changed.
func (t *transaction) flush() error {
	for _, at := range t.order {
		c, err := t.cells[at], error(nil)
		switch {
		case c.revision > 0 && c.was > 0:
			err = t.update(at, c)
		case c.revision > 0:
			err = t.w.exec(sqlPut, at.bucket, at.key, int64(c.revision), c.value, sum(at.bucket, at.key, c.revision, c.value))
		case c.was > 0:
			err = t.w.exec(sqlDelete, at.bucket, at.key)
		}
		if err != nil {
			return err
		}
	}
	if t.floor == t.before {
		return nil
	}
	return t.w.exec(sqlSetFloor, int64(t.floor))
}
