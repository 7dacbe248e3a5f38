package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/spillway/spillway/store"
)

// Verify looks a store through, every page and every entry's checksum, and changes
// nothing. Any process may be using it meanwhile. Errors: fs.ErrNotExist, store.ErrDamaged,
// of ctx and of the file system.
func Verify(ctx context.Context, path string) (err error) {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	q := url.Values{"mode": {"rw"}, "_pragma": {"busy_timeout(10000)", "query_only(1)"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := ours(ctx, db); err != nil {
		return fmt.Errorf("%s: %w", path, unreadable(classify(err)))
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("%s: %w", path, unreadable(classify(err)))
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s: %s", store.ErrDamaged, path, verdict)
	}
	return (&Store{read: db}).verify(ctx)
}
