package forward

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is kept of files is bounded: what was not asked for the longest goes first, also
// over a restart, with its part and tree; what is being served stays whatever it takes,
// and what is no file of the cache is nobody's to remove.
func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	name := func(c string) string { return strings.Repeat(c, cacheName) }
	put := func(file string, age time.Duration) {
		path := filepath.Join(dir, file)
		must(t, os.WriteFile(path, bytes.Repeat([]byte{1}, 64<<10), 0o600))
		must(t, os.Chtimes(path, time.Now().Add(-age), time.Now().Add(-age)))
	}
	there := func() string {
		entries, err := os.ReadDir(dir)
		must(t, err)
		var all []string
		for _, e := range entries {
			all = append(all, strings.Replace(e.Name(), e.Name()[:min(len(e.Name()), cacheName)], e.Name()[:1], 1))
		}
		return strings.Join(all, " ")
	}
	put(name("a"), 4*time.Hour)
	put(name("b")+".00.part", 3*time.Hour)
	put(name("b")+".00.tree", 5*time.Hour)
	put(name("c"), 2*time.Hour)
	put("readme", 9*time.Hour)
	c := newCache(dir, 300<<10, slog.New(slog.DiscardHandler))
	leave := func(what string) func() {
		done, err := c.enter(name(what))
		must(t, err)
		return done
	}
	leave("a")() // all of it fits; a is the newest now
	if got := there(); got != "a b.00.part b.00.tree c r" {
		t.Fatal(got)
	}
	serving := leave("c")
	put(name("d"), time.Hour)
	put(name("e"), time.Minute)
	put(name("f"), 6*time.Hour)
	leave("e")()
	if got := there(); got != "a c d e r" { // f is the oldest, then b
		t.Fatal(got)
	}
	c.most = 0
	leave("d")()
	if got := there(); got != "c r" {
		t.Fatal(got)
	}
	again := leave("c")
	serving()
	if got := there(); got != "c r" {
		t.Fatal(got)
	}
	again()
	if got := there(); got != "r" {
		t.Fatal(got)
	}
}
