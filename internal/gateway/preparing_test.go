package gateway_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
)

// A file that is found while the provider sells and is not read yet is no unknown file:
// it is being prepared, on the wire, in the catalogue and on the page, until it is there.
func TestBeingPrepared(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{})
	identity, err := s.PayeeKeys.Identity()
	s.Must(err)
	price, err := content.ParsePrice("1sat/MB")
	s.Must(err)
	var at func(content.ScanProgress)
	files, err := content.NewCatalogue(content.CatalogueConfig{
		Paths: []string{s.Dir}, CacheDir: t.TempDir(), Identity: identity, Price: price, Chunk: content.DefaultChunk,
		Logger: slog.New(slog.DiscardHandler), Progress: func(p content.ScanProgress) { at(p) },
	})
	s.Must(err)
	t.Cleanup(func() { s.Must(files.Close()) })
	at = func(content.ScanProgress) {}
	_, err = files.Refresh(context.Background())
	s.Must(err)
	g, err := gateway.New(gateway.Config{Catalogue: files, Paywall: s.Wall, Provider: "p", Network: "regtest", CreditChunks: 1})
	s.Must(err)
	ask := func(path, accept string) (int, string, http.Header) {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
		r.Header.Set("Accept", accept)
		g.ServeHTTP(w, r)
		return w.Code, w.Body.String(), w.Header()
	}
	put := func(name string) {
		s.Must(os.MkdirAll(filepath.Dir(filepath.Join(s.Dir, name)), 0o755))
		s.Must(os.WriteFile(filepath.Join(s.Dir, name), make([]byte, 3<<20), 0o600))
	}
	put("new/late.bin")
	put("new/z.bin")
	seen := 0
	at = func(p content.ScanProgress) {
		if p.Name != "new/late.bin" {
			return
		}
		seen++
		for _, path := range []string{"/new/late.bin", "/new/late.bin?manifest", "/new/z.bin"} {
			if code, body, h := ask(path, "*/*"); code != 503 || h.Get("Retry-After") == "" || !strings.Contains(body, "being prepared") {
				t.Errorf("%s: %d %s %v", path, code, body, h)
			}
		}
		if code, body, _ := ask("/new/", "application/json"); code != 200 || !strings.Contains(body, `"preparing":[{"name":"new/late.bin","size":3145728},{"name":"new/z.bin"`) {
			t.Errorf("the folder: %d %s", code, body)
		}
		if code, body, _ := ask("/", "text/html"); code != 200 || !strings.Contains(body, "being prepared") || !strings.Contains(body, "new/z.bin") {
			t.Errorf("the page: %d %s", code, body)
		}
		if code, _, _ := ask("/nothing", "*/*"); code != 404 {
			t.Errorf("what is not there: %d", code)
		}
	}
	_, err = files.Refresh(context.Background())
	s.Must(err)
	if seen < 2 {
		t.Fatalf("asked %d times while it was read", seen)
	}
	at = func(content.ScanProgress) {}
	if code, _, _ := ask("/new/late.bin", "*/*"); code != 402 {
		t.Errorf("after: %d", code)
	}
	if _, body, _ := ask("/", "application/json"); !strings.Contains(body, `"preparing":[]`) {
		t.Errorf("after: %s", body)
	}
}

// What cannot be offered is not being prepared for ever: once it was looked at it is
// unknown, until it changes.
func TestUnfitIsNotPrepared(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{})
	s.Must(os.WriteFile(filepath.Join(s.Dir, "shut.bin"), []byte("x"), 0o600))
	list, err := content.ParsePriceList(strings.NewReader("shut.bin 1msat/file\n"))
	s.Must(err)
	s.Catalogue.SetPrices(list)
	_, err = s.Catalogue.Refresh(context.Background())
	s.Must(err)
	if all := s.Catalogue.Pending(""); len(all) > 0 {
		t.Errorf("%v", all)
	}
	version := s.Catalogue.Version()
	_, err = s.Catalogue.Refresh(context.Background())
	s.Must(err)
	if now := s.Catalogue.Version(); now != version {
		t.Errorf("a look that found nothing new changed the catalogue: version %d, then %d", version, now)
	}
}
