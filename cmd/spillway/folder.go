package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// maxCatalogue is how many bytes of a provider's catalogue are read.
const maxCatalogue = 256 << 20

// listing is a provider's catalogue, as far as a buyer of a folder needs it.
type listing struct {
	Files     []listed        `json:"files"`
	Preparing []shownPrepared `json:"preparing"`
	Complete  *bool           `json:"complete"` // nil: not said
}

type listed struct {
	Name      string `json:"name"`
	Size      uint64 `json:"size"`
	ChunkMsat uint64 `json:"chunk_msat"`
	TotalMsat uint64 `json:"total_msat"`
}

// isFolder reports whether a URL names a folder: it ends in a slash.
func isFolder(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Host != "" && u.RawQuery == "" && (u.Path == "" || strings.HasSuffix(u.Path, "/"))
}

// folder asks for a catalogue. Names are the provider's and are checked before
// anything is made here. Errors: paywall.ErrNotProvider, paywall.ErrMisbehaved,
// those of paywall.Client.Get.
func (b *buyer) folder(ctx context.Context, w download.Want) ([]item, error) {
	if w.Root != nil {
		return nil, usagef("--root is the root of one file, and %s is a folder", w.URL)
	}
	if w.Path != "" {
		w.Dir, w.Path = w.Path, ""
	}
	raw, at, err := b.client.Get(ctx, w.URL, nil, maxCatalogue)
	if err != nil {
		return nil, err
	}
	var list listing
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%w: %s is no catalogue: %w", paywall.ErrNotProvider, w.URL, err)
	}
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	below := strings.TrimPrefix(u.Path, "/")
	if n := len(list.Preparing); n > 0 || list.Complete != nil && !*list.Complete {
		return nil, preparing(w.URL, n)
	}
	items := make([]item, 0, len(list.Files))
	for _, f := range list.Files {
		rest, ok := strings.CutPrefix(f.Name, below)
		it, err := f.item(w, paywall.Origin(at)+(&url.URL{Path: "/" + f.Name}).EscapedPath(), rest)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: its catalogue of %s lists %.200q", paywall.ErrMisbehaved, u.Path, f.Name)
		}
		items = append(items, it)
	}
	return items, nil
}

// preparing says that a folder is not all there yet: n of its files are known that are
// being read, 0: the provider has just begun.
func preparing(url string, n int) error {
	what := "its provider is reading its files"
	if n > 0 {
		what = count(uint64(n), "file") + " of it " + isAre(n) + " being prepared"
	}
	return &paywall.BusyError{Status: http.StatusServiceUnavailable, RetryAfter: 2 * time.Second,
		Problem: &mpp.Problem{Detail: fmt.Sprintf("%s is not all there yet: %s; nothing was paid", url, what)}}
}

// makeDir makes the folder that a file goes to.
func makeDir(w download.Want) error {
	if w.Dir == "" {
		return nil // the path as somebody gave it
	}
	dir := w.Dir
	if w.Path != "" {
		dir = filepath.Dir(w.Path)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return localError(err)
	}
	return nil
}
