package content_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"lukechampine.com/blake3"
)

// tree makes files below a fresh folder; a value that begins with "->" is a
// link.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(data, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(data), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func config(t testing.TB, paths ...string) content.CatalogueConfig {
	t.Helper()
	price, err := content.ParsePrice("1sat/KiB")
	if err != nil {
		t.Fatal(err)
	}
	return content.CatalogueConfig{
		Paths: paths, CacheDir: filepath.Join(t.TempDir(), "cache"), Identity: identity(),
		Price: price, Chunk: content.ChunkSpec{Bytes: 4096},
	}
}

func catalogue(t testing.TB, cfg content.CatalogueConfig) (*content.Catalogue, content.Changes) {
	t.Helper()
	c, err := content.NewCatalogue(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	ch, err := c.Refresh(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c, ch
}

func names(c *content.Catalogue, folder string) []string {
	var list []string
	for _, e := range c.List(folder) {
		list = append(list, e.Manifest().Name)
	}
	return list
}

func wantNames(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("names %q, want %q", got, want)
	}
}

// read decodes a whole file as a buyer would.
func read(t testing.TB, c *content.Catalogue, name string) []byte {
	t.Helper()
	e, err := c.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	m := r.Manifest()
	if err := m.Verify(); err != nil || !bytes.Equal(m.Provider[:], identity().Public().(ed25519.PublicKey)) {
		t.Fatalf("%s: manifest %v", name, err)
	}
	out := make([]byte, m.Size)
	for i := range m.Chunks() {
		var slice bytes.Buffer
		off, n := m.ChunkRange(i)
		if err := r.WriteSlice(context.Background(), &slice, off, n); err != nil {
			t.Fatal(err)
		}
		if err := bao.DecodeSlice(context.Background(), writerAt(out), &slice, m.Slice(off, n), nil); err != nil {
			t.Fatal(err)
		}
	}
	var plain bytes.Buffer
	if err := r.WriteRange(context.Background(), &plain, 0, m.Size); err != nil || !bytes.Equal(plain.Bytes(), out) {
		t.Fatalf("%s: plain bytes differ, %v", name, err)
	}
	return out
}

type writerAt []byte

func (w writerAt) WriteAt(p []byte, off int64) (int, error) { return copy(w[off:], p), nil }

func TestCatalogueOfOneFolder(t *testing.T) {
	big := string(fill(50_000, 1))
	odd := "odd #?%&\"'<b> ünï 🎬.bin"
	dir := tree(t, map[string]string{"a.txt": "a", "sub/deep/b.bin": big, "sub/c": "c", odd: "odd", "empty": "", "sub.txt": "x"})
	c, ch := catalogue(t, config(t, dir))
	wantNames(t, names(c, ""), "a.txt", "empty", odd, "sub.txt", "sub/c", "sub/deep/b.bin")
	wantNames(t, names(c, "sub"), "sub/c", "sub/deep/b.bin")
	wantNames(t, names(c, "sub/deep/"), "sub/deep/b.bin")
	wantNames(t, names(c, "nothing"))
	wantNames(t, ch.Added, names(c, "")...)
	if len(ch.Skipped) != 0 {
		t.Errorf("skipped %v", ch.Skipped)
	}
	for name, want := range map[string]string{"a.txt": "a", "sub/deep/b.bin": big, odd: "odd", "empty": ""} {
		if got := read(t, c, name); string(got) != want {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
		}
	}
	e, err := c.Lookup("sub/deep/b.bin")
	if err != nil || e.Manifest().Root != blake3.Sum256([]byte(big)) || e.Manifest().TotalMsat() != 12*4000+829 {
		t.Errorf("%+v, %v", e.Manifest(), err)
	}
	if _, err := c.Lookup("../a.txt"); !errors.Is(err, content.ErrNotFound) {
		t.Errorf("a name outside: %v", err)
	}
}

func TestCatalogueOfSeveralPaths(t *testing.T) {
	dir := tree(t, map[string]string{"x/a": "1", "y/a": "2", "z.bin": "3", "other/x/b": "4"})
	at := func(p string) string { return filepath.Join(dir, p) }
	c, _ := catalogue(t, config(t, at("x"), at("y"), at("z.bin")))
	wantNames(t, names(c, ""), "x/a", "y/a", "z.bin")
	c, _ = catalogue(t, config(t, at("z.bin")))
	wantNames(t, names(c, ""), "z.bin")
	_, err := content.NewCatalogue(config(t, at("x"), at("other/x")))
	if !errors.Is(err, content.ErrDuplicate) {
		t.Errorf("two folders x: %v", err)
	}
}

func TestCatalogueOffersNothingHiddenOrOutside(t *testing.T) {
	outside := tree(t, map[string]string{"secret": "s", "dir/file": "s"})
	dir := tree(t, map[string]string{
		"a": "a", "sub/b": "b", ".hidden": "h", ".git/config": "h", "own/seed": "s",
		"in": "->a", "up": "->../../etc/passwd", "out": "->" + outside + "/secret", "outdir": "->" + outside + "/dir",
		"sub/back": "->..", "sub/up": "->../a", "tohidden": "->.hidden", "togit": "->.git/config", "broken": "->nothing",
		"loop": "->loop", "toown": "->own", "back\\slash": "x", "new\nline": "x",
	})
	if err := os.Symlink(filepath.Join(dir, "sub"), filepath.Join(dir, "absolute")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := config(t, dir)
	cfg.Exclude = []string{filepath.Join(dir, "own")}
	cfg.CacheDir = filepath.Join(dir, "cache")
	c, ch := catalogue(t, cfg)
	wantNames(t, names(c, ""), "a", "absolute/b", "absolute/up", "in", "sub/b", "sub/up")
	var skipped []string
	for _, s := range ch.Skipped {
		if s.Reason == nil {
			t.Errorf("%s skipped without a reason", s.Path)
		}
		rel, err := filepath.Rel(dir, s.Path)
		if err != nil {
			t.Fatal(err)
		}
		skipped = append(skipped, rel)
	}
	slices.Sort(skipped)
	wantNames(t, slices.Compact(skipped), "back\\slash", "broken", "cache", "loop", "new\nline", "out", "outdir", "own", "pipe", "sub/back", "togit", "tohidden", "toown", "up")
	if got := read(t, c, "absolute/up"); string(got) != "a" {
		t.Errorf("through two links: %q", got)
	}
}

// A file whose chunks would cost less than a msat, or more than there is, is left out
// with the reason, before it is hashed; the others are offered.
func TestCatalogueLeavesOutWhatHasNoPrice(t *testing.T) {
	for price, want := range map[string]error{"1msat/file": content.ErrTooCheap, "10000000btc/1KiB": content.ErrTooLarge} {
		dir := tree(t, map[string]string{"large": strings.Repeat("x", 4097), "small": "x", "empty": ""})
		cfg := config(t, dir)
		var err error
		if cfg.Price, err = content.ParsePrice(price); err != nil {
			t.Fatal(err)
		}
		c, ch := catalogue(t, cfg)
		wantNames(t, names(c, ""), "empty", "small")
		if len(ch.Skipped) != 1 || !errors.Is(ch.Skipped[0].Reason, want) || !errors.Is(ch.Skipped[0].Reason, content.ErrNotOffered) {
			t.Errorf("%s: %v", price, ch.Skipped)
		}
		if ch, err = c.Refresh(t.Context()); err != nil || len(ch.Skipped) != 1 || len(ch.Removed) != 0 {
			t.Errorf("%s, again: %+v, %v", price, ch, err)
		}
		for _, e := range c.List("") {
			if m := e.Manifest(); m.Chunks() > 0 && m.ChunkMsat == 0 {
				t.Errorf("%s: %s is free", price, m.Name)
			}
		}
	}
}

func TestCatalogueRefusesBadConfigurations(t *testing.T) {
	dir := tree(t, map[string]string{".hidden": "h", "a": "a"})
	change := func(f func(*content.CatalogueConfig)) content.CatalogueConfig {
		cfg := config(t, dir)
		f(&cfg)
		return cfg
	}
	for name, tt := range map[string]struct {
		cfg  content.CatalogueConfig
		want error
	}{
		"no paths":     {config(t), content.ErrNotFound},
		"missing path": {config(t, filepath.Join(dir, "nothing")), os.ErrNotExist},
		"hidden file":  {config(t, filepath.Join(dir, ".hidden")), content.ErrNotOffered},
		"device":       {config(t, "/dev/null"), content.ErrNotOffered},
		"no identity":  {change(func(c *content.CatalogueConfig) { c.Identity = nil }), content.ErrManifestSignature},
		"no price":     {change(func(c *content.CatalogueConfig) { c.Price = content.PriceSpec{} }), content.ErrZero},
		"no chunk":     {change(func(c *content.CatalogueConfig) { c.Chunk = content.ChunkSpec{} }), content.ErrZero},
		"no cache":     {change(func(c *content.CatalogueConfig) { c.CacheDir = filepath.Join(dir, "a", "b") }), syscall.ENOTDIR},
	} {
		if _, err := content.NewCatalogue(tt.cfg); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
