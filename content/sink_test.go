package content_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"
)

// fill returns n bytes without long runs of zeros.
func fill(n int, seed byte) []byte {
	p := make([]byte, n)
	blake3.New(32, bytes.Repeat([]byte{seed}, 32)).XOF().Read(p)
	return p
}

func openSink(t testing.TB, path string, size int, have *content.Ranges) *content.Sink {
	t.Helper()
	s, err := content.OpenSink(path, uint64(size), content.Hash{0xab, 0xcd}, have)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func write(t testing.TB, s *content.Sink, p []byte, off int) {
	t.Helper()
	if n, err := s.WriteAt(p, int64(off)); err != nil || n != len(p) {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func TestSinkAppearsOnlyWhenWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.bin")
	data := fill(100_000, 1)
	s := openSink(t, path, len(data), nil)
	if s.PartPath() != path+".abcd0000.part" {
		t.Errorf("part file is %s", s.PartPath())
	}
	write(t, s, data[50_000:], 50_000)
	if err := s.Finish(false); !errors.Is(err, content.ErrIncomplete) {
		t.Fatalf("finished half a file: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("half a file under its final name: %v", err)
	}
	write(t, s, data[:50_000], 0)
	if err := s.CheckRoot(context.Background(), blake3.Sum256(data), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckRoot(context.Background(), content.Hash{}, nil); !errors.Is(err, bao.ErrSourceWrong) {
		t.Fatalf("another root: %v", err)
	}
	if err := s.Finish(false); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("final file: %v", err)
	}
	if _, err := os.Stat(s.PartPath()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("part file remains: %v", err)
	}
}

func TestSinkRefusesToReplaceUnlessTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.bin")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openSink(t, path, 3, nil)
	write(t, s, []byte("new"), 0)
	if err := s.Finish(false); !errors.Is(err, content.ErrExists) {
		t.Fatalf("over an existing file: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "mine" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := s.Finish(true); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestSinkEmptyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "empty")
	if err := openSink(t, path, 0, nil).Finish(false); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Fatalf("%v, %v", info, err)
	}
}

// A part file that a crash left torn is gone on with, and loses nothing that
// was journalled.
func TestPitfall43_TornPartFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.bin")
	data := append(fill(70_000, 2), make([]byte, 200_000)...)
	s := openSink(t, path, len(data), nil)
	write(t, s, data[:40_000], 0)
	have := s.Verified()
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	// Written after the journal, and torn by a crash: it must not show through
	// where zeros come later.
	write(t, s, fill(100_000, 3), 100_000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openSink(t, path, len(data), have)
	if !again.Verified().Equal(have) {
		t.Fatalf("resumed with %v", again.Verified().List())
	}
	for _, r := range again.Verified().Missing(0, uint64(len(data))) {
		write(t, again, data[r.Start:r.End], int(r.Start))
	}
	if err := again.Finish(false); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("resumed file differs, %v", err)
	}
}

func TestSinkNoticesALostPart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.bin")
	var have content.Ranges
	have.Add(0, 10)
	if _, err := content.OpenSink(path, 100, content.Hash{}, &have); !errors.Is(err, content.ErrPartMissing) {
		t.Fatalf("no part file: %v", err)
	}
	if err := os.WriteFile(content.PartPath(path, content.Hash{}), make([]byte, 99), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := content.OpenSink(path, 100, content.Hash{}, &have); !errors.Is(err, content.ErrPartMissing) {
		t.Fatalf("shorter part file: %v", err)
	}
	have.Add(99, 101)
	if _, err := content.OpenSink(path, 100, content.Hash{}, &have); !errors.Is(err, content.ErrRanges) {
		t.Fatalf("ranges beyond the end: %v", err)
	}
}

func TestSinkIsForOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.bin")
	s := openSink(t, path, 10, nil)
	if _, err := content.OpenSink(path, 10, content.Hash{0xab, 0xcd}, nil); !errors.Is(err, content.ErrBusy) {
		t.Fatalf("second sink: %v", err)
	}
	if err := s.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.PartPath()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("discarded part file remains: %v", err)
	}
	openSink(t, path, 10, nil)
}

// A crash between link and removal leaves both names; neither may be emptied.
func TestSinkAfterACrashInFinish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.bin")
	s := openSink(t, path, 4, nil)
	write(t, s, []byte("data"), 0)
	have := s.Verified()
	if err := os.Link(s.PartPath(), path); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openSink(t, path, 4, nil)
	if got, err := os.ReadFile(path); err != nil || string(got) != "data" {
		t.Fatalf("final file was touched: %q, %v", got, err)
	}
	if err := again.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, content.PartPath(path, content.Hash{0xab, 0xcd})); err != nil {
		t.Fatal(err)
	}
	again = openSink(t, path, 4, have)
	if err := again.Finish(true); err != nil {
		t.Fatalf("finish after the crash: %v", err)
	}
	if _, err := os.Stat(again.PartPath()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("part file remains: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "data" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestSinkRefusesBytesOutside(t *testing.T) {
	s := openSink(t, filepath.Join(t.TempDir(), "f"), 10, nil)
	for _, off := range []int64{-1, 8, 10, 1 << 60} {
		if _, err := s.WriteAt([]byte("abc"), off); !errors.Is(err, content.ErrRange) {
			t.Errorf("at %d: %v", off, err)
		}
	}
	if s.Verified().Total() != 0 {
		t.Error("refused bytes count")
	}
}

func TestSinkLeavesHoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.bin")
	const size = 64 << 20
	s := openSink(t, path, size, nil)
	buf := make([]byte, 1<<20)
	for off := 0; off < size; off += len(buf) {
		write(t, s, buf, off)
	}
	write(t, s, []byte{1}, size/2)
	if err := s.Finish(false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if blocks := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() != size || blocks > 1<<20 {
		t.Errorf("%d bytes take %d on disk", info.Size(), blocks)
	}
}

// Whatever is written in whatever order, the file is what was written.
func TestSinkHoldsWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		const size = 80_000
		data := make([]byte, size)
		for range rapid.IntRange(0, 4).Draw(t, "islands") {
			at := rapid.IntRange(0, size-1).Draw(t, "at")
			n := rapid.IntRange(1, 40_000).Draw(t, "bytes")
			copy(data[at:], fill(n, 9))
		}
		path := filepath.Join(dir, "f")
		s, err := content.OpenSink(path, size, content.Hash{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for missing := s.Verified().Missing(0, size); len(missing) > 0; missing = s.Verified().Missing(0, size) {
			r := rapid.SampledFrom(missing).Draw(t, "gap")
			start := rapid.Uint64Range(r.Start, r.End-1).Draw(t, "start")
			end := rapid.Uint64Range(start+1, r.End).Draw(t, "end")
			if end-start < 4000 {
				start, end = r.Start, r.End
			}
			if _, err := s.WriteAt(data[start:end], int64(start)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Finish(true); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("file differs, %v", err)
		}
	})
}

func TestPartPathOfALongName(t *testing.T) {
	long := "dir/" + strings.Repeat("é", 127)
	p := content.PartPath(long, content.Hash{})
	if base := filepath.Base(p); len(base) > 255 || !strings.HasSuffix(base, "é.00000000.part") || filepath.Dir(p) != "dir" {
		t.Errorf("%q", p)
	}
}
