package sqlite

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	lib "modernc.org/sqlite/lib"

	"github.com/spillway/spillway/store"
)

// kinds are the store's errors by SQLite's primary result code.
var kinds = map[int]error{
	lib.SQLITE_FULL:     store.ErrFull,
	lib.SQLITE_CORRUPT:  store.ErrDamaged,
	lib.SQLITE_NOTADB:   store.ErrDamaged,
	lib.SQLITE_FORMAT:   store.ErrDamaged,
	lib.SQLITE_READONLY: store.ErrReadOnly,
	lib.SQLITE_PERM:     store.ErrReadOnly,
	lib.SQLITE_BUSY:     store.ErrLocked,
	lib.SQLITE_LOCKED:   store.ErrLocked,
	lib.SQLITE_PROTOCOL: store.ErrLocked,
	lib.SQLITE_TOOBIG:   store.ErrInvalid,
	lib.SQLITE_IOERR:    syscall.EIO,
}

// code is SQLite's extended result code of an error, 0 where it has none.
func code(err error) int {
	var e interface {
		error
		Code() int
	}
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// classify turns the database's and the system's errors into the store's. A file
// that cannot be read or written is syscall.EIO, whatever the system said: SQLite
// does not tell. The log's index that cannot grow is a full disk.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if code(err) == lib.SQLITE_IOERR_SHMSIZE {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	if kind := kinds[code(err)&0xff]; kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", store.ErrReadOnly, err)
	}
	return err
}

// unreadable takes SQLite's word that a statement makes no sense, while a file is
// opened, for damage: the statements are right, so the file is not what they say.
func unreadable(err error) error {
	if code(err)&0xff == lib.SQLITE_ERROR {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	return err
}

// gone reports whether an error leaves the durability of what was written open, or
// the connection unusable: after a failed fsync the system takes pages for written
// that are not, and the next fsync says nothing of them.
func gone(err error) bool {
	switch code(err) {
	case lib.SQLITE_IOERR_FSYNC, lib.SQLITE_IOERR_DIR_FSYNC:
		return true
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
}
