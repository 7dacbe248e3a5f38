package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/spillway/spillway/content/bao"
)

// Entry is a file of a catalogue as it was when it was hashed. It does not
// change: after an Update the catalogue has another one.
type Entry struct {
	found
	manifest Manifest
	terms    Terms
	cache    *cache
	handles  *handles
}

// Manifest returns the signed manifest.
func (e *Entry) Manifest() Manifest { return e.manifest }

// Path returns where the file lies on the provider's disk.
func (e *Entry) Path() string { return e.path() }

// Open opens the file and its tree for reading. ErrChanged where the file is
// not the one that was hashed any more, or its tree is lost: then Update, and
// open the new entry.
func (e *Entry) Open() (*Reader, error) {
	h := e.handles.take(e)
	if h == nil {
		var err error
		if h, err = e.openHandle(); err != nil {
			return nil, fmt.Errorf("%s: %w", e.manifest.Name, err)
		}
		e.handles.add(e, h)
		return &Reader{entry: e, h: h}, nil
	}
	// The file was opened earlier: has it changed, or another taken its name?
	info, err := os.Stat(e.path())
	if err == nil && stampOf(info) == e.stamp {
		return &Reader{entry: e, h: h}, nil
	}
	e.handles.drop(e)
	return nil, errors.Join(fmt.Errorf("%s: %w", e.manifest.Name, ErrChanged), e.handles.release(h))
}

func (e *Entry) openHandle() (*handle, error) {
	f, err := e.open()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	s, err := stampFile(f)
	if err == nil && s != e.stamp {
		err = ErrChanged
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t, err := e.cache.open(e.path(), e.manifest.GroupBytes, e.stamp)
	if err == nil && t.Root() != e.manifest.Root {
		err = errors.Join(bao.ErrDamaged, t.f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: its tree: %w", ErrChanged, err), f.Close())
	}
	return &handle{f: f, tree: t}, nil
}

// Reader reads an entry's file and its slices. It is safe for concurrent use
// until Close.
type Reader struct {
	entry  *Entry
	h      *handle
	closed atomic.Bool
}

// Manifest returns the manifest of what is read.
func (r *Reader) Manifest() Manifest { return r.entry.manifest }

// Close ends the reading. A second Close does nothing.
func (r *Reader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.entry.handles.release(r.h)
}

// unchanged compares the open file with what was hashed. A file that was
// replaced by another is still whole here, so only what a write changes counts.
func (r *Reader) unchanged() error {
	s, err := stampFile(r.h.f)
	if err != nil {
		return err
	}
	if want := r.entry.stamp; s.Size != want.Size || s.Mtime != want.Mtime {
		return ErrChanged
	}
	return nil
}

// WriteSlice writes to w the verified slice of length bytes from off, and
// keeps memory flat. Every run of bytes is written only after the file was
// found unchanged behind it: ErrChanged, also where the tree is damaged, which
// is forgotten and built again by Update. Other errors: ErrRange, the
// context's, w's.
func (r *Reader) WriteSlice(ctx context.Context, w io.Writer, off, length uint64) error {
	x := bao.Extractor{Source: r.h.f, Outboard: r.h.tree.Outboard, Unchanged: r.unchanged}
	return r.result(x.Slice(ctx, w, off, length))
}

// result names errors of the source and the tree as changes of the file.
func (r *Reader) result(err error) error {
	switch {
	case errors.Is(err, bao.ErrDamaged):
		r.entry.cache.drop(r.entry.path(), r.entry.manifest.GroupBytes)
		r.entry.handles.drop(r.entry)
	case errors.Is(err, bao.ErrSourceShort), errors.Is(err, bao.ErrSourceWrong):
	case errors.Is(err, ErrChanged):
		return fmt.Errorf("%s: %w", r.entry.manifest.Name, err)
	default:
		return err
	}
	return fmt.Errorf("%s: %w: %w", r.entry.manifest.Name, ErrChanged, err)
}

// plainRun is how much of a plain range is read at a time.
const plainRun = 128 << 10

var plainBuffers = sync.Pool{New: func() any { return new([plainRun]byte) }}

// WriteRange writes to w the plain bytes of length from off, with the same
// check for changes as WriteSlice. Nothing proves them to the receiver.
func (r *Reader) WriteRange(ctx context.Context, w io.Writer, off, length uint64) error {
	size := r.entry.manifest.Size
	if off > size || length > size-off {
		return fmt.Errorf("%w: %d bytes from %d of %d", ErrRange, length, off, size)
	}
	buf := plainBuffers.Get().(*[plainRun]byte)
	defer plainBuffers.Put(buf)
	for length > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(length, plainRun)]
		n, err := r.h.f.ReadAt(p, int64(off))
		if n < len(p) && errors.Is(err, io.EOF) {
			return r.result(bao.ErrSourceShort)
		} else if n < len(p) {
			return fmt.Errorf("read %s: %w", r.entry.manifest.Name, err)
		}
		if err := r.unchanged(); err != nil {
			return r.result(err)
		}
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("write range: %w", err)
		}
		off, length = off+uint64(n), length-uint64(n)
	}
	return nil
}
