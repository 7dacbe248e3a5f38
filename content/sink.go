package content

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"unicode/utf8"

	"github.com/spillway/spillway/content/bao"
)

// What can be wrong with a file that is being bought.
var (
	// ErrPartMissing: bytes are said to be verified, but the part file is gone
	// or has another size. Start again with empty ranges.
	ErrPartMissing = errors.New("part file is missing or was changed")
	// ErrBusy: another process writes the same part file.
	ErrBusy = errors.New("file is being written by another process")
	// ErrIncomplete: the file is not whole yet.
	ErrIncomplete = errors.New("file is not whole")
	// ErrExists: there is a file under the final name already.
	ErrExists = errors.New("file exists")
)

// zeroRun is the unit in which zeros become holes, in bytes: one group.
const zeroRun = bao.MaxGroup

// Sink is the file that a buyer fills with verified bytes, in any order. Until
// it is whole it is a part file beside its final name. Groups of zeros are
// left as holes. It is safe for concurrent use.
type Sink struct {
	path string
	part string
	size uint64
	f    *os.File
	tree *os.File // verified nodes of the hash tree

	mu       sync.Mutex
	have     Ranges
	fresh    Range // written one after the other, and not handed to the disk yet
	sparse   bool  // what is missing reads as zeros, so zeros need not be written
	renamed  bool
	finished bool // closed
}

// PartPath returns the name of the part file for content that becomes path:
// beside it, and with the root's first digits, so that other content for the
// same name has another part file.
func PartPath(path string, root Hash) string {
	dir, base := filepath.Split(path)
	suffix := "." + hex.EncodeToString(root[:4]) + ".part"
	for len(base)+len(suffix) > maxElement {
		_, n := utf8.DecodeLastRuneInString(base)
		base = base[:len(base)-n]
	}
	return dir + base + suffix
}

// OpenSink opens, or makes, the part file for content of size bytes that
// becomes path. verified are the bytes that an earlier run wrote, synced and
// journalled; nil for none. Everything else in the part file is discarded.
// Errors: ErrBusy, ErrPartMissing, and the file system's.
func OpenSink(path string, size uint64, root Hash, verified *Ranges) (*Sink, error) {
	if size > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", bao.ErrSize, size)
	}
	s := &Sink{path: path, part: PartPath(path, root), size: size}
	if verified != nil {
		s.have = *verified.Clone()
	}
	if s.have.Within(size, ^uint64(0)) > 0 {
		return nil, fmt.Errorf("%w: ranges beyond the end", ErrRanges)
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.f.Close())
	}
	if err := s.openTree(); err != nil {
		return nil, errors.Join(err, s.f.Close())
	}
	return s, nil
}

// open locks the part file, or a new one where nothing is verified: an old one
// is never emptied in place, since a crash in Finish can leave it with the
// final name too.
func (s *Sink) open() error {
	f, err := os.OpenFile(s.part, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	switch {
	case err == nil:
		err = s.claim(f)
	case errors.Is(err, fs.ErrNotExist) && s.have.Total() > 0:
		return fmt.Errorf("%w: %s", ErrPartMissing, s.part)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	default:
		return fmt.Errorf("open part file: %w", err)
	}
	if err == nil && s.have.Total() > 0 {
		s.f = f
		return nil
	}
	if err == nil && f != nil {
		err = os.Remove(s.part)
	}
	if err == nil {
		err = s.create()
	}
	if f != nil {
		err = errors.Join(err, f.Close())
	}
	return err
}

// claim locks f and makes sure that it is still the part file: another process
// may have finished it in between.
func (s *Sink) claim(f *os.File) error {
	if err := lockFile(f); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("part file: %w", err)
	}
	if now, err := os.Lstat(s.part); err != nil || !os.SameFile(info, now) {
		return fmt.Errorf("%w: %s", ErrBusy, s.part)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file", ErrPartMissing, s.part)
	}
	return nil
}

func (s *Sink) create() error {
	f, err := os.OpenFile(s.part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrBusy, s.part)
	}
	if err != nil {
		return fmt.Errorf("make part file: %w", err)
	}
	err = s.claim(f)
	if err == nil {
		err = syncDir(filepath.Dir(s.part))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.f = f
	return nil
}

// prepare sizes a new part file; of an old one it checks the size and empties
// what is not verified.
func (s *Sink) prepare() error {
	s.sparse = true
	if s.have.Total() == 0 {
		if err := s.f.Truncate(int64(s.size)); err != nil {
			return fmt.Errorf("size part file: %w", err)
		}
		return nil
	}
	info, err := s.f.Stat()
	if err != nil {
		return fmt.Errorf("part file: %w", err)
	}
	if uint64(info.Size()) != s.size {
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrPartMissing, s.part, info.Size(), s.size)
	}
	for _, r := range s.have.Missing(0, s.size) {
		if err := punchHole(s.f, r); err != nil {
			s.sparse = false // zeros are then written like other bytes
			break
		}
	}
	return nil
}

// PartPath returns the name of the part file.
func (s *Sink) PartPath() string { return s.part }

