package content_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
)

// A link put in the place of a file after the scan leads nowhere.
func TestCatalogueDoesNotFollowALinkSwappedIn(t *testing.T) {
	outside := tree(t, map[string]string{"secret": "s"})
	dir := tree(t, map[string]string{"a": "s", "sub/b": "s"})
	c, _ := catalogue(t, config(t, dir))
	for _, swap := range [][2]string{{"a", outside + "/secret"}, {"sub", outside}} {
		path := filepath.Join(dir, swap[0])
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(swap[1], path); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "sub/b"} {
		e, err := c.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Open(); !errors.Is(err, content.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Update(context.Background(), name); !errors.Is(err, content.ErrNotFound) {
			t.Errorf("%s updated: %v", name, err)
		}
	}
	wantNames(t, names(c, ""))
}

func TestCatalogueNoticesChanges(t *testing.T) {
	dir := tree(t, map[string]string{"same": "same", "edited": string(fill(9000, 1)), "replaced": "old!", "gone": "gone"})
	c, _ := catalogue(t, config(t, dir))
	at := func(p string) string { return filepath.Join(dir, p) }
	before, err := c.Lookup("edited")
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.Stat(at("edited"))
	if err != nil {
		t.Fatal(err)
	}
	// Same length, and the modification time is set back.
	if err := os.WriteFile(at("edited"), fill(9000, 2), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(at("edited"), old.ModTime(), old.ModTime()); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"replaced.tmp": "new!", "added": "added"} {
		if err := os.WriteFile(at(name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Rename(at("replaced.tmp"), at("replaced")), os.Remove(at("gone"))); err != nil {
		t.Fatal(err)
	}
	if _, err := before.Open(); !errors.Is(err, content.ErrChanged) {
		t.Fatalf("opened a changed file: %v", err)
	}
	ch, err := c.Refresh(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, ch.Added, "added")
	wantNames(t, ch.Changed, "edited", "replaced")
	wantNames(t, ch.Removed, "gone")
	if got := read(t, c, "edited"); !bytes.Equal(got, fill(9000, 2)) {
		t.Error("old bytes after the refresh")
	}
	if got := read(t, c, "replaced"); string(got) != "new!" {
		t.Errorf("replaced: %q", got)
	}
	if ch, err = c.Refresh(context.Background()); err != nil || len(ch.Added)+len(ch.Changed)+len(ch.Removed) != 0 {
		t.Errorf("nothing changed, but %+v, %v", ch, err)
	}
}

func TestUpdateHashesOneFileAgain(t *testing.T) {
	dir := tree(t, map[string]string{"f": "old"})
	c, _ := catalogue(t, config(t, dir))
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("newer"), 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := c.Update(context.Background(), "f")
	if err != nil || e.Manifest().Size != 5 || string(read(t, c, "f")) != "newer" {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := c.Update(context.Background(), "g"); !errors.Is(err, content.ErrNotFound) {
		t.Errorf("unknown file: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Update(context.Background(), "f"); !errors.Is(err, content.ErrNotFound) {
		t.Errorf("removed file: %v", err)
	}
	wantNames(t, names(c, ""))
}

// hook calls do once, before the n-th write.
type hook struct {
	n  int
	do func()
	io.Writer
}

func (h *hook) Write(p []byte) (int, error) {
	if h.n--; h.n == 0 {
		h.do()
	}
	return h.Writer.Write(p)
}

func TestAFileThatChangesWhileItIsServedIsNoticed(t *testing.T) {
	data := fill(2<<20, 1)
	for name, change := range map[string]func(path string) error{
		"written": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("changed"), 1<<20)
			return errors.Join(err, f.Close())
		},
		"cut":      func(path string) error { return os.Truncate(path, 1<<20) },
		"appended": func(path string) error { return os.Truncate(path, 3<<20) },
	} {
		dir := tree(t, map[string]string{"f": string(data)})
		c, _ := catalogue(t, config(t, dir))
		e, err := c.Lookup("f")
		if err != nil {
			t.Fatal(err)
		}
		for kind, write := range map[string]func(*content.Reader, io.Writer) error{
			"slice": func(r *content.Reader, w io.Writer) error {
				return r.WriteSlice(context.Background(), w, 0, uint64(len(data)))
			},
			"range": func(r *content.Reader, w io.Writer) error {
				return r.WriteRange(context.Background(), w, 0, uint64(len(data)))
			},
		} {
			if e, err = c.Update(context.Background(), "f"); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(e.Path(), data, 0o644); err != nil {
				t.Fatal(err)
			}
			if e, err = c.Update(context.Background(), "f"); err != nil {
				t.Fatal(err)
			}
			r, err := e.Open()
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			w := &hook{n: 2, do: func() {
				if err := change(e.Path()); err != nil {
					t.Error(err)
				}
			}, Writer: &out}
			if err := write(r, w); !errors.Is(err, content.ErrChanged) {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if out.Len() > 300<<10 {
				t.Errorf("%s, %s: %d bytes left after the change", name, kind, out.Len())
			}
		}
	}
}

// A file that is replaced by another stays whole for who reads it already.
func TestAReplacedFileIsServedToTheEnd(t *testing.T) {
	data := fill(1<<20, 1)
	dir := tree(t, map[string]string{"f": string(data), "g": "other"})
	c, _ := catalogue(t, config(t, dir))
	e, err := c.Lookup("f")
	if err != nil {
		t.Fatal(err)
	}
	r, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := &hook{n: 2, do: func() {
		if err := os.Rename(filepath.Join(dir, "g"), e.Path()); err != nil {
			t.Error(err)
		}
	}, Writer: &out}
	if err := errors.Join(r.WriteRange(context.Background(), w, 0, uint64(len(data))), r.Close()); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%v", err)
	}
}

func TestDamagedOutboardsAreBuiltAgain(t *testing.T) {
	data := fill(300_000, 1)
	dir := tree(t, map[string]string{"f": string(data)})
	cfg := config(t, dir)
	catalogue(t, cfg)
	list, err := filepath.Glob(filepath.Join(cfg.CacheDir, "*.obao"))
	if err != nil || len(list) != 1 {
		t.Fatalf("cached: %v, %v", list, err)
	}
	good, err := os.ReadFile(list[0])
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(good); at += 997 {
		bad := bytes.Clone(good)
		bad[at] ^= 0x40
		if at%2 == 0 {
			bad = bad[:at]
		}
		if err := os.WriteFile(list[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		c, _ := catalogue(t, cfg)
		if !serveOrDrop(t, c, "f", data) {
			if _, err := c.Update(context.Background(), "f"); err != nil {
				t.Fatal(err)
			}
			if !serveOrDrop(t, c, "f", data) {
				t.Fatalf("byte %d damaged: not served after an update", at)
			}
		}
	}
}

// serveOrDrop serves a whole slice, right, or says that the file changed.
func serveOrDrop(t *testing.T, c *content.Catalogue, name string, data []byte) bool {
	t.Helper()
	e, err := c.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := e.Open()
	if errors.Is(err, content.ErrChanged) {
		return false
	} else if err != nil {
		t.Fatal(err)
	}
	var slice bytes.Buffer
	err = r.WriteSlice(context.Background(), &slice, 0, uint64(len(data)))
	if err = errors.Join(err, r.Close()); errors.Is(err, content.ErrChanged) {
		return false
	} else if err != nil {
		t.Fatal(err)
	}
	m, out := e.Manifest(), make([]byte, len(data))
	if err := bao.DecodeSlice(context.Background(), writerAt(out), &slice, m.Slice(0, m.Size), nil); err != nil || !bytes.Equal(out, data) {
		t.Fatalf("wrong bytes were served: %v", err)
	}
	return true
}

func TestOutboardsAreReusedAndPruned(t *testing.T) {
	dir := tree(t, map[string]string{"keep": string(fill(100_000, 1)), "drop": string(fill(100_000, 2))})
	cfg := config(t, dir)
	catalogue(t, cfg)
	cached := func() (n int) {
		t.Helper()
		list, err := os.ReadDir(cfg.CacheDir)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if n := cached(); n != 2 {
		t.Fatalf("%d files cached", n)
	}
	var hashed uint64
	cfg.Progress = func(p content.ScanProgress) {
		if p.Name != "" && p.Files < p.AllFiles && p.Bytes%100_000 != 0 {
			hashed += p.Bytes
		}
	}
	before := modTimes(t, cfg.CacheDir)
	c, _ := catalogue(t, cfg)
	if after := modTimes(t, cfg.CacheDir); hashed != 0 || !slices.Equal(before, after) {
		t.Error("cached trees were built again")
	}
	stale := filepath.Join(cfg.CacheDir, "1.obao.tmp")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := errors.Join(os.Chtimes(stale, old, old), os.Remove(filepath.Join(dir, "drop"))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := cached(); n != 1 {
		t.Errorf("%d files cached after one was removed", n)
	}
}

func modTimes(t *testing.T, dir string) []time.Time {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var times []time.Time
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, info.ModTime())
	}
	return times
}

func TestRefreshReportsProgressAndStops(t *testing.T) {
	dir := tree(t, map[string]string{"a": string(fill(100_000, 1)), "b": string(fill(200_000, 2))})
	cfg := config(t, dir)
	ctx, cancel := context.WithCancel(context.Background())
	var last content.ScanProgress
	cfg.Progress = func(p content.ScanProgress) {
		if p.Files < last.Files || p.Bytes < last.Bytes || p.AllBytes != 300_000 || p.AllFiles != 2 {
			t.Errorf("%+v after %+v", p, last)
		}
		if last = p; p.Files == 1 {
			cancel()
		}
	}
	c, err := content.NewCatalogue(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Refresh(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("called off: %v", err)
	}
	wantNames(t, names(c, ""), "a")
	last = content.ScanProgress{}
	if _, err := c.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if last != (content.ScanProgress{Files: 2, AllFiles: 2, Bytes: 300_000, AllBytes: 300_000}) {
		t.Errorf("at the end %+v", last)
	}
}
