// Package store says how Spillway keeps what it must not forget: small values
// under a bucket and a key, each with a revision, saved compare-and-swap, several
// in one atomic and durable commit. Its subfolders hold the stores, and the suite
// that each passes.
//
// A store keeps bytes: it knows nothing of channels or bitcoin.
package store

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Any, as Op.Expect, writes whatever the revision is.
const Any = math.MaxUint64

// Errors of every store, for errors.Is.
var (
	ErrNotFound = errors.New("nothing is stored under this key")
	ErrConflict = errors.New("something else was saved meanwhile")
	ErrLocked   = errors.New("another process uses this data folder")
	ErrFull     = errors.New("the disk is full")
	ErrDamaged  = errors.New("the stored data is damaged")
	ErrReadOnly = errors.New("the data folder is read-only")
	ErrClosed   = errors.New("the store is closed")
)

// Op is one write of a commit.
type Op struct {
	Bucket, Key string
	Value       []byte // nil deletes
	// Expect is the revision that must be there now; 0: nothing may be there.
	Expect uint64
}

// Entry is a stored value.
type Entry struct {
	Bucket, Key string
	Value       []byte
	Revision    uint64 // rises with each write of the store, never repeats for a key
}

// ConflictError names what another writer changed.
type ConflictError struct {
	Bucket, Key    string
	Expected, Have uint64 // revisions; 0: nothing
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%v: %s %s is at revision %d, not %d", ErrConflict, e.Bucket, e.Key, e.Have, e.Expected)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// Store keeps entries. It is safe for concurrent use.
type Store interface {
	// Get reads an entry. Errors: ErrNotFound.
	Get(ctx context.Context, bucket, key string) (Entry, error)
	// List reads a bucket's entries whose keys begin with prefix, sorted by key.
	List(ctx context.Context, bucket, prefix string) ([]Entry, error)
	// Commit writes all ops or none; when it returns nil they are durable.
	// Errors: *ConflictError, ErrFull, ErrReadOnly, ErrClosed.
	Commit(ctx context.Context, ops ...Op) error
	// Close waits for what was acknowledged and closes the store.
	Close() error
}
