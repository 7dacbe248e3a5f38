package bao

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"lukechampine.com/blake3/guts"
)

// runBytes is how much content is read, checked and written at a time.
const runBytes = 128 << 10

// Outboard is a tree that can be read by seeking. It is safe for concurrent
// use when its reader is.
type Outboard struct {
	r     io.ReaderAt
	root  [32]byte
	size  uint64
	group uint64
}

// NewOutboard returns the outboard that r holds from offset 0 on, for content
// of size bytes with the given root. The header and the top node are checked
// at once (ErrDamaged), every other node when a slice uses it.
func NewOutboard(r io.ReaderAt, root [32]byte, size uint64, groupBytes uint32) (*Outboard, error) {
	if err := checkTree(size, groupBytes); err != nil {
		return nil, err
	}
	o := &Outboard{r: r, root: root, size: size, group: uint64(groupBytes)}
	var head [headerBytes]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrDamaged, err)
	}
	if binary.LittleEndian.Uint64(head[:]) != size {
		return nil, fmt.Errorf("%w: header states another size", ErrDamaged)
	}
	if parents(size, o.group) == 0 {
		return o, nil
	}
	var top [nodeBytes]byte
	if err := o.nodes(top[:], 0); err != nil {
		return nil, err
	}
	if parentCV(cvOf(top[:]), cvOf(top[32:]), guts.FlagRoot) != cvOf(root[:]) {
		return nil, fmt.Errorf("%w: top node does not hash to the root", ErrDamaged)
	}
	return o, nil
}

// Root returns the plain BLAKE3 hash of the content.
func (o *Outboard) Root() [32]byte { return o.root }

// Size returns the bytes of the content.
func (o *Outboard) Size() uint64 { return o.size }

// GroupBytes returns the group size in bytes.
func (o *Outboard) GroupBytes() uint32 { return uint32(o.group) }

// nodes reads the nodes from the pre-order number index on.
func (o *Outboard) nodes(p []byte, index uint64) error {
	n, err := o.r.ReadAt(p, int64(headerBytes+nodeBytes*index))
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: cut short", ErrDamaged)
	}
	return fmt.Errorf("read outboard: %w", err)
}

// Extractor cuts slices out of a source with its outboard.
type Extractor struct {
	Source   io.ReaderAt
	Outboard *Outboard
	// Unchanged, where set, is asked after each run of content was read and
	// before it is written; its error ends the slice. So what was written is
	// older than the last check.
	Unchanged func() error
	// VerifySource hashes the content too (ErrSourceWrong), so that no wrong
	// byte leaves, at the price of one more hash.
	VerifySource bool
}

// ExtractSlice writes to w the slice of length bytes from off. It reads O(slice
// + log size) bytes by seeking and keeps memory flat. The nodes that it sends
// are verified against the root first (ErrDamaged). Errors: ErrRange,
// ErrDamaged, ErrSourceShort, the context's, and those of w and the source.
func ExtractSlice(ctx context.Context, w io.Writer, src io.ReaderAt, ob *Outboard, off, length uint64) error {
	e := Extractor{Source: src, Outboard: ob}
	return e.Slice(ctx, w, off, length)
}

// Slice writes to w the slice of length bytes from off, as ExtractSlice does.
func (e *Extractor) Slice(ctx context.Context, w io.Writer, off, length uint64) error {
	ob := e.Outboard
	if err := checkRange(ob.size, off, length); err != nil {
		return err
	}
	b := extractBuffers.Get().(*extractBuffer)
	defer extractBuffers.Put(b)
	x := &extraction{Extractor: e, ctx: ctx, w: w, b: b, off: off, end: off + length}
	x.out = binary.LittleEndian.AppendUint64(b.out[:0], ob.size)
	if length > 0 {
		if err := x.subtree(0, ob.size, 0, cvOf(ob.root[:])); err != nil {
			return err
		}
	}
	return x.flush()
}

// extractBuffer is what one extraction needs, whatever it extracts.
type extractBuffer struct {
	data  [runBytes]byte
	nodes [(runBytes/MinGroup - 1) * nodeBytes]byte
	out   [headerBytes + 2*64*nodeBytes + runBytes + runBytes/MinGroup*nodeBytes]byte
	cvs   [runBytes / MinGroup]cv
}

