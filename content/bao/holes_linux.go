package bao

import (
	"errors"
	"io"
	"math"
	"os"
	"syscall"
)

const seekData = 3 // SEEK_DATA of lseek(2)

// fileHoles asks the file system. It moves the file's offset, which reads at
// an offset do not use.
type fileHoles struct{ f *os.File }

// NextData returns the first offset from off on that is not in a hole.
func (h fileHoles) NextData(off int64) (int64, error) {
	next, err := h.f.Seek(off, seekData)
	switch {
	case err == nil:
		return next, nil
	case errors.Is(err, syscall.ENXIO): // nothing but a hole up to the end
		return math.MaxInt64, nil
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOTSUP):
		return off, nil // the file system knows no holes
	}
	return 0, err
}

func holeFinder(src io.ReaderAt) HoleFinder {
	switch s := src.(type) {
	case HoleFinder:
		return s
	case *os.File:
		return fileHoles{s}
	}
	return nil
}