// WriteAt writes verified bytes at their offset; where they are zeros it
// leaves a hole. It never writes beyond the file's size.
func (s *Sink) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || uint64(off) > s.size || uint64(len(p)) > s.size-uint64(off) {
		return 0, fmt.Errorf("%w: %d bytes at %d of %d", ErrRange, len(p), off, s.size)
	}
	for done := 0; done < len(p); {
		run, zero := s.nextRun(p[done:], off+int64(done))
		if !zero {
			if n, err := s.f.WriteAt(p[done:done+run], off+int64(done)); err != nil {
				return done + n, fmt.Errorf("write part file: %w", err)
			}
		}
		done += run
	}
	if due := s.wrote(uint64(off), uint64(off)+uint64(len(p))); due.Len() > 0 {
		if err := beginSync(s.f, due); err != nil {
			return len(p), fmt.Errorf("write part file: %w", err)
		}
	}
	return len(p), nil
}

// handOver is how many bytes in a row are handed to the disk at once: in a large chunk
// it writes while the rest comes, and the sync before the payment has little to wait for.
const handOver = 2 << 20

// wrote notes bytes that were written and returns those that are to be handed to the
// disk now; none mostly.
func (s *Sink) wrote(start, end uint64) (due Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have.Add(start, end)
	if start != s.fresh.End {
		s.fresh = Range{Start: start}
	}
	if s.fresh.End = end; s.fresh.Len() < handOver {
		return Range{}
	}
	due = s.fresh
	s.fresh.Start = end
	return due
}

var zeroGroup [zeroRun]byte

// nextRun returns how many of the first bytes of p belong together: groups, at
// multiples of the group size in the file, that are all zeros or all not.
func (s *Sink) nextRun(p []byte, off int64) (run int, zero bool) {
	if !s.sparse {
		return len(p), false
	}
	for run < len(p) {
		n := min(len(p)-run, zeroRun-int((off+int64(run))%zeroRun))
		z := bytes.Equal(p[run:run+n], zeroGroup[:n])
		if run > 0 && z != zero {
			break
		}
		zero = z
		run += n
	}
	return run, zero
}

// Verified returns the bytes written so far. They are durable once a Sync that
// began later has returned: take Verified first, then Sync, then journal.
func (s *Sink) Verified() *Ranges {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have.Clone()
}

// Sync makes what was written durable.
func (s *Sink) Sync() error {
	if err := syncData(s.f); err != nil {
		return fmt.Errorf("sync part file: %w", err)
	}
	return nil
}

// CheckRoot reads the whole file back and compares its hash with the root:
// bao.ErrSourceWrong where it differs. Every byte was verified before it was
// written; this finds what the disk did since.
func (s *Sink) CheckRoot(ctx context.Context, root Hash, progress func(done uint64)) error {
	got, err := bao.Root(ctx, s.f, s.size, bao.BuildConfig{Progress: progress})
	if err != nil {
		return err
	}
	if got != root {
		return fmt.Errorf("%s: %w", s.part, bao.ErrSourceWrong)
	}
	return nil
}

// Finish gives the file its final name, durably, and closes it. Only a whole
// file is renamed (ErrIncomplete), and only where replace is set over an
// existing file (ErrExists). After an error Finish can be called again.
func (s *Sink) Finish(replace bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if missing := s.have.Missing(0, s.size); len(missing) > 0 {
		return fmt.Errorf("%w: %d of %d bytes missing", ErrIncomplete, s.size-s.have.Total(), s.size)
	}
	if err := s.Sync(); err != nil {
		return err
	}
	if !s.renamed {
		if err := s.rename(replace); err != nil {
			return err
		}
		s.renamed = true
	}
	if err := removeIfThere(TreePath(s.part)); err != nil {
		return fmt.Errorf("remove hash tree: %w", err)
	}
	if err := syncDir(filepath.Dir(s.path)); err != nil {
		return err
	}
	s.finished = true
	return errors.Join(s.tree.Close(), s.f.Close())
}

func (s *Sink) rename(replace bool) error {
	own, err := s.f.Stat()
	if err != nil {
		return fmt.Errorf("part file: %w", err)
	}
	there, err := os.Lstat(s.path)
	switch {
	case err == nil && os.SameFile(own, there):
		// A crash between link and removal: only the removal is left.
		return s.removePart()
	case err == nil && !replace:
		return fmt.Errorf("%w: %s", ErrExists, s.path)
	case !replace:
		// A link fails where the name was taken meanwhile, a rename does not.
		if err := os.Link(s.part, s.path); err == nil {
			return s.removePart()
		} else if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: %s", ErrExists, s.path)
		}
	}
	if err := os.Rename(s.part, s.path); err != nil {
		return fmt.Errorf("name the file: %w", err)
	}
	return nil
}

func (s *Sink) removePart() error {
	if err := os.Remove(s.part); err != nil {
		return fmt.Errorf("remove part file: %w", err)
	}
	return nil
}

// Close releases the part file and keeps it for a later OpenSink. After
// Finish it does nothing.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished {
		return nil
	}
	s.finished = true
	return errors.Join(s.tree.Close(), s.f.Close())
}

// Discard releases the part file and removes it.
func (s *Sink) Discard() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished {
		return nil
	}
	s.finished = true
	return errors.Join(os.Remove(s.part), removeIfThere(TreePath(s.part)), s.tree.Close(), s.f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}
