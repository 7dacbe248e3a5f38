package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/paywall"
)

// maxCatalogue is how many bytes of a provider's catalogue are read.
const maxCatalogue = 256 << 20

// listing is a provider's catalogue, as far as a buyer of a folder needs it.
type listing struct {
	Files []listed `json:"files"`
}

type listed struct {
	Name      string `json:"name"`
	ChunkMsat uint64 `json:"chunk_msat"`
	TotalMsat uint64 `json:"total_msat"`
}

// isFolder reports whether a URL names a folder: it ends in a slash.
func isFolder(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Host != "" && u.RawQuery == "" && (u.Path == "" || strings.HasSuffix(u.Path, "/"))
}

// expand puts the files of a folder in the place of a folder's URL.
func (b *buyer) expand(ctx context.Context, wants []download.Want) ([]download.Want, error) {
	var all []download.Want
	for _, w := range wants {
		if !isFolder(w.URL) {
			all = append(all, w)
			continue
		}
		if w.Root != nil {
			return nil, usagef("--root is the root of one file, and %s is a folder", w.URL)
		}
		if w.Path != "" {
			w.Dir, w.Path = w.Path, ""
		}
		files, err := b.folder(ctx, w)
		if err != nil {
			return nil, err
		}
		b.app.out.say("%s: %s", w.URL, count(uint64(len(files)), "file"))
		all = append(all, files...)
	}
	return all, nil
}

// folder asks for a catalogue. The files come dearest chunk first: a channel's
// credit is that of the file that it was opened for. Names are the provider's
// and are checked before anything is made here. Errors: paywall.ErrNotProvider,
// paywall.ErrMisbehaved, those of paywall.Client.Get.
func (b *buyer) folder(ctx context.Context, w download.Want) ([]download.Want, error) {
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
	slices.SortStableFunc(list.Files, func(x, y listed) int { return cmp.Compare(y.ChunkMsat, x.ChunkMsat) })
	wants := make([]download.Want, 0, len(list.Files))
	for _, f := range list.Files {
		rest, ok := strings.CutPrefix(f.Name, below)
		if err := content.CheckName(f.Name); err != nil || !ok {
			return nil, fmt.Errorf("%w: its catalogue of %s lists %.200q", paywall.ErrMisbehaved, u.Path, f.Name)
		}
		each := w
		each.URL = paywall.Origin(at) + (&url.URL{Path: "/" + f.Name}).EscapedPath()
		each.Dir = filepath.Join(w.Dir, filepath.FromSlash(filepath.Dir(rest)))
		wants = append(wants, each)
	}
	var reserve uint64 // what the channel should be able to pay after a file
	for i, f := range slices.Backward(list.Files) {
		wants[i].Reserve = reserve
		if sum := reserve + f.TotalMsat; sum >= reserve {
			reserve = sum
		}
	}
	return wants, nil
}

// makeDir makes the folder that a file goes to.
func makeDir(w download.Want) error {
	if w.Path != "" {
		return nil
	}
	if err := os.MkdirAll(w.Dir, 0o755); err != nil {
		return localError(err)
	}
	return nil
}
