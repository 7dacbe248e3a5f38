package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
)

// A provider that has just started does not say that its files are not there: it asks
// to come again, until it has looked at all of them once.
func TestNotReadYet(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{})
	identity, err := s.PayeeKeys.Identity()
	s.Must(err)
	price, err := content.ParsePrice("1sat/MB")
	s.Must(err)
	files, err := content.NewCatalogue(content.CatalogueConfig{
		Paths: []string{s.Dir}, CacheDir: t.TempDir(), Identity: identity, Price: price, Chunk: content.DefaultChunk, Logger: slog.New(slog.DiscardHandler),
	})
	s.Must(err)
	t.Cleanup(func() { s.Must(files.Close()) })
	g, err := gateway.New(gateway.Config{Catalogue: files, Paywall: s.Wall, Provider: "p", Network: "regtest", CreditChunks: 1})
	s.Must(err)
	ask := func(path string) (int, string, http.Header) {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String(), w.Header()
	}
	for _, path := range []string{"/f.bin", "/nothing", "/folder/"} {
		if code, body, h := ask(path); code != 503 || h.Get("Retry-After") == "" {
			t.Errorf("%s before: %d %s", path, code, body)
		}
	}
	if code, body, _ := ask("/"); code != 200 || !strings.Contains(body, `"complete":false`) {
		t.Errorf("%d %s", code, body)
	}
	_, err = files.Refresh(context.Background())
	s.Must(err)
	for path, want := range map[string]int{"/f.bin": 402, "/nothing": 404, "/folder/": 404, "/": 200} {
		if code, body, _ := ask(path); code != want || path == "/" && !strings.Contains(body, `"complete":true`) {
			t.Errorf("%s after: %d %s", path, code, body)
		}
	}
}

// A catalogue of many files is written once and kept until the files change; a page
// shows so many of them and says that there are more.
func TestManyFiles(t *testing.T) {
	many := map[string][]byte{}
	for i := range 1200 {
		many[fmt.Sprintf("d/%04d", i)] = []byte{1}
	}
	s := edgetest.New(t, edgetest.Config{Files: many})
	list := func(path string) (n int, raw []byte) {
		r := s.Do(edgetest.Ask{Method: "GET", Path: path})
		var got struct{ Files []struct{ Name string } }
		s.Must(json.Unmarshal(r.Body, &got))
		return len(got.Files), r.Body
	}
	n, first := list("/")
	if m, again := list("/"); n != 1200 || m != n || !bytes.Equal(first, again) {
		t.Errorf("%d, then %d files", n, m)
	}
	s.Put("d/more", []byte{2})
	_, err := s.Catalogue.Refresh(context.Background())
	s.Must(err)
	for _, path := range []string{"/", "/d/"} {
		if n, _ := list(path); n != 1201 {
			t.Errorf("%s: %d files after a change", path, n)
		}
	}
	page := s.Do(edgetest.Ask{Method: "GET", Path: "/d/", Header: http.Header{"Accept": {"text/html"}}})
	if rows := bytes.Count(page.Body, []byte(`<tr class="file">`)); rows != 1000 || !bytes.Contains(page.Body, []byte("And 201 more")) {
		t.Errorf("%d rows", rows)
	}
	_, now := list("/")
	if head := s.Do(edgetest.Ask{Method: "HEAD", Path: "/"}); head.Header.Get("Content-Length") != fmt.Sprint(len(now)) || len(head.Body) > 0 {
		t.Errorf("%v", head.Header)
	}
}
