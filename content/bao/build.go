package bao

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"
)

const (
	blockBytes = 256 << 10 // read and hashed at a time by a worker
	unitBytes  = 4 << 20   // the least that a worker takes at once
	maxUnits   = 1 << 16   // so many chaining values are held at most
)

// BuildConfig tunes Build. The zero value is good.
type BuildConfig struct {
	// Workers hash in parallel; 0 means one per processor.
	Workers int
	// Progress, where set, is told the bytes hashed so far, now and then and
	// at the end, from one goroutine at a time.
	Progress func(done uint64)
}

// HoleFinder is what a source may implement to have its holes hashed without
// being read. Files on Linux are asked by Build itself.
type HoleFinder interface {
	// NextData returns the first offset from off on that may hold something
	// else than zeros; the size of the source or more where none does.
	NextData(off int64) (int64, error)
}

// Build reads size bytes from src, writes their outboard to dst, where dst is
// not nil, and returns the root, the plain BLAKE3 hash. Subtrees are hashed in
// parallel; dst is written at OutboardSize bytes in no particular order, and
// each byte once. Memory stays flat. Errors: ErrGroup, ErrSize,
// ErrSourceShort, the context's, and those of src and dst.
func Build(ctx context.Context, src io.ReaderAt, size uint64, groupBytes uint32, dst io.WriterAt, cfg BuildConfig) ([32]byte, error) {
	if err := checkTree(size, groupBytes); err != nil {
		return [32]byte{}, err
	}
	b := &builder{src: src, dst: dst, size: size, group: uint64(groupBytes), unit: unitBytes, progress: cfg.Progress}
	b.holes = holeFinder(src)
	for groups(size, b.unit) > maxUnits {
		b.unit *= 2
	}
	if dst != nil {
		var head [headerBytes]byte
		binary.LittleEndian.PutUint64(head[:], size)
		if _, err := dst.WriteAt(head[:], 0); err != nil {
			return [32]byte{}, fmt.Errorf("write outboard: %w", err)
		}
	}
	if size == 0 {
		return blake3.Sum256(nil), nil
	}
	b.cvs = make([]cv, groups(size, b.unit))
	workers := cfg.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	if err := b.hashUnits(ctx, min(workers, len(b.cvs))); err != nil {
		return [32]byte{}, err
	}
	root, err := b.join(0, size, 0)
	return cvBytes(root), err
}

// Root reads size bytes from src and returns their plain BLAKE3 hash. Errors
// are those of Build.
func Root(ctx context.Context, src io.ReaderAt, size uint64, cfg BuildConfig) ([32]byte, error) {
	return Build(ctx, src, size, MaxGroup, nil, cfg)
}

type builder struct {
	src      io.ReaderAt
	dst      io.WriterAt
	holes    HoleFinder
	size     uint64
	group    uint64
	unit     uint64
	cvs      []cv // of the units, in order
	progress func(uint64)

	mu   sync.Mutex // guards the rest
	next int
	done uint64
	err  error
}

