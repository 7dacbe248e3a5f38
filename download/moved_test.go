package download_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download/downloadtest"
)

// TestPurchaseGoesOnAtAnotherPlace stops a purchase and goes on under another name:
// with the part file where it was, moved there by hand, or gone.
func TestPurchaseGoesOnAtAnotherPlace(t *testing.T) {
	for name, hand := range map[string]func(t *testing.T, from, to string){
		"left":  func(*testing.T, string, string) {},
		"moved": func(t *testing.T, from, to string) { downloadtest.Must(t, os.Rename(from, to)) },
		"gone":  func(t *testing.T, from, _ string) { downloadtest.Must(t, os.Remove(from)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
			w := s.want()
			if s.stopAt(w, 200_000) == nil {
				t.Fatal("it was not stopped")
			}
			p, err := s.Open().Buyer.Plan(ctx, w, nil)
			downloadtest.Must(t, err)
			old := p.Path
			w.Path = filepath.Join(t.TempDir(), "other.bin")
			hand(t, content.PartPath(old, p.Manifest.Root), content.PartPath(w.Path, p.Manifest.Root))
			p, r, err := s.get(w, plenty)
			downloadtest.Must(t, err)
			got, err := os.ReadFile(w.Path)
			downloadtest.Must(t, err)
			if string(got) != string(downloadtest.Pattern(300_000, 1)) {
				t.Fatal("the file is not what was sold")
			}
			least := uint64(150_000)
			if name == "gone" {
				least = 0
			}
			if p.From != old || r.Paid != channel.CeilSat(p.Manifest.TotalMsat()) || r.Reused < least || r.Reused > 0 && name == "gone" {
				t.Fatalf("from %q, paid %d sat, reused %d bytes", p.From, r.Paid, r.Reused)
			}
			if _, err := os.Lstat(content.PartPath(old, p.Manifest.Root)); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("the old part file: %v", err)
			}
			if r.Unsettled != nil || r.Closing == "" {
				t.Fatalf("unsettled: %v", r.Unsettled)
			}
		})
	}
}

// A purchase that is whole under another name is not taken over.
func TestFinishedPurchaseStaysWhereItIs(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	lim := plenty
	lim.KeepChannel = true
	first, _, err := s.get(s.want(), lim)
	downloadtest.Must(t, err)
	w := s.want()
	w.Path = filepath.Join(t.TempDir(), "other.bin")
	p, r, err := s.get(w, plenty)
	downloadtest.Must(t, err)
	if p.From != "" || r.Reused != 0 {
		t.Fatalf("it goes on from %q, reused %d bytes", p.From, r.Reused)
	}
	for _, path := range []string{first.Path, w.Path} {
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
	}
}
