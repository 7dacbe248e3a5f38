package bao_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/spillway/spillway/content/bao"
	"lukechampine.com/blake3"
)

// sparse makes a file of size bytes with the given islands of data.
func sparse(t testing.TB, size int64, islands map[int64][]byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for off, p := range islands {
		if _, err := f.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// counting counts what is read of a source.
type counting struct {
	io.ReaderAt
	calls, bytes atomic.Int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.calls.Add(1)
	c.bytes.Add(int64(len(p)))
	return c.ReaderAt.ReadAt(p, off)
}

// A sparse file has the root of its bytes, whether its holes are read or not.
func TestHolesHashAsZeros(t *testing.T) {
	const size = 40<<20 + 12_345
	f := sparse(t, size, map[int64][]byte{
		3 << 20: fill(100_000, 1), 16<<20 - 1: {1, 2}, 30<<20 + 777: fill(1<<20, 2), size - 1: {9},
	})
	ctx := context.Background()
	h := blake3.New(32, nil)
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, size)); err != nil {
		t.Fatal(err)
	}
	for _, group := range allGroups {
		n, err := bao.OutboardSize(size, group)
		if err != nil {
			t.Fatal(err)
		}
		holes, plain := &mem{make([]byte, n)}, &mem{make([]byte, n)}
		root, err := bao.Build(ctx, f, size, group, holes, bao.BuildConfig{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := bao.Build(ctx, io.NewSectionReader(f, 0, size), size, group, plain, bao.BuildConfig{Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		if root != [32]byte(h.Sum(nil)) || again != root || !bytes.Equal(holes.buf, plain.buf) {
			t.Fatalf("group %d: roots %x and %x, want %x", group, root, again, h.Sum(nil))
		}
	}
}

// holed is a source with holes that counts what is read.
type holed struct {
	counting
	f *os.File
}

func (h *holed) NextData(off int64) (int64, error) {
	next, err := h.f.Seek(off, 3)
	if err != nil {
		return 1 << 62, nil // nothing but a hole
	}
	return next, nil
}

func TestHolesAreNotRead(t *testing.T) {
	const size = 1 << 30
	f := sparse(t, size, map[int64][]byte{size / 2: fill(4096, 1)})
	src := &holed{counting: counting{ReaderAt: f}, f: f}
	if _, err := bao.Root(context.Background(), src, size, bao.BuildConfig{}); err != nil {
		t.Fatal(err)
	}
	if n := src.bytes.Load(); n > 1<<20 {
		t.Errorf("%d bytes read of a file with 4096", n)
	}
}

// A slice costs what it is long, not what the file is long.
func TestSliceReadsOnlyWhatItNeeds(t *testing.T) {
	const size, group = 256 << 20, 1 << 10
	src := &counting{ReaderAt: sparse(t, size, nil)}
	n, err := bao.OutboardSize(size, group)
	if err != nil {
		t.Fatal(err)
	}
	nodes := &mem{make([]byte, n)}
	root, err := bao.Build(context.Background(), src, size, group, nodes, bao.BuildConfig{})
	if err != nil {
		t.Fatal(err)
	}
	tree := &counting{ReaderAt: bytes.NewReader(nodes.buf)}
	ob, err := bao.NewOutboard(tree, root, size, group)
	if err != nil {
		t.Fatal(err)
	}
	depth := int64(bits.Len64(size / group))
	for _, length := range []uint64{1, group, 64 << 10, 1 << 20} {
		for _, off := range []uint64{0, 12_345_678, size - length} {
			src.bytes.Store(0)
			tree.bytes.Store(0)
			tree.calls.Store(0)
			if err := bao.ExtractSlice(context.Background(), io.Discard, src, ob, off, length); err != nil {
				t.Fatal(err)
			}
			groups := int64(length/group) + 2
			if got := src.bytes.Load(); got > groups*group {
				t.Errorf("slice of %d at %d: read %d bytes of the source", length, off, got)
			}
			if got := tree.bytes.Load(); got > 64*(groups+2*depth) {
				t.Errorf("slice of %d at %d: read %d bytes of the tree", length, off, got)
			}
			if got := tree.calls.Load(); got > 6*depth+groups/64 {
				t.Errorf("slice of %d at %d: %d reads of the tree", length, off, got)
			}
		}
	}
}

// heap notes the highest that the heap stands at when sample is called.
type heap struct {
	start, top uint64
	calls      int
}

func newHeap() *heap {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return &heap{start: m.HeapAlloc}
}

func (h *heap) sample(uint64) {
	if h.calls++; h.calls%64 != 0 {
		return
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h.top = max(h.top, m.HeapAlloc)
}

// A chunk of 1 GiB is built, cut and decoded in a few MiB.
func TestMemoryStaysFlat(t *testing.T) {
	const size = 1<<30 + 4321
	f := sparse(t, size, map[int64][]byte{1 << 20: fill(1<<20, 1), size - 10: fill(10, 2)})
	out := sparse(t, size, nil)
	ctx := context.Background()
	h := newHeap()
	nodes := sparse(t, 0, nil)
	root, err := bao.Build(ctx, f, size, bao.MaxGroup, nodes, bao.BuildConfig{Progress: h.sample})
	if err != nil {
		t.Fatal(err)
	}
	ob, err := bao.NewOutboard(nodes, root, size, bao.MaxGroup)
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(bao.ExtractSlice(ctx, w, f, ob, 100, size-100)) }()
	s := bao.Slice{Root: root, Size: size, GroupBytes: bao.MaxGroup, Offset: 100, Length: size - 100}
	var upto uint64
	if err := bao.DecodeSlice(ctx, sparseWriter{out}, r, s, func(u uint64) { upto = u; h.sample(u) }); err != nil || upto != size {
		t.Fatalf("verified up to %d, %v", upto, err)
	}
	if h.top == 0 || h.top > h.start+64<<20 {
		t.Errorf("heap rose from %d to %d KiB", h.start>>10, h.top>>10)
	}
	t.Logf("heap rose from %d to %d KiB", h.start>>10, h.top>>10)
	want, got := make([]byte, 1<<20), make([]byte, 1<<20)
	for _, off := range []int64{1 << 20, size - 1<<20} {
		if _, err := f.ReadAt(want, off); err != nil {
			t.Fatal(err)
		}
		if _, err := out.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("bytes at %d differ, %v", off, err)
		}
	}
}

// sparseWriter leaves zeros out.
type sparseWriter struct{ f *os.File }

var zeroRun = make([]byte, 1<<20)

func (s sparseWriter) WriteAt(p []byte, off int64) (int, error) {
	if bytes.Equal(p, zeroRun[:len(p)]) {
		return len(p), nil
	}
	return s.f.WriteAt(p, off)
}

func TestContextsEndTheWork(t *testing.T) {
	data := fill(3<<20, 1)
	ob, _, root := build(t, data, 1024)
	size := uint64(len(data))
	slice := extract(t, data, ob, 0, size)
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := bao.Root(done, bytes.NewReader(data), size, bao.BuildConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("build: %v", err)
	}
	if err := bao.ExtractSlice(done, io.Discard, bytes.NewReader(data), ob, 0, size); !errors.Is(err, context.Canceled) {
		t.Errorf("extract: %v", err)
	}
	s := bao.Slice{Root: root, Size: size, GroupBytes: 1024, Length: size}
	if err := bao.DecodeSlice(done, &mem{}, bytes.NewReader(slice), s, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("decode: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	dst := &mem{make([]byte, size)}
	var upto uint64
	err := bao.DecodeSlice(ctx, dst, bytes.NewReader(slice), s, func(u uint64) { upto = u; cancel() })
	if !errors.Is(err, context.Canceled) || upto == 0 || upto == size || !bytes.Equal(dst.buf[:upto], data[:upto]) {
		t.Errorf("decode, called off after a run: %v at %d", err, upto)
	}
}

var errDisk = errors.New("disk")

type failing struct{ after int }

func (f *failing) step() error {
	if f.after--; f.after < 0 {
		return errDisk
	}
	return nil
}

func (f *failing) Write(p []byte) (int, error)            { return len(p), f.step() }
func (f *failing) WriteAt(p []byte, _ int64) (int, error) { return len(p), f.step() }
func (f *failing) ReadAt([]byte, int64) (int, error)      { return 0, errDisk }

func TestErrorsOfReadersAndWritersCome(t *testing.T) {
	data := fill(1<<20, 1)
	ob, nodes, root := build(t, data, 2048)
	size := uint64(len(data))
	slice := extract(t, data, ob, 0, size)
	ctx := context.Background()
	s := bao.Slice{Root: root, Size: size, GroupBytes: 2048, Length: size}
	for after := range 3 {
		if err := bao.ExtractSlice(ctx, &failing{after}, bytes.NewReader(data), ob, 0, size); !errors.Is(err, errDisk) {
			t.Errorf("extract to a full disk: %v", err)
		}
		if err := bao.DecodeSlice(ctx, &failing{after}, bytes.NewReader(slice), s, nil); !errors.Is(err, errDisk) {
			t.Errorf("decode to a full disk: %v", err)
		}
		if _, err := bao.Build(ctx, bytes.NewReader(data), size, 2048, &failing{after}, bao.BuildConfig{}); !errors.Is(err, errDisk) {
			t.Errorf("build on a full disk: %v", err)
		}
	}
	if err := bao.ExtractSlice(ctx, io.Discard, &failing{}, ob, 0, size); !errors.Is(err, errDisk) {
		t.Errorf("extract from a bad disk: %v", err)
	}
	if _, err := bao.Root(ctx, &failing{}, size, bao.BuildConfig{}); !errors.Is(err, errDisk) {
		t.Errorf("hash from a bad disk: %v", err)
	}
	if _, err := bao.NewOutboard(&failing{}, root, size, 2048); !errors.Is(err, errDisk) {
		t.Errorf("outboard on a bad disk: %v", err)
	}
	broken := io.MultiReader(bytes.NewReader(slice[:5000]), iotest.ErrReader(errDisk))
	if err := bao.DecodeSlice(ctx, &mem{make([]byte, size)}, broken, s, nil); !errors.Is(err, errDisk) || errors.Is(err, bao.ErrTruncated) {
		t.Errorf("decode from a broken line: %v", err)
	}
	if err := bao.ExtractSlice(ctx, io.Discard, bytes.NewReader(data[:size-1]), ob, 0, size); !errors.Is(err, bao.ErrSourceShort) {
		t.Errorf("extract from a short source: %v", err)
	}
	for at := range nodes {
		if at%61 != 0 {
			continue
		}
		bad := bytes.Clone(nodes)
		bad[at] ^= 1
		o, err := bao.NewOutboard(bytes.NewReader(bad), root, size, 2048)
		if err == nil {
			err = bao.ExtractSlice(ctx, io.Discard, bytes.NewReader(data), o, 0, size)
		}
		if !errors.Is(err, bao.ErrDamaged) {
			t.Fatalf("byte %d of the outboard changed: %v", at, err)
		}
	}
}

func TestExtractorChecksItsSource(t *testing.T) {
	data := fill(500_000, 1)
	ob, _, _ := build(t, data, 4096)
	bad := bytes.Clone(data)
	bad[300_000] ^= 1
	e := bao.Extractor{Source: bytes.NewReader(bad), Outboard: ob, VerifySource: true}
	var out bytes.Buffer
	if err := e.Slice(context.Background(), &out, 0, 500_000); !errors.Is(err, bao.ErrSourceWrong) || out.Len() > 310_000 {
		t.Errorf("%v after %d bytes", err, out.Len())
	}
	e = bao.Extractor{Source: bytes.NewReader(data), Outboard: ob, Unchanged: func() error { return errDisk }}
	out.Reset()
	if err := e.Slice(context.Background(), &out, 0, 500_000); !errors.Is(err, errDisk) || out.Len() != 0 {
		t.Errorf("%v after %d bytes", err, out.Len())
	}
}

// FuzzDecodeSlice: whatever bytes stand for a slice, only bytes of the content are written, and only
// a whole slice of exactly its size is accepted.
func FuzzDecodeSlice(f *testing.F) {
	const group = 1024
	data := fill(20_000, 7)
	ob, _, root := build(f, data, group)
	for _, r := range [][2]uint64{{0, 20_000}, {5000, 1}, {19_999, 1}, {1023, 2050}} {
		f.Add(extract(f, data, ob, r[0], r[1]), r[0], r[1], uint64(20_000), uint32(group))
	}
	f.Add([]byte{}, uint64(0), uint64(0), uint64(0), uint32(1024))
	f.Add([]byte{1, 2, 3}, uint64(1)<<63, uint64(1)<<63, uint64(1)<<53-1, uint32(16384))
	f.Fuzz(func(t *testing.T, slice []byte, off, length, size uint64, group uint32) {
		s := bao.Slice{Root: root, Size: size, GroupBytes: group, Offset: off, Length: length}
		w := &checked{t: t, data: data, off: off, end: off + length}
		err := bao.DecodeSlice(context.Background(), w, bytes.NewReader(slice), s, nil)
		if err == nil && (w.n != length || size != uint64(len(data))) {
			t.Fatalf("accepted after %d of %d bytes of a content of %d", w.n, length, size)
		}
		if n, serr := s.EncodedSize(); err == nil && (serr != nil || n != uint64(len(slice))) {
			t.Fatalf("accepted %d bytes, should be %d, %v", len(slice), n, serr)
		}
	})
}

// checked fails the test where anything but the content is written.
type checked struct {
	t           *testing.T
	data        []byte
	off, end, n uint64
}

func (c *checked) WriteAt(p []byte, off int64) (int, error) {
	if uint64(off) != c.off+c.n || uint64(off)+uint64(len(p)) > min(c.end, uint64(len(c.data))) || !bytes.Equal(p, c.data[off:off+int64(len(p))]) {
		c.t.Fatalf("wrong bytes written: %d at %d", len(p), off)
	}
	c.n += uint64(len(p))
	return len(p), nil
}
