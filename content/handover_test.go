package content

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Bytes in a row are handed to the disk once each, and only in large pieces; what is
// written elsewhere in between begins anew.
func TestHandedToTheDiskOnce(t *testing.T) {
	s := &Sink{}
	for i, c := range []struct{ start, end, from, to uint64 }{
		{0, handOver - 1, 0, 0}, {handOver - 1, handOver + 5, 0, handOver + 5}, {handOver + 5, 2*handOver + 4, 0, 0},
		{2*handOver + 4, 2*handOver + 5, handOver + 5, 2*handOver + 5}, {9 * handOver, 10*handOver - 1, 0, 0},
		{0, 1, 0, 0}, {10*handOver - 1, 11 * handOver, 10*handOver - 1, 11 * handOver}, {11 * handOver, 12 * handOver, 11 * handOver, 12 * handOver},
	} {
		if due := s.wrote(c.start, c.end); due.Len() != c.to-c.from || due.Len() > 0 && due.Start != c.from {
			t.Errorf("write %d: %d to %d is handed over, want %d to %d", i, due.Start, due.End, c.from, c.to)
		}
	}
	path, data := filepath.Join(t.TempDir(), "f"), bytes.Repeat([]byte("disk"), 3*handOver/4)
	sink, err := OpenSink(path, uint64(len(data)), Hash{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(data); off += 1 << 18 {
		if _, err := sink.WriteAt(data[off:off+1<<18], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Finish(false); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("other bytes are there: %v", err)
	}
}
