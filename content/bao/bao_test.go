package bao_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"testing"

	"github.com/spillway/spillway/content/bao"
	"lukechampine.com/blake3"
	libbao "lukechampine.com/blake3/bao"
	"pgregory.net/rapid"
)

// fill returns n bytes that differ from group to group.
func fill(n int, seed byte) []byte {
	p := make([]byte, n)
	blake3.New(32, bytes.Repeat([]byte{seed}, 32)).XOF().Read(p)
	return p
}

// mem is a destination in memory that notes what was written.
type mem struct{ buf []byte }

func (m *mem) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m.buf)) {
		return 0, fmt.Errorf("write of %d bytes at %d outside %d", len(p), off, len(m.buf))
	}
	return copy(m.buf[off:], p), nil
}

func logGroup(group uint32) int { return bits.TrailingZeros32(group / 1024) }

var allGroups = []uint32{1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10}

// boundarySizes are the sizes where trees change their shape.
func boundarySizes() []int {
	sizes := []int{0, 1, 63, 64, 65, 1023, 1024, 1025}
	for n := 2048; n <= 1<<20; n *= 2 {
		sizes = append(sizes, n-1, n, n+1)
	}
	return append(sizes, 3*1024, 5*16384+17, 500_000, 4<<20-1, 4<<20, 4<<20+1, 9<<20+12345)
}

func build(t testing.TB, data []byte, group uint32) (*bao.Outboard, []byte, [32]byte) {
	t.Helper()
	size, err := bao.OutboardSize(uint64(len(data)), group)
	if err != nil {
		t.Fatal(err)
	}
	dst := &mem{make([]byte, size)}
	root, err := bao.Build(context.Background(), bytes.NewReader(data), uint64(len(data)), group, dst, bao.BuildConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ob, err := bao.NewOutboard(bytes.NewReader(dst.buf), root, uint64(len(data)), group)
	if err != nil {
		t.Fatal(err)
	}
	return ob, dst.buf, root
}

func TestBuildMatchesLibrary(t *testing.T) {
	for _, n := range boundarySizes() {
		data := fill(n, 1)
		for _, group := range allGroups {
			_, got, root := build(t, data, group)
			want, wantRoot := libbao.EncodeBuf(data, logGroup(group), true)
			if root != wantRoot || root != blake3.Sum256(data) {
				t.Fatalf("%d bytes, group %d: root %x, want %x", n, group, root, wantRoot)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, group %d: outboard differs from the library's", n, group)
			}
		}
	}
}

// libSlice is the library's slice, cut from a combined encoding.
func libSlice(t testing.TB, data []byte, group uint32, off, length uint64) []byte {
	t.Helper()
	enc, _ := libbao.EncodeBuf(data, logGroup(group), false)
	var out bytes.Buffer
	if err := libbao.ExtractSlice(&out, bytes.NewReader(enc), nil, logGroup(group), off, length); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func extract(t testing.TB, data []byte, ob *bao.Outboard, off, length uint64) []byte {
	t.Helper()
	var out bytes.Buffer
	e := bao.Extractor{Source: bytes.NewReader(data), Outboard: ob, VerifySource: true}
	if err := e.Slice(context.Background(), &out, off, length); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// checkSlice holds our slice against the library's, ours against its decoder,
// and decodes it with ours.
func checkSlice(t testing.TB, data []byte, group uint32, ob *bao.Outboard, root [32]byte, off, length uint64) {
	t.Helper()
	slice := extract(t, data, ob, off, length)
	if want := libSlice(t, data, group, off, length); !bytes.Equal(slice, want) {
		t.Fatalf("%d bytes, group %d, slice %d+%d: differs from the library's", len(data), group, off, length)
	}
	s := bao.Slice{Root: root, Size: uint64(len(data)), GroupBytes: group, Offset: off, Length: length}
	if n, err := s.EncodedSize(); err != nil || n != uint64(len(slice)) {
		t.Fatalf("%d bytes, group %d, slice %d+%d: encoded size %d, %v, is %d", len(data), group, off, length, n, err, len(slice))
	}
	var lib bytes.Buffer
	if ok, err := libbao.DecodeSlice(&lib, bytes.NewReader(slice), logGroup(group), off, length, root); !ok || err != nil {
		t.Fatalf("library refuses our slice: %v %v", ok, err)
	}
	dst, upto := &mem{make([]byte, len(data))}, off
	err := bao.DecodeSlice(context.Background(), dst, bytes.NewReader(slice), s, func(u uint64) {
		if u <= upto || !bytes.Equal(dst.buf[upto:u], data[upto:u]) {
			t.Errorf("verified up to %d after %d, or wrong bytes there", u, upto)
		}
		upto = u
	})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, len(data))
	copy(want[off:off+length], data[off:])
	if upto != off+length || !bytes.Equal(dst.buf, want) || !bytes.Equal(lib.Bytes(), data[off:off+length]) {
		t.Fatalf("%d bytes, group %d, slice %d+%d: decoded bytes differ", len(data), group, off, length)
	}
}

func TestSliceMatchesLibraryAtBoundaries(t *testing.T) {
	for _, n := range boundarySizes() {
		if n > 600_000 {
			continue
		}
		data := fill(n, 2)
		for _, group := range allGroups {
			ob, _, root := build(t, data, group)
			size, g := uint64(n), uint64(group)
			checkSlice(t, data, group, ob, root, 0, size)
			for _, off := range []uint64{0, 1, g - 1, g, g + 1, size / 2, size - 1} {
				for _, length := range []uint64{1, g - 1, g, g + 1, size} {
					if size == 0 || off >= size {
						continue
					}
					checkSlice(t, data, group, ob, root, off, min(length, size-off))
				}
			}
		}
	}
}

func TestSliceMatchesLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(1, 70_000), rapid.IntRange(1, 1_500_000)).Draw(t, "size")
		group := rapid.SampledFrom(allGroups).Draw(t, "group")
		data := fill(n, 3)
		size, _ := bao.OutboardSize(uint64(n), group)
		dst := &mem{make([]byte, size)}
		root, err := bao.Build(context.Background(), bytes.NewReader(data), uint64(n), group, dst, bao.BuildConfig{Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		ob, err := bao.NewOutboard(bytes.NewReader(dst.buf), root, uint64(n), group)
		if err != nil {
			t.Fatal(err)
		}
		off := rapid.Uint64Range(0, uint64(n)-1).Draw(t, "off")
		length := rapid.Uint64Range(1, uint64(n)-off).Draw(t, "length")
		checkSliceRapid(t, data, group, ob, root, off, length)
	})
}

