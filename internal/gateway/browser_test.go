package gateway_test

import (
	"flag"
	"html"
	"image"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/browsertest"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
)

var screenshot = flag.Bool("screenshot", false, "write docs/img/catalogue.png")

// shop is a provider whose catalogue has a bit of everything.
func shop(t *testing.T) (*edgetest.Stand, *httptest.Server) {
	s := edgetest.New(t, edgetest.Config{})
	for name, size := range map[string]int{
		"films/a journey.mp4": 900_000, "films/short & sweet.mp4": 120_000, "data/2026/measurements.csv": 410_000,
		"disk-image.iso": 2_000_000, "README.txt": 2_400, "<b>bold & 'quoted'.bin": 70_000, "paper.pdf": 300_000,
	} {
		s.Put(name, edgetest.Pattern(size, 3))
	}
	list, err := content.ParsePriceList(strings.NewReader("README.txt free\npaper.pdf 40sat/file chunk 50kB preview 100kB\n*.iso 1sat/100kB chunk 500kB\n** 1sat/10kB chunk 100kB\n"))
	s.Must(err)
	identity, err := s.PayeeKeys.Identity()
	s.Must(err)
	files, err := content.NewCatalogue(content.CatalogueConfig{
		Paths: []string{s.Dir}, CacheDir: t.TempDir(), Identity: identity, Prices: list, Price: content.Free, Chunk: content.DefaultChunk,
	})
	s.Must(err)
	t.Cleanup(func() { s.Must(files.Close()) })
	_, err = files.Refresh(t.Context())
	s.Must(err)
	g, err := gateway.New(gateway.Config{
		Catalogue: files, Paywall: s.Wall, Provider: strings.Repeat("3fa9c2", 11)[:64], Network: "regtest", CreditChunks: 1,
		Constructions: []string{"taproot", "multisig"},
	})
	s.Must(err)
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return s, server
}

// The catalogue's page in a real browser: it is whole without a script, what files
// are called is text and no markup, and it is dark where the reader wants that.
func TestCatalogueInABrowser(t *testing.T) {
	s, server := shop(t)
	dom := browsertest.DOM(t, server.URL+"/")
	text := html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(dom, " "))
	for _, want := range []string{
		"<b>bold & 'quoted'.bin", "spillway get " + server.URL + "/disk-image.iso", "20 sat", "4 × 5 sat", "films/", "2 files",
		"first 97.7 KiB free", "1.9 MiB", "spillway ls " + server.URL + "/", "taproot, multisig", strings.Repeat("3fa9c2", 11)[:64],
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if strings.Contains(dom, "<b>") || strings.Contains(dom, "<script") {
		t.Error("a name became markup")
	}
	if n := strings.Count(dom, `<tr class="file">`); n != 5 {
		t.Errorf("%d rows of files:\n%s", n, dom)
	}
	free := s.Read(get(t, server.URL+"/README.txt"))
	if free.Status != http.StatusOK || len(free.Body) != 2400 {
		t.Errorf("what is free: %d, %d bytes", free.Status, len(free.Body))
	}
	light, raw := browsertest.Screenshot(t, server.URL+"/", browsertest.View{})
	if *screenshot {
		name := filepath.Join("..", "..", "docs", "img", "catalogue.png")
		s.Must(os.MkdirAll(filepath.Dir(name), 0o755))
		s.Must(os.WriteFile(name, raw, 0o644))
	}
	dark, _ := browsertest.Screenshot(t, server.URL+"/", browsertest.View{Width: 1200, Height: 900, Dark: true})
	narrow, _ := browsertest.Screenshot(t, server.URL+"/films/", browsertest.View{Width: 500, Height: 900})
	if bright(light, 2, 2) < 240 || bright(dark, 2, 2) > 50 {
		t.Errorf("the page is %d of 255 bright, and %d in the dark", bright(light, 2, 2), bright(dark, 2, 2))
	}
	for name, p := range map[string]image.Image{"wide": light, "narrow": narrow} {
		if !inked(p, p.Bounds().Dx()/2) {
			t.Errorf("the %s page is empty", name)
		}
		if right := p.Bounds().Dx() - 3; inked(p, right) {
			t.Errorf("the %s page runs over its right edge", name)
		}
	}
}

func get(t *testing.T, url string) *http.Response {
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// bright is a pixel's brightness, 0 to 255.
func bright(p image.Image, x, y int) int {
	r, g, b, _ := p.At(x, y).RGBA()
	return int(r+g+b) / 3 >> 8
}

// inked reports whether a column of a picture has anything but the page's colour.
func inked(p image.Image, x int) bool {
	for y := range p.Bounds().Dy() {
		if d := bright(p, x, y) - bright(p, 2, 2); d > 8 || d < -8 {
			return true
		}
	}
	return false
}
