// Package store says how Spillway keeps what it must not forget: small values
// under a bucket and a key, each with a revision, saved compare-and-swap, several
// in one atomic and durable commit. Its subfolders hold the stores, and the suite
// that each passes.
//
// A store keeps bytes: it knows nothing of channels or bitcoin, and it never
// answers that something is saved before it is.
//
// # Revisions
//
// A key that was never there, in a store from which nothing was deleted, begins at
// revision 1. Each write of a key raises its revision by exactly 1, so whoever
// wrote with Expect = r (r > 0) knows without asking that the key is now at r+1.
// A key that is created after something was deleted begins above every revision
// that a deleted key had: no revision of a key ever comes back, and a writer that
// still holds one from before the deletion gets a conflict. Revisions are below
// 2^63; they are not comparable between keys.
package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Any, as Op.Expect, writes whatever the revision is.
const Any = math.MaxUint64

// Limits of what a store takes, in bytes.
const (
	MaxName  = 1 << 10  // a bucket, a key
	MaxValue = 64 << 20 // a value
)

// Errors of every store, for errors.Is.
var (
	ErrNotFound = errors.New("nothing is stored under this key")
	ErrConflict = errors.New("something else was saved meanwhile")
	ErrLocked   = errors.New("another process uses this data folder")
	ErrFull     = errors.New("the disk is full")
	ErrDamaged  = errors.New("the stored data is damaged")
	ErrReadOnly = errors.New("the data folder is read-only")
	ErrClosed   = errors.New("the store is closed")
	// ErrInvalid: no store keeps this, whatever its state; see Check.
	ErrInvalid = errors.New("this cannot be stored")
	// ErrNewer: a newer version of the program wrote the data.
	ErrNewer = errors.New("a newer version wrote this data")
	// ErrFailed: the disk refused to make a commit durable. Whether that commit is
	// there is known after the store is opened again; until then nothing is taken.
	ErrFailed = errors.New("the disk failed: close the store and open it again")
)

// Op is one write of a commit.
type Op struct {
	Bucket, Key string
	Value       []byte // nil deletes; empty is a value
	// Expect is the revision that must be there now; 0: nothing may be there.
	Expect uint64
}

// Entry is a stored value.
type Entry struct {
	Bucket, Key string
	Value       []byte
	Revision    uint64 // see the package's section on revisions
}

// ConflictError names what another writer changed.
type ConflictError struct {
	Bucket, Key    string
	Expected, Have uint64 // revisions; 0: nothing
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%v: %s %s is at revision %d, not %d", ErrConflict, e.Bucket, e.Key, e.Have, e.Expected)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// Store keeps entries. It is safe for concurrent use.
type Store interface {
	// Get reads an entry; the value is the caller's. Errors: ErrNotFound,
	// ErrDamaged, ErrClosed, of ctx.
	Get(ctx context.Context, bucket, key string) (Entry, error)
	// List reads a bucket's entries whose keys begin with prefix, as they were at
	// one moment, sorted by the bytes of their keys. Errors: ErrDamaged, ErrClosed,
	// of ctx.
	List(ctx context.Context, bucket, prefix string) ([]Entry, error)
	// Commit writes all ops or none; when it returns nil they are durable, and
	// every later Get and List sees them. A ctx that is over before the writing
	// begins commits nothing and gives its error; after that the answer is waited
	// for, and is true. Deleting what is not there, with Expect 0 or Any, does
	// nothing.
	// Errors: *ConflictError (the first op in conflict), ErrInvalid, ErrFull,
	// ErrReadOnly, ErrLocked, ErrFailed, ErrClosed, of ctx: with each of them,
	// ErrFailed apart, nothing was saved.
	Commit(ctx context.Context, ops ...Op) error
	// Close finishes the commits that were handed in and closes the store. A
	// second Close does nothing.
	Close() error
}

// Check tells whether ops are of a form that every store takes: a bucket and a key
// of 1 to MaxName bytes of UTF-8 without NUL, a value of at most MaxValue bytes, no
// key twice. Stores call it first in Commit. Errors: ErrInvalid.
func Check(ops []Op) error {
	for _, op := range ops {
		if err := errors.Join(checkName("bucket", op.Bucket), checkName("key", op.Key)); err != nil {
			return err
		}
		if len(op.Value) > MaxValue {
			return fmt.Errorf("%w: %s %s has %d bytes, at most %d", ErrInvalid, op.Bucket, op.Key, len(op.Value), MaxValue)
		}
	}
	if len(ops) < 2 {
		return nil
	}
	named := make(map[[2]string]bool, len(ops))
	for _, op := range ops {
		at := [2]string{op.Bucket, op.Key}
		if named[at] {
			return fmt.Errorf("%w: %s %s is named twice in one commit", ErrInvalid, op.Bucket, op.Key)
		}
		named[at] = true
	}
	return nil
}

func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the %s is empty", ErrInvalid, what)
	case len(name) > MaxName:
		return fmt.Errorf("%w: the %s has %d bytes, at most %d", ErrInvalid, what, len(name), MaxName)
	case !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("%w: the %s %q is no text", ErrInvalid, what, name)
	}
	return nil
}