// hashUnits fills b.cvs with so many workers, and returns the first error.
func (b *builder) hashUnits(ctx context.Context, workers int) error {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			w := &buildWorker{builder: b, ctx: ctx, buildBuffer: buildBuffers.Get().(*buildBuffer)}
			defer buildBuffers.Put(w.buildBuffer)
			for u, ok := b.take(); ok; u, ok = b.take() {
				if err := w.hashUnit(u); err != nil {
					b.fail(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return b.err
}

func (b *builder) take() (u int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil || b.next == len(b.cvs) {
		return 0, false
	}
	b.next++
	return b.next - 1, true
}

func (b *builder) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

func (b *builder) advance(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += n
	if b.progress != nil {
		b.progress(b.done)
	}
}

// join writes the nodes above the units and returns the chaining value of the
// subtree of n bytes at pos.
func (b *builder) join(pos, n, index uint64) (cv, error) {
	if n <= b.unit {
		return b.cvs[pos/b.unit], nil
	}
	mid := split(n)
	l, err := b.join(pos, mid, index+1)
	if err != nil {
		return cv{}, err
	}
	r, err := b.join(pos+mid, n-mid, index+1+parents(mid, b.group))
	if err != nil {
		return cv{}, err
	}
	return b.parent(l, r, n, index)
}

// parent writes one node and returns its chaining value.
func (b *builder) parent(l, r cv, n, index uint64) (cv, error) {
	var node [nodeBytes]byte
	putCV(node[:], &l)
	putCV(node[32:], &r)
	return parentCV(l, r, rootFlag(n, b.size)), b.write(node[:], index)
}

func (b *builder) write(p []byte, index uint64) error {
	if b.dst == nil || len(p) == 0 {
		return nil
	}
	if _, err := b.dst.WriteAt(p, int64(headerBytes+nodeBytes*index)); err != nil {
		return fmt.Errorf("write outboard: %w", err)
	}
	return nil
}

// buildWorker hashes units, each with buffers of its own.
type buildWorker struct {
	*builder
	ctx      context.Context
	holeFrom uint64 // a hole that was found: holeFrom to holeEnd
	holeEnd  uint64
	*buildBuffer
}

type buildBuffer struct {
	buf   [blockBytes + MaxGroup]byte // the last MaxGroup are room for the hash
	cvs   [blockBytes / MinGroup]cv
	nodes [(blockBytes/MinGroup - 1) * nodeBytes]byte
}

var buildBuffers = sync.Pool{New: func() any { return new(buildBuffer) }}

func (w *buildWorker) hashUnit(u int) error {
	pos := uint64(u) * w.unit
	n := min(w.unit, w.size-pos)
	c, err := w.subtree(pos, n, nodeIndex(w.size, w.group, pos, n))
	if err != nil {
		return err
	}
	w.builder.cvs[u] = c
	return nil
}

// subtree hashes n bytes at pos and writes their nodes from index on.
func (w *buildWorker) subtree(pos, n, index uint64) (cv, error) {
	if n <= blockBytes {
		return w.block(pos, n, index)
	}
	mid := split(n)
	l, err := w.subtree(pos, mid, index+1)
	if err != nil {
		return cv{}, err
	}
	r, err := w.subtree(pos+mid, n-mid, index+1+parents(mid, w.group))
	if err != nil {
		return cv{}, err
	}
	return w.parent(l, r, n, index)
}

func (w *buildWorker) block(pos, n, index uint64) (cv, error) {
	if err := w.ctx.Err(); err != nil {
		return cv{}, err
	}
	cvs := w.buildBuffer.cvs[:0]
	hole, err := w.inHole(pos, n)
	switch {
	case err != nil:
		return cv{}, err
	case hole:
		cvs = zeroCVs(cvs, pos, n, w.group)
	default:
		if err := readSource(w.src, w.buf[:n], pos); err != nil {
			return cv{}, err
		}
		cvs = groupCVs(cvs, w.buf[:n], pos, w.group)
	}
	if len(cvs) == 1 && n == w.size {
		cvs[0] = groupCV(w.buf[:n], pos, guts.FlagRoot)
	}
	nodes := w.nodes[:nodeBytes*(len(cvs)-1)]
	c := fold(cvs, nodes, rootFlag(n, w.size))
	w.advance(n)
	return c, w.write(nodes, index)
}

// inHole tells whether n bytes at pos are known to be zeros.
func (w *buildWorker) inHole(pos, n uint64) (bool, error) {
	if w.holes == nil || n < blockBytes {
		return false, nil
	}
	if w.holeFrom <= pos && pos+n <= w.holeEnd {
		return true, nil
	}
	data, err := w.holes.NextData(int64(pos))
	if err != nil {
		return false, fmt.Errorf("look for holes: %w", err)
	}
	if data <= int64(pos) {
		return false, nil
	}
	w.holeFrom, w.holeEnd = pos, uint64(data)
	return pos+n <= w.holeEnd, nil
}

// fold writes the nodes above cvs in pre-order and returns the chaining value
// of the top, with the flags.
func fold(cvs []cv, nodes []byte, flags uint32) cv {
	if len(cvs) == 1 {
		return cvs[0]
	}
	mid := int(split(uint64(len(cvs))))
	l := fold(cvs[:mid], nodes[nodeBytes:nodeBytes*mid], 0)
	r := fold(cvs[mid:], nodes[nodeBytes*mid:], 0)
	putCV(nodes, &l)
	putCV(nodes[32:], &r)
	return parentCV(l, r, flags)
}

// zeros stays zero: hashes of holes read it, nothing writes it.
var zeros [MaxGroup]byte

// zeroCVs appends the chaining values of groups of zeros: they differ by
// position, but need no reading.
func zeroCVs(dst []cv, pos, n, group uint64) []cv {
	for end := pos + n; pos < end; {
		k := min(MaxGroup, end-pos)
		dst = groupCVs(dst, zeros[:k], pos, group)
		pos += k
	}
	return dst
}
