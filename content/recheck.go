package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/spillway/spillway/content/bao"
)

// recheckBytes is how much is verified at once when a part file is read back; where
// that is wrong its groups are looked at one by one.
const recheckBytes = 1 << 20

// ErrNoTree: of a part file's hash tree nothing was kept, so its bytes can't be
// verified again one by one.
var ErrNoTree = errors.New("the hash tree of the part file is gone")

// TreePath is the name of the file beside a part file that keeps the verified nodes
// of its hash tree. It is an outboard with gaps; nothing in it has to be believed.
func TreePath(part string) string { return strings.TrimSuffix(part, ".part") + ".tree" }

// RemovePart removes the part file of content that would become path, and its tree.
func RemovePart(path string, root Hash) error {
	part := PartPath(path, root)
	return errors.Join(removeIfThere(part), removeIfThere(TreePath(part)))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// openTree opens the tree, or a new one where nothing is verified.
func (s *Sink) openTree() error {
	flags := os.O_RDWR | os.O_CREATE | syscall.O_NOFOLLOW
	if s.have.Total() == 0 {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(TreePath(s.part), flags, 0o644)
	if err != nil {
		return fmt.Errorf("open hash tree: %w", err)
	}
	if _, err := f.WriteAt(bao.Header(s.size), 0); err != nil {
		return errors.Join(fmt.Errorf("write hash tree: %w", err), f.Close())
	}
	s.tree = f
	return nil
}

// WriteNodes implements bao.NodeWriter.
func (s *Sink) WriteNodes(p []byte, index uint64) error {
	_, err := s.tree.WriteAt(p, bao.NodeOffset(index))
	return err
}

// Recheck reads bytes of a range that are said to be verified back and verifies them
// against the root again. Those that are right go to w, in order; groups that are
// wrong or not whole, or of which the tree was lost, are no longer verified when it
// returns, and are returned. progress is told how far it is. Errors: ErrNoTree, then nothing has
// changed; the context's, those of w and the file system's.
func (s *Sink) Recheck(ctx context.Context, root Hash, groupBytes uint32, within Range, w io.WriterAt, progress func(done uint64)) (bad *Ranges, err error) {
	ob, err := bao.NewOutboard(s.tree, root, s.size, groupBytes)
	if errors.Is(err, bao.ErrDamaged) {
		return nil, fmt.Errorf("%w: %w", ErrNoTree, err)
	} else if err != nil {
		return nil, err
	}
	c := recheck{s: s, ctx: ctx, ob: ob, w: w, bad: &Ranges{}}
	for _, r := range s.Verified().List() {
		start, end := max(r.Start, within.Start), min(r.End, within.End)
		for start < end {
			upto := min(end, (start/recheckBytes+1)*recheckBytes)
			if err := c.piece(Range{start, upto}, uint64(groupBytes)); err != nil {
				return c.bad, err
			}
			start = upto
			if progress != nil {
				progress(start)
			}
		}
	}
	return c.bad, s.forget(c.bad)
}

type recheck struct {
	s   *Sink
	ctx context.Context
	ob  *bao.Outboard
	w   io.WriterAt
	bad *Ranges
	buf bytes.Buffer
}

// piece verifies a range, and its groups where it is not right.
func (c *recheck) piece(r Range, group uint64) error {
	ok, err := c.right(r)
	if ok || err != nil {
		return err
	}
	for start := r.Start; start < r.End; {
		upto := min(r.End, (start/group+1)*group)
		if ok, err := c.right(Range{start, upto}); err != nil {
			return err
		} else if !ok {
			c.bad.Add(start/group*group, min((start/group+1)*group, c.s.size))
		}
		start = upto
	}
	return nil
}

// right reports whether a range is what the root says. It is cut out of the file as
// a slice, which is then verified like one that came over the network.
func (c *recheck) right(r Range) (bool, error) {
	c.buf.Reset()
	err := bao.ExtractSlice(c.ctx, &c.buf, c.s.f, c.ob, r.Start, r.Len())
	if err == nil {
		err = bao.DecodeSlice(c.ctx, c.w, &c.buf, bao.Slice{
			Root: c.ob.Root(), Size: c.s.size, GroupBytes: c.ob.GroupBytes(), Offset: r.Start, Length: r.Len(),
		}, nil)
	}
	if errors.Is(err, bao.ErrDamaged) || errors.Is(err, bao.ErrWrongBytes) || errors.Is(err, bao.ErrSourceShort) {
		return false, nil
	}
	return err == nil, err
}

// forget takes bytes out of what is verified, and empties them.
func (s *Sink) forget(bad *Ranges) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left Ranges
	for _, r := range s.have.List() {
		for _, good := range bad.Missing(r.Start, r.End) {
			left.Add(good.Start, good.End)
		}
	}
	s.have = left
	for _, r := range bad.List() {
		if err := punchHole(s.f, r); err != nil {
			s.sparse = false // zeros are then written like other bytes
		}
	}
	return nil
}
