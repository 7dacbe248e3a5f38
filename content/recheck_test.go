package content_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
)

// received fills a part file as a buyer does, from slices of these ranges.
func received(t *testing.T, path string, data []byte, group uint32, ranges ...content.Range) (*content.Sink, content.Hash) {
	t.Helper()
	size := uint64(len(data))
	n, err := bao.OutboardSize(size, group)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "outboard"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, err := bao.Build(context.Background(), bytes.NewReader(data), size, group, f, bao.BuildConfig{})
	if err != nil || n == 0 {
		t.Fatal(err)
	}
	ob, err := bao.NewOutboard(f, root, size, group)
	if err != nil {
		t.Fatal(err)
	}
	s, err := content.OpenSink(path, size, root, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range ranges {
		var wire bytes.Buffer
		if err := bao.ExtractSlice(context.Background(), &wire, bytes.NewReader(data), ob, r.Start, r.Len()); err != nil {
			t.Fatal(err)
		}
		slice := bao.Slice{Root: root, Size: size, GroupBytes: group, Offset: r.Start, Length: r.Len()}
		if err := bao.DecodeSlice(context.Background(), s, &wire, slice, nil); err != nil {
			t.Fatal(err)
		}
	}
	return s, root
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func TestRecheckFindsWhatWasDamaged(t *testing.T) {
	const size = 3_000_001
	data := fill(size, 7)
	for _, group := range []uint32{bao.MinGroup, bao.MaxGroup} {
		path := filepath.Join(t.TempDir(), "f.bin")
		s, root := received(t, path, data, group, content.Range{Start: 0, End: 999_424}, content.Range{Start: 1_998_848, End: size})
		bad, err := s.Recheck(t.Context(), root, group, content.Range{End: size}, discard{}, nil)
		if err != nil || bad.Total() != 0 || s.Verified().Total() != 999_424+size-1_998_848 {
			t.Fatalf("group %d: %v are wrong, %v", group, bad.List(), err)
		}
		f, err := os.OpenFile(s.PartPath(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{5, 999_423, 2_500_000, 1_500_000} { // the last was never there
			if _, err := f.WriteAt([]byte{data[at] ^ 1}, at); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		bad, err = s.Recheck(t.Context(), root, group, content.Range{End: size}, discard{}, nil)
		if err != nil || bad.Total() != 3*uint64(group) || s.Verified().Contains(5, 6) || !s.Verified().Contains(1_998_848, 1_998_848+uint64(group)) {
			t.Fatalf("group %d: %v are wrong, %v", group, bad.List(), err)
		}
		if err := s.Discard(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
			t.Fatalf("left are %v, %v", left, err)
		}
	}
}

func TestRecheckWithoutATree(t *testing.T) {
	data := fill(300_000, 8)
	path := filepath.Join(t.TempDir(), "f.bin")
	s, root := received(t, path, data, bao.MinGroup, content.Range{End: 300_000})
	if err := os.Truncate(content.TreePath(s.PartPath()), 100_000/1024*64); err != nil {
		t.Fatal(err)
	}
	bad, err := s.Recheck(t.Context(), root, bao.MinGroup, content.Range{End: 300_000}, discard{}, nil)
	if err != nil || bad.Total() == 0 || bad.Total() == 300_000 {
		t.Fatalf("with half of the tree %d bytes count as wrong, %v", bad.Total(), err)
	}
	if err := os.Truncate(content.TreePath(s.PartPath()), 0); err != nil {
		t.Fatal(err)
	}
	have := s.Verified().Total()
	if _, err := s.Recheck(t.Context(), root, bao.MinGroup, content.Range{End: 300_000}, discard{}, nil); !errors.Is(err, content.ErrNoTree) || s.Verified().Total() != have {
		t.Fatalf("without a tree: %v, %d bytes", err, s.Verified().Total())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
