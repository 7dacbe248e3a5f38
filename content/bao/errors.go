package bao

import (
	"errors"
	"fmt"
)

// What can be wrong with a slice, an outboard or the arguments. All are
// matched with errors.Is.
var (
	// ErrWrongBytes: a slice holds bytes that are not those of the root. The
	// error is a *WrongBytesError.
	ErrWrongBytes = errors.New("wrong bytes")
	// ErrTruncated: a slice ended before its last group. The error is a
	// *TruncatedError.
	ErrTruncated = errors.New("slice ends early")
	// ErrTrailing: bytes follow the last group of a slice.
	ErrTrailing = errors.New("bytes after the end of the slice")
	// ErrRange: a byte range is empty or not inside the content.
	ErrRange = errors.New("byte range outside the content")
	// ErrGroup: a group size is not a power of two from 1 to 16 KiB.
	ErrGroup = errors.New("group size is not a power of two from 1024 to 16384 bytes")
	// ErrSize: a content size is above MaxSize.
	ErrSize = errors.New("content too large")
	// ErrDamaged: an outboard does not hash to its root, or is cut short.
	ErrDamaged = errors.New("outboard damaged")
	// ErrSourceShort: the source ended before the size that was promised.
	ErrSourceShort = errors.New("source is shorter than its size")
	// ErrSourceWrong: the source holds other bytes than the outboard was
	// built from.
	ErrSourceWrong = errors.New("source differs from its outboard")
)

// Part says which part of a slice a WrongBytesError is about.
type Part string

// The parts of a slice.
const (
	PartHeader Part = "header" // the 8 bytes of the length
	PartNode   Part = "node"   // the 64 bytes of a parent
	PartGroup  Part = "group"  // a group of content
)

// WrongBytesError tells which bytes of a slice were wrong. It is what a
// diagnostic report about a provider is made of; it proves nothing to a third
// party, since nobody signed those bytes. It matches ErrWrongBytes.
type WrongBytesError struct {
	Part   Part
	Offset uint64   // first byte of the content that the part covers
	Length uint64   // bytes of the content that it covers
	Want   [32]byte // chaining value expected, zero for the header
	Got    [32]byte // chaining value of the bytes received, zero for the header
	Bytes  []byte   // the bytes received, at most one group
}

// Error says where the wrong bytes are.
func (e *WrongBytesError) Error() string {
	if e.Part == PartHeader {
		return "wrong bytes: the slice states another length than the content has"
	}
	return fmt.Sprintf("wrong bytes: %s for bytes %d to %d does not match the root", e.Part, e.Offset, e.Offset+e.Length)
}

// Is matches ErrWrongBytes.
func (e *WrongBytesError) Is(target error) bool { return target == ErrWrongBytes }

// TruncatedError tells how far a slice that ended early was verified. It
// matches ErrTruncated and what the reader reported.
type TruncatedError struct {
	Verified uint64 // every byte of the slice's range below this offset was verified and written
	Err      error  // io.EOF or io.ErrUnexpectedEOF
}

// Error says how far the slice was good.
func (e *TruncatedError) Error() string {
	return fmt.Sprintf("slice ends early: verified up to byte %d", e.Verified)
}

// Is matches ErrTruncated.
func (e *TruncatedError) Is(target error) bool { return target == ErrTruncated }

// Unwrap returns the reader's error.
func (e *TruncatedError) Unwrap() error { return e.Err }
