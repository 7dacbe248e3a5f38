package gateway

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/content"
)

// Bounds of what a client that asks for a file too early is asked to wait.
const (
	leastWait = time.Second
	mostWait  = time.Minute
)

// prepared is a file of a catalogue that is not offered yet.
type prepared struct {
	Name      string `json:"name"`
	Size      uint64 `json:"size"`
	HumanSize string `json:"-"`
	Progress  string `json:"-"`
}

// preparing answers for a file or a folder that is being read and is not offered yet:
// 503 with Retry-After. It reports whether it did.
func (g *Gateway) preparing(w http.ResponseWriter, r *http.Request) bool {
	name := strings.TrimPrefix(r.URL.Path, "/")
	one, ok := g.cfg.Catalogue.Preparing(name)
	what := "this file"
	if folder, below := strings.CutSuffix(name, "/"); below && folder != "" {
		all := g.cfg.Catalogue.Pending(folder)
		if ok = len(all) > 0; ok {
			one, what = all[0], "this folder"
		}
	}
	if !ok {
		return false
	}
	wait := min(max(one.Wait, leastWait), mostWait)
	seconds := int(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	fail(w, r, http.StatusServiceUnavailable, fmt.Sprintf("%s is being prepared (%s); try again in %d s; nothing was charged", what, progressOf(one), seconds))
	return true
}

// progressOf says how far a file is.
func progressOf(p content.Pending) string {
	if p.Done == 0 {
		return "it waits for its turn"
	}
	return fmt.Sprintf("%s of %s are read", bytesFor(p.Done), bytesFor(p.Size))
}

// pending are the files below a folder that are not offered yet, as the catalogue tells them.
func (g *Gateway) pending(folder string) []prepared {
	all := g.cfg.Catalogue.Pending(folder)
	list := make([]prepared, len(all))
	for i, p := range all {
		list[i] = prepared{Name: p.Name, Size: p.Size, HumanSize: bytesFor(p.Size), Progress: progressOf(p)}
	}
	return list
}
