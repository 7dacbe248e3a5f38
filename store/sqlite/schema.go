package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/pressly/goose/v3"

	"github.com/spillway/spillway/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// application is SQLite's application_id of our files, "SPWY".
const application = 0x53505759

// migrate looks the file through and brings the schema up to date. A foreign, newer
// or damaged file is left as it is.
// alone: no other process uses the file, so the schema may change.
// Errors: store.ErrDamaged, ErrNewer, ErrLocked.
func migrate(ctx context.Context, db *sql.DB, alone bool) error {
	if err := ours(ctx, db); err != nil {
		return err
	}
	if err := examine(ctx, db); err != nil { // before anything is written to it
		return err
	}
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return err
	case have > want:
		return fmt.Errorf("%w: its schema has version %d, this program knows %d", store.ErrNewer, have, want)
	case have == want:
		return nil
	case !alone:
		return fmt.Errorf("%w: its schema must be brought up to date; end the others first", store.ErrLocked)
	}
	_, err = p.Up(ctx)
	return err
}

// ours refuses a database that something else made.
func ours(ctx context.Context, db *sql.DB) error {
	var id, tables, known int64
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	err := db.QueryRowContext(ctx, "SELECT count(*), coalesce(sum(name = 'goose_db_version'), 0) FROM sqlite_schema").Scan(&tables, &known)
	if err != nil {
		return err
	}
	if tables > 0 && id != application && (id != 0 || known == 0) {
		return fmt.Errorf("%w: it is a database of another program (application_id %d)", store.ErrDamaged, id)
	}
	return nil
}

// examine looks the whole file through. Errors: store.ErrDamaged, with what is
// wrong.
func examine(ctx context.Context, db *sql.DB) (err error) {
	rows, err := db.QueryContext(ctx, "PRAGMA quick_check(5)")
	if err != nil {
		return err
	}
	var found []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if line != "ok" {
			found = append(found, line)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: %s", store.ErrDamaged, strings.Join(found, "; "))
	}
	return rows.Close()
}

// explain adds to the error of a damaged file what its head says of it. It is read
// only while nobody else in this process may have it open: closing it would drop
// SQLite's locks.
func (s *Store) explain(err error) error {
	if !errors.Is(err, store.ErrDamaged) || !s.lock.alone() {
		return err
	}
	if s.write != nil {
		err = errors.Join(err, s.write.Close())
	}
	f, e := os.Open(s.path)
	if e != nil {
		return errors.Join(err, e)
	}
	defer f.Close()
	head := make([]byte, 32)
	info, e := f.Stat()
	if e != nil {
		return errors.Join(err, e)
	}
	if _, e := f.ReadAt(head, 0); e != nil {
		return fmt.Errorf("%w (it has only %d bytes)", err, info.Size())
	}
	if string(head[:16]) != "SQLite format 3\x00" {
		return fmt.Errorf("%w (it does not begin as one)", err)
	}
	page := int64(binary.BigEndian.Uint16(head[16:]))
	if page == 1 {
		page = 1 << 16
	}
	if want := page * int64(binary.BigEndian.Uint32(head[28:])); want != info.Size() {
		return fmt.Errorf("%w (it has %d bytes, its head says %d)", err, info.Size(), want)
	}
	return err
}