func checkSliceRapid(t *rapid.T, data []byte, group uint32, ob *bao.Outboard, root [32]byte, off, length uint64) {
	var slice, want bytes.Buffer
	if err := bao.ExtractSlice(context.Background(), &slice, bytes.NewReader(data), ob, off, length); err != nil {
		t.Fatal(err)
	}
	enc, _ := libbao.EncodeBuf(data, logGroup(group), false)
	if err := libbao.ExtractSlice(&want, bytes.NewReader(enc), nil, logGroup(group), off, length); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(slice.Bytes(), want.Bytes()) {
		t.Fatalf("slice %d+%d differs from the library's", off, length)
	}
	dst := &mem{make([]byte, len(data))}
	s := bao.Slice{Root: root, Size: uint64(len(data)), GroupBytes: group, Offset: off, Length: length}
	if err := bao.DecodeSlice(context.Background(), dst, iotestOneByte{&slice}, s, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dst.buf[off:off+length], data[off:off+length]) {
		t.Fatal("decoded bytes differ")
	}
}

// iotestOneByte returns odd short reads.
type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) { return o.r.Read(p[:(len(p)+2)/3]) }

func TestWrongBytesAreNoticedWithinTheirGroup(t *testing.T) {
	const group = 4096
	data := fill(300_000, 4)
	ob, _, root := build(t, data, group)
	off, length := uint64(50_001), uint64(123_457)
	slice := extract(t, data, ob, off, length)
	s := bao.Slice{Root: root, Size: uint64(len(data)), GroupBytes: group, Offset: off, Length: length}
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(0, len(slice)-1).Draw(t, "at")
		bad := bytes.Clone(slice)
		bad[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		dst, upto := &mem{make([]byte, len(data))}, off
		err := bao.DecodeSlice(context.Background(), dst, bytes.NewReader(bad), s, func(u uint64) { upto = u })
		var wrong *bao.WrongBytesError
		if !errors.As(err, &wrong) || !errors.Is(err, bao.ErrWrongBytes) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
		if !bytes.Equal(dst.buf[off:upto], data[off:upto]) || bytes.Count(dst.buf[upto:], []byte{0}) != len(data)-int(upto) {
			t.Fatalf("unverified bytes were written")
		}
		if wrong.Part == bao.PartGroup && (wrong.Length > group || upto != max(off, wrong.Offset)) {
			t.Fatalf("group at %d+%d is wrong, but verified up to %d", wrong.Offset, wrong.Length, upto)
		}
	})
}

