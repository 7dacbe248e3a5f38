package sqlite

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	lib "modernc.org/sqlite/lib"

	"github.com/spillway/spillway/store"
)

// What the database says of the disk reaches a person as what it is.
func TestClassify(t *testing.T) {
	for _, c := range []struct{ err, want error }{
		{coded(lib.SQLITE_FULL), store.ErrFull},
		{coded(lib.SQLITE_IOERR_SHMSIZE), store.ErrFull},
		{coded(lib.SQLITE_IOERR_WRITE), syscall.EIO},
		{coded(lib.SQLITE_IOERR_FSYNC), syscall.EIO},
		{coded(lib.SQLITE_IOERR_READ), syscall.EIO},
		{coded(lib.SQLITE_CORRUPT), store.ErrDamaged},
		{coded(lib.SQLITE_BUSY_SNAPSHOT), store.ErrLocked},
		{syscall.ENOSPC, store.ErrFull},
		{syscall.EROFS, store.ErrReadOnly},
	} {
		for _, err := range []error{c.err, fmt.Errorf("somewhere: %w", c.err)} {
			if got := classify(err); !errors.Is(got, c.want) || !errors.Is(got, c.err) {
				t.Errorf("%v: got %v, want %v", err, got, c.want)
			}
		}
	}
	if classify(nil) != nil {
		t.Error("no error became one")
	}
}
