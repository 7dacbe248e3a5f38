package forward

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// cacheName is how many characters the name of a file has in the cache: whole, or with
// the ending of its part and tree.
const cacheName = 32

// cache keeps what was verified of files, and bounds what that takes on the disk: what
// was not asked for the longest goes first, and what is being served never does.
type cache struct {
	dir  string
	most int64 // bytes
	log  *slog.Logger

	mu   sync.Mutex
	uses map[string]int       // by name: answers that are under way
	last map[string]time.Time // when the last of them ended, in this process
}

func newCache(dir string, most int64, log *slog.Logger) *cache {
	return &cache{dir: dir, most: most, log: log, uses: map[string]int{}, last: map[string]time.Time{}}
}

// enter keeps a file until the returned function is called. Errors: of the disk.
func (c *cache) enter(name string) (leave func(), err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uses[name]++
	return sync.OnceFunc(func() { c.leave(name) }), nil
}

func (c *cache) leave(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[name] = time.Now()
	if c.uses[name]--; c.uses[name] <= 0 {
		delete(c.uses, name)
	}
	if err := c.shrink(); err != nil {
		c.log.Warn("the cache could not be made smaller", "folder", c.dir, "error", err)
	}
}

// kept is what the cache has of one file.
type kept struct {
	name  string
	paths []string
	bytes int64
	last  time.Time
}

// shrink removes what was not asked for the longest until the rest is small enough; c.mu
// is held. Errors: of the disk.
func (c *cache) shrink() error {
	all, sum, err := c.list()
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b *kept) int { return a.last.Compare(b.last) })
	for _, k := range all {
		if sum <= c.most {
			return nil
		}
		if c.uses[k.name] > 0 {
			continue
		}
		for _, path := range k.paths {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		delete(c.last, k.name)
		sum -= k.bytes
		c.log.Info("a file is not kept any more", "name", k.name, "bytes", k.bytes)
	}
	return nil
}

// list is what lies in the cache, and how many bytes of the disk it takes: a part is as
// long as its file, and has holes. What is not named like a file of the cache stays.
func (c *cache) list() (all []*kept, sum int64, err error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	by := map[string]*kept{}
	for _, e := range entries {
		if len(e.Name()) < cacheName || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just become another name
		} else if err != nil {
			return nil, 0, err
		}
		name := e.Name()[:cacheName]
		k := by[name]
		if k == nil {
			k = &kept{name: name, last: c.last[name]}
			by[name], all = k, append(all, k)
		}
		k.paths = append(k.paths, filepath.Join(c.dir, e.Name()))
		n := onDisk(info)
		k.bytes, sum = k.bytes+n, sum+n
		if _, known := c.last[name]; !known && info.ModTime().After(k.last) {
			k.last = info.ModTime() // of an earlier process
		}
	}
	return all, sum, nil
}