func TestTruncatedAndTrailing(t *testing.T) {
	const group = 1024
	data := fill(40_000, 5)
	ob, _, root := build(t, data, group)
	s := bao.Slice{Root: root, Size: uint64(len(data)), GroupBytes: group, Offset: 2000, Length: 30_000}
	slice := extract(t, data, ob, s.Offset, s.Length)
	for n := range slice {
		dst := &mem{make([]byte, len(data))}
		err := bao.DecodeSlice(context.Background(), dst, bytes.NewReader(slice[:n]), s, nil)
		var short *bao.TruncatedError
		if !errors.As(err, &short) || !errors.Is(err, bao.ErrTruncated) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if !bytes.Equal(dst.buf[s.Offset:short.Verified], data[s.Offset:short.Verified]) {
			t.Fatalf("cut at %d: verified up to %d, but not written", n, short.Verified)
		}
		// What is left can be fetched as a slice of its own.
		rest := bao.Slice{Root: root, Size: s.Size, GroupBytes: group, Offset: short.Verified, Length: s.Offset + s.Length - short.Verified}
		again := extract(t, data, ob, rest.Offset, rest.Length)
		if err := bao.DecodeSlice(context.Background(), dst, bytes.NewReader(again), rest, nil); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(dst.buf[s.Offset:s.Offset+s.Length], data[s.Offset:s.Offset+s.Length]) {
			t.Fatalf("cut at %d: not whole after resuming", n)
		}
	}
	err := bao.DecodeSlice(context.Background(), &mem{make([]byte, len(data))}, bytes.NewReader(append(slice, 0)), s, nil)
	if !errors.Is(err, bao.ErrTrailing) {
		t.Fatalf("a byte more: %v", err)
	}
}

func TestRefusesBadArguments(t *testing.T) {
	data := fill(5000, 6)
	ob, _, root := build(t, data, 1024)
	ctx := context.Background()
	for _, r := range [][2]uint64{{0, 0}, {5000, 1}, {0, 5001}, {4999, 2}, {1 << 63, 1 << 63}, {1, 1<<64 - 1}} {
		if err := bao.ExtractSlice(ctx, io.Discard, bytes.NewReader(data), ob, r[0], r[1]); !errors.Is(err, bao.ErrRange) {
			t.Errorf("extract %v: %v", r, err)
		}
		s := bao.Slice{Root: root, Size: 5000, GroupBytes: 1024, Offset: r[0], Length: r[1]}
		if err := bao.DecodeSlice(ctx, &mem{}, bytes.NewReader(nil), s, nil); !errors.Is(err, bao.ErrRange) {
			t.Errorf("decode %v: %v", r, err)
		}
		if _, err := s.EncodedSize(); !errors.Is(err, bao.ErrRange) {
			t.Errorf("size %v: %v", r, err)
		}
	}
	for _, g := range []uint32{0, 1, 512, 1025, 3072, 32768, 1 << 31} {
		if _, err := bao.OutboardSize(1, g); !errors.Is(err, bao.ErrGroup) {
			t.Errorf("group %d: %v", g, err)
		}
		if _, err := bao.Build(ctx, bytes.NewReader(data), 5000, g, nil, bao.BuildConfig{}); !errors.Is(err, bao.ErrGroup) {
			t.Errorf("group %d: %v", g, err)
		}
	}
	if _, err := bao.OutboardSize(bao.MaxSize+1, 1024); !errors.Is(err, bao.ErrSize) {
		t.Errorf("size: %v", err)
	}
	if _, err := bao.Build(ctx, bytes.NewReader(data), 5001, 1024, nil, bao.BuildConfig{}); !errors.Is(err, bao.ErrSourceShort) {
		t.Errorf("short source: %v", err)
	}
}