var extractBuffers = sync.Pool{New: func() any { return new(extractBuffer) }}

type extraction struct {
	*Extractor
	ctx      context.Context
	w        io.Writer
	b        *extractBuffer
	out      []byte // pending bytes of the slice
	off, end uint64
}

// subtree emits the part of the slice that lies in the subtree of n bytes at
// pos whose first node is index and whose chaining value is want.
func (x *extraction) subtree(pos, n, index uint64, want cv) error {
	if pos >= x.end || pos+n <= x.off {
		return nil
	}
	whole := x.off <= pos && pos+n <= x.end
	if n <= x.Outboard.group || (whole && n <= runBytes) {
		return x.run(pos, n, index, want)
	}
	node := x.b.nodes[:nodeBytes]
	if err := x.Outboard.nodes(node, index); err != nil {
		return err
	}
	l, r, err := x.checkNode(node, n, want)
	if err != nil {
		return err
	}
	x.out = append(x.out, node...)
	mid := split(n)
	if err := x.subtree(pos, mid, index+1, l); err != nil {
		return err
	}
	return x.subtree(pos+mid, n-mid, index+1+parents(mid, x.Outboard.group), r)
}

func (x *extraction) checkNode(node []byte, n uint64, want cv) (l, r cv, err error) {
	l, r = cvOf(node), cvOf(node[32:])
	if parentCV(l, r, rootFlag(n, x.Outboard.size)) != want {
		return l, r, fmt.Errorf("%w: a node does not hash to its parent", ErrDamaged)
	}
	return l, r, nil
}

// run emits a whole subtree of at most runBytes, read at once.
func (x *extraction) run(pos, n, index uint64, want cv) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	data := x.b.data[:n]
	if err := readSource(x.Source, data, pos); err != nil {
		return err
	}
	if x.Unchanged != nil {
		if err := x.Unchanged(); err != nil {
			return err
		}
	}
	nodes := x.b.nodes[:nodeBytes*parents(n, x.Outboard.group)]
	if len(nodes) > 0 {
		if err := x.Outboard.nodes(nodes, index); err != nil {
			return err
		}
	}
	if len(x.out)+int(n)+len(nodes) > cap(x.out) {
		if err := x.flush(); err != nil {
			return err
		}
	}
	var cvs []cv
	if x.VerifySource {
		cvs = groupCVs(x.b.cvs[:0], data, pos, x.Outboard.group)
		if n == x.Outboard.size && len(cvs) == 1 {
			cvs[0] = groupCV(data, pos, guts.FlagRoot)
		}
	}
	if err := x.interleave(data, nodes, cvs, want); err != nil {
		return err
	}
	if len(x.out) >= runBytes {
		return x.flush()
	}
	return nil
}

// interleave appends nodes and groups in pre-order. cvs are the groups' own
// hashes, or empty.
func (x *extraction) interleave(data, nodes []byte, cvs []cv, want cv) error {
	n, group := uint64(len(data)), x.Outboard.group
	if n <= group {
		if len(cvs) > 0 && cvs[0] != want {
			return ErrSourceWrong
		}
		x.out = append(x.out, data...)
		return nil
	}
	l, r, err := x.checkNode(nodes, n, want)
	if err != nil {
		return err
	}
	x.out = append(x.out, nodes[:nodeBytes]...)
	mid := split(n)
	cut := nodeBytes * (1 + parents(mid, group))
	var left, right []cv
	if len(cvs) > 0 {
		left, right = cvs[:mid/group], cvs[mid/group:]
	}
	if err := x.interleave(data[:mid], nodes[nodeBytes:cut], left, l); err != nil {
		return err
	}
	return x.interleave(data[mid:], nodes[cut:], right, r)
}

func (x *extraction) flush() error {
	if len(x.out) == 0 {
		return nil
	}
	if err := x.ctx.Err(); err != nil {
		return err
	}
	if _, err := x.w.Write(x.out); err != nil {
		return fmt.Errorf("write slice: %w", err)
	}
	x.out = x.b.out[:0]
	return nil
}

// readSource fills p from pos of the source.
func readSource(src io.ReaderAt, p []byte, pos uint64) error {
	n, err := src.ReadAt(p, int64(pos))
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %d bytes", ErrSourceShort, pos+uint64(n))
	}
	return fmt.Errorf("read source: %w", err)
}
