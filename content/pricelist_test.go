package content_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/content"
)

func TestMatchGlob(t *testing.T) {
	for _, tt := range []struct {
		glob, name string
		want       bool
	}{
		{"*.iso", "a.iso", true}, {"*.iso", "deep/er/a.iso", true}, {"*.iso", "a.iso.txt", false}, {"*", "x/y", true},
		{"docs/*", "docs/a", true}, {"docs/*", "docs/a/b", false}, {"docs/**", "docs/a/b", true}, {"docs/**", "docs", true},
		{"docs/**", "other/docs/a", false}, {"**/docs/*", "other/docs/a", true}, {"**/docs/*", "docs/a", true},
		{"**", "a/b/c", true}, {"a/**/z", "a/z", true}, {"a/**/z", "a/b/c/z", true}, {"a/**/z", "a/b/c/y", false},
		{"a/**/b/**/c", "a/x/b/y/b/z/c", true}, {"f?.bin", "f1.bin", true}, {"f[0-4].bin", "f7.bin", false}, {"A*", "a", false},
	} {
		if got := content.MatchGlob(tt.glob, tt.name); got != tt.want {
			t.Errorf("%s on %s: %v", tt.glob, tt.name, got)
		}
	}
}

func TestPriceListNamesTheLine(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"one field":        {"*.iso", "line 1: a glob and a price"},
		"no price":         {"# x\n\n*.iso cheap", "line 3: price"},
		"zero":             {"* 0sat/MiB", "line 1: price"},
		"bad glob":         {"a 1sat/MiB\n[a 1sat/MiB", "line 2: glob"},
		"empty element":    {"a//b 1sat/MiB", "line 1: glob"},
		"option":           {"* 1sat/MiB colour red", `line 1: "colour" is neither`},
		"option alone":     {"* 1sat/MiB chunk", `line 1: "chunk"`},
		"two chunk sizes":  {"* 1sat/MiB chunk 1MiB chunks 7", `line 1: "chunks"`},
		"chunk of nothing": {"* 1sat/MiB chunk 0", "line 1: chunk 0"},
		"no chunks":        {"* 1sat/MiB chunks 0", "line 1: chunks 0"},
		"free preview":     {"* free preview 1MiB", "line 1: a free file"},
		"open quote":       {`"a b 1sat/MiB`, "line 1: a quote"},
		"preview":          {"* 1sat/MiB preview some", "line 1: size"},
	} {
		_, err := content.ParsePriceList(strings.NewReader(tt.text))
		if !errors.Is(err, content.ErrPriceList) || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTermsOfFiles(t *testing.T) {
	list, err := content.ParsePriceList(strings.NewReader(`
# the first line that matches counts
docs/**        free            # given away
"my films/*"   10sat/file      chunks 10 preview 250
*.iso          1sat/MiB        chunk 4MiB
small/*        1sat/100        preview 1MiB
`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := content.NewCatalogue(content.CatalogueConfig{
		Paths: []string{t.TempDir()}, CacheDir: t.TempDir(), Identity: identity(), Prices: list,
		Price: content.PriceSpec{Msat: 1000, PerBytes: 64 << 10}, Chunk: content.ChunkSpec{Bytes: 1 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name                     string
		size                     uint64
		chunk, each, total, free uint64
		version                  int
	}{
		{"docs/a/x.iso", 5000, 1 << 20, 0, 0, 5000, 1},
		{"my films/f", 1000, 100, 1250, 10_000, 200, 2},
		{"x.iso", 8 << 20, 4 << 20, 4000, 8000, 0, 1},
		{"small/x", 1000, 1 << 20, 0, 0, 1000, 1},
		{"other", 64 << 10, 1 << 20, 1000, 1000, 0, 1},
		{"my films/tiny", 200, 20, 0, 0, 200, 1},
	} {
		m, err := c.Terms(tt.name).Manifest(tt.name, tt.size, content.Hash{1})
		if err == nil {
			err = m.Sign(identity())
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if m.ChunkBytes != tt.chunk || m.ChunkMsat != tt.each || m.TotalMsat() != tt.total || m.FreeBytes() != tt.free || m.Version != tt.version {
			t.Errorf("%s: chunk %d at %d, total %d, free %d, version %d", tt.name, m.ChunkBytes, m.ChunkMsat, m.TotalMsat(), m.FreeBytes(), m.Version)
		}
		raw, err := m.MarshalJSON()
		var again content.Manifest
		if err = errors.Join(err, again.UnmarshalJSON(raw)); err != nil || again != m || again.Verify() != nil {
			t.Errorf("%s: %v, read again as %+v", tt.name, err, again)
		}
		if m.FreeChunks > 0 {
			more := m
			more.FreeChunks--
			if more.FreeChunks > 0 && !errors.Is(more.Verify(), content.ErrManifestSignature) {
				t.Errorf("%s: the signature does not cover the free chunks", tt.name)
			}
			more.FreeChunks = m.Chunks()
			if !errors.Is(more.Validate(), content.ErrManifest) {
				t.Errorf("%s: all chunks free in a file with a price", tt.name)
			}
		}
	}
	if got := list.Unused([]string{"docs/x", "y.iso"}); len(got) != 2 || !strings.Contains(got[0], "my films/*") {
		t.Errorf("unused: %q", got)
	}
	c.SetPrices(nil)
	if got := c.Terms("docs/a"); got.Price == content.Free {
		t.Error("a price list that was taken away counts still")
	}
}

// What a file costs is the sum of its chunks, and a price by the file is exact,
// whatever is given away of it.
func TestPreviewsAndTotals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(1, 5000).Draw(t, "size")
		terms := content.Terms{Chunk: content.ChunkSpec{Bytes: rapid.Uint64Range(1, 600).Draw(t, "chunk")}, Preview: rapid.Uint64Range(0, 6000).Draw(t, "preview")}
		terms.Price = content.PriceSpec{Msat: rapid.Uint64Range(1, 1e6).Draw(t, "msat"), File: rapid.Bool().Draw(t, "file")}
		if !terms.Price.File {
			terms.Price.PerBytes = rapid.Uint64Range(1, 1e6).Draw(t, "per")
		}
		m, err := terms.Manifest("f", size, content.Hash{1})
		if err != nil {
			t.Fatal(err)
		}
		sum := uint64(0)
		for i := range m.Chunks() {
			off, n := m.ChunkRange(i)
			price := m.ChunkPrice(i)
			if (off+n <= terms.Preview || terms.Preview >= size) != (price == 0) && !(terms.Price.File && m.ChunkMsat == 0) {
				t.Fatalf("chunk %d (%d+%d) costs %d with a preview of %d", i, off, n, price, terms.Preview)
			}
			got, err := m.RangeMsat(0, i)
			if sum += price; err != nil || got != sum {
				t.Fatalf("chunks 0-%d: %d, %v, want %d", i, got, err, sum)
			}
		}
		if sum != m.TotalMsat() || terms.Price.File && terms.Preview < size && sum != terms.Price.Msat {
			t.Fatalf("total %d, sum %d of %v", m.TotalMsat(), sum, terms.Price)
		}
	})
}

func FuzzPriceList(f *testing.F) {
	f.Add("*.iso 1sat/MiB chunk 4MiB preview 1MiB\n", "a/b.iso")
	f.Add("\"a b/**/c\" free # x", "a b/x/c")
	f.Add("** 1btc/file chunks 100", "x")
	f.Fuzz(func(t *testing.T, text, name string) {
		list, err := content.ParsePriceList(strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, content.ErrPriceList) {
				t.Fatalf("%v", err)
			}
			return
		}
		list.Unused([]string{name})
	})
}
