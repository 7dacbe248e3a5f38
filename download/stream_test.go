package download_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
)

// part is the part file of the shop's purchase.
func (s *shop) part(p *download.Plan) string { return content.PartPath(p.Path, p.Manifest.Root) }

// overwrite changes bytes of a file at these offsets.
func overwrite(t *testing.T, path string, at ...int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	downloadtest.Must(t, err)
	for _, off := range at {
		b := []byte{0}
		_, err := f.ReadAt(b, off)
		downloadtest.Must(t, err)
		_, err = f.WriteAt([]byte{b[0] ^ 1}, off)
		downloadtest.Must(t, err)
	}
	downloadtest.Must(t, f.Close())
}

func TestOnlyWhatIsDamagedIsFetchedAgain(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	if s.stopAt(s.want(), 200_000) == nil {
		t.Fatal("it was not stopped")
	}
	p, err := s.Open().Buyer.Plan(ctx, s.want(), nil)
	downloadtest.Must(t, err)
	overwrite(t, s.part(p), 10, 100_000)
	seen := s.asked()
	p, r, err := s.get(s.want(), plenty)
	downloadtest.Must(t, err)
	s.same()
	group := uint64(p.Manifest.GroupBytes)
	if r.Paid != channel.CeilSat(p.Manifest.TotalMsat()) || r.Reused < 190_000-3*group {
		t.Fatalf("paid %d sat, reused %d bytes; asked for %v", r.Paid, r.Reused, seen)
	}
}

func TestPartFileThatWasCutIsFilledUp(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	if s.stopAt(s.want(), 200_000) == nil {
		t.Fatal("it was not stopped")
	}
	p, err := s.Open().Buyer.Plan(ctx, s.want(), nil)
	downloadtest.Must(t, err)
	downloadtest.Must(t, os.Truncate(s.part(p), 70_000))
	_, r, err := s.get(s.want(), plenty)
	downloadtest.Must(t, err)
	s.same()
	if r.Reused < 65_000 || r.Reused > 70_000 || r.Paid != channel.CeilSat(p.Manifest.TotalMsat()) {
		t.Fatalf("reused %d bytes, paid %d sat", r.Reused, r.Paid)
	}
}

// pipe takes so many bytes.
type pipe struct {
	bytes.Buffer
	room int
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.Len()+len(b) > p.room {
		return 0, os.ErrClosed
	}
	return p.Buffer.Write(b)
}

func TestStreamIsInOrderVerifiedAndResumed(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	data := downloadtest.Pattern(300_000, 1)
	w := s.want()
	w.Stream = &pipe{room: 200_000}
	p, _, err := s.get(w, plenty)
	if !errors.Is(err, download.ErrStream) {
		t.Fatalf("got %v", err)
	}
	if got := w.Stream.(*pipe).Bytes(); len(got) < 100_000 || !bytes.Equal(got, data[:len(got)]) {
		t.Fatalf("%d bytes went out", len(got))
	}
	// what is kept is damaged: nothing of that reaches the pipe
	overwrite(t, s.part(p), 70_000)
	second := &pipe{room: 1 << 20}
	w.Stream = second
	_, r, err := s.get(w, plenty)
	downloadtest.Must(t, err)
	if !bytes.Equal(second.Bytes(), data) {
		t.Fatal("the stream is not the file")
	}
	if r.Reused < 100_000 || r.Paid != channel.CeilSat(p.Manifest.TotalMsat()) {
		t.Fatalf("reused %d bytes, paid %d sat", r.Reused, r.Paid)
	}
	for _, left := range []string{p.Path, s.part(p), content.TreePath(s.part(p))} {
		if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s is left: %v", left, err)
		}
	}
}
