package content

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// What can be wrong with a catalogue's paths and names.
var (
	// ErrNotFound: the catalogue offers no file of that name.
	ErrNotFound = errors.New("no such file in the catalogue")
	// ErrNotOffered: a file is there, but it is not offered, for the reason
	// given.
	ErrNotOffered = errors.New("not offered")
	// ErrDuplicate: two paths would appear under one name.
	ErrDuplicate = errors.New("two paths with one name")
	// ErrTooCheap: a chunk of a file would cost less than 1 msat.
	ErrTooCheap = errors.New("a chunk would cost less than 1 msat")
	// ErrTooMany: more files than a catalogue holds.
	ErrTooMany = errors.New("too many files")
)

// MaxEntries is how many files a catalogue holds at most.
const MaxEntries = 1 << 20

// CatalogueConfig is what a provider offers. Paths, CacheDir and Identity are
// needed; Price and Chunk must be set.
type CatalogueConfig struct {
	Paths    []string           // files and folders; one folder's contents appear at the top, several paths by their base names
	Exclude  []string           // files and folders never offered: the provider's own data
	CacheDir string             // where outboards are kept; made where it is missing
	Identity ed25519.PrivateKey // signs the manifests
	Price    PriceSpec
	Chunk    ChunkSpec
	Prices   *PriceList         // terms of single files; nil: all have Price and Chunk
	Workers  int                // hash in parallel; 0: one per processor
	Progress func(ScanProgress) // told what Refresh does, where set
	Logger   *slog.Logger       // slog.Default where nil
}

// ScanProgress is how far a Refresh is.
type ScanProgress struct {
	Name            string // the file at hand; empty at the end
	Files, AllFiles int
	Bytes, AllBytes uint64
}

// Skipped is a file that is not offered, and why. Hidden files are left out
// without being listed.
type Skipped struct {
	Path   string
	Reason error
}

// Changes tells what a Refresh found.
type Changes struct {
	Added, Changed, Removed []string  // names, sorted
	Skipped                 []Skipped // what is not offered
}

// Catalogue is what a provider offers: files by name, with signed manifests
// and cached hash trees. It is safe for concurrent use, and serves what it
// knows while Refresh goes on.
type Catalogue struct {
	cfg     CatalogueConfig
	sources []source
	exclude []string // absolute, links resolved
	cache   cache
	handles handles
	log     *slog.Logger

	refresh sync.Mutex // one Refresh at a time
	pruned  bool       // guarded by refresh

	mu      sync.RWMutex
	entries map[string]*Entry
	sorted  []*Entry // nil where entries changed since
	version uint64   // how often entries changed
	prices  *PriceList
	whole   bool // a Refresh has ended
	busy    map[string]*update
	queue   queue            // what is found and not offered yet
	unfit   map[string]stamp // what could not be offered when it was last looked at
}

// update is a hash under way; whoever wants the same file waits for it.
type update struct {
	done  chan struct{}
	entry *Entry
	err   error
}

// NewCatalogue checks the configuration and the paths and returns a catalogue
// that is empty until Refresh. Errors: ErrDuplicate, ErrNotOffered (hidden),
// ErrZero, those of CheckName, and the file system's.
func NewCatalogue(cfg CatalogueConfig) (*Catalogue, error) {
	if len(cfg.Identity) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("catalogue: %w: not an Ed25519 private key", ErrManifestSignature)
	}
	if err := (Terms{Price: cfg.Price, Chunk: cfg.Chunk}).check(); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	c := &Catalogue{cfg: cfg, prices: cfg.Prices, log: cfg.Logger, entries: map[string]*Entry{}, busy: map[string]*update{}, unfit: map[string]stamp{}}
	if c.log == nil {
		c.log = slog.Default()
	}
	var err error
	if c.sources, err = newSources(cfg.Paths); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.CacheDir, 0o700); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	for _, p := range append(slices.Clone(cfg.Exclude), cfg.CacheDir) {
		real, err := realPath(p)
		if err != nil {
			return nil, fmt.Errorf("catalogue: exclude %s: %w", p, err)
		}
		c.exclude = append(c.exclude, real)
	}
	dir, err := realPath(cfg.CacheDir)
	if err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	c.handles = handles{log: c.log, open: map[*Entry]*handle{}}
	c.cache = cache{dir: dir, workers: cfg.Workers, log: c.log}
	return c, nil
}

// Lookup returns the entry of that name, as it was last hashed: ErrNotFound.
func (c *Catalogue) Lookup(name string) (*Entry, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.entries[name]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("%w: %.200q", ErrNotFound, name)
}

// List returns the entries below a folder, which is "" for all, sorted by
// name.
func (c *Catalogue) List(folder string) []*Entry {
	all := c.all()
	if folder == "" {
		return slices.Clone(all)
	}
	prefix := strings.TrimSuffix(folder, "/") + "/"
	from, _ := slices.BinarySearchFunc(all, prefix, func(e *Entry, p string) int { return strings.Compare(e.manifest.Name, p) })
	to := from
	for to < len(all) && strings.HasPrefix(all[to].manifest.Name, prefix) {
		to++
	}
	return slices.Clone(all[from:to])
}

// Complete reports whether a Refresh has ended: before that a file may be on offer
// that is not known yet.
func (c *Catalogue) Complete() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.whole
}

// complete notes that a Refresh has ended.
func (c *Catalogue) complete() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.whole {
		c.whole = true
		c.version++
	}
}

// Version is another number after every change of what is offered.
func (c *Catalogue) Version() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.version
}

func (c *Catalogue) all() []*Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sorted == nil {
		c.sorted = make([]*Entry, 0, len(c.entries))
		for _, e := range c.entries {
			c.sorted = append(c.sorted, e)
		}
		slices.SortFunc(c.sorted, func(a, b *Entry) int { return strings.Compare(a.manifest.Name, b.manifest.Name) })
	}
	return c.sorted
}

// put makes e the current entry of its name.
func (c *Catalogue) put(e *Entry) { c.set(e.manifest.Name, e) }

func (c *Catalogue) remove(name string) { c.set(name, nil) }

func (c *Catalogue) set(name string, e *Entry) {
	c.mu.Lock()
	old := c.entries[name]
	if e == nil {
		delete(c.entries, name)
	} else {
		c.entries[name] = e
	}
	c.sorted = nil
	c.version++
	c.mu.Unlock()
	if old != nil {
		c.handles.drop(old)
	}
}

// Close closes the files that are open: those being read with the last of
// their readers.
func (c *Catalogue) Close() error { return c.handles.close() }

// Refresh looks at every path again: new and changed files are hashed, one
// after the other, and offered as soon as they are; what is gone is removed.
// An error is the context's, ErrTooMany, or that of a path that cannot be read
// at all; files that cannot be read are skipped.
func (c *Catalogue) Refresh(ctx context.Context) (Changes, error) {
	c.refresh.Lock()
	defer c.refresh.Unlock()
	found, skipped, err := c.scan(ctx)
	if err != nil {
		return Changes{}, err
	}
	ch := Changes{Skipped: skipped}
	p := ScanProgress{AllFiles: len(found)}
	names := make(map[string]bool, len(found))
	for _, f := range found {
		names[f.name] = true
		p.AllBytes += uint64(max(0, f.stamp.Size))
	}
	c.await(found)
	for _, f := range found {
		if err := c.refreshOne(ctx, f, &p, &ch, names); err != nil {
			return ch, err
		}
	}
	for _, e := range c.all() {
		if name := e.manifest.Name; !names[name] {
			c.remove(name)
			ch.Removed = append(ch.Removed, name)
		}
	}
	c.complete()
	p.Name = ""
	c.report(p)
	slices.Sort(ch.Added)
	slices.Sort(ch.Changed)
	if len(ch.Removed) > 0 || !c.pruned {
		c.pruned = true
		if err := c.cache.prune(); err != nil {
			c.log.Warn("old outboards stay", "err", err)
		}
	}
	return ch, nil
}

// refreshOne hashes what was found, where it is new or changed.
func (c *Catalogue) refreshOne(ctx context.Context, f found, p *ScanProgress, ch *Changes, names map[string]bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.Name = f.name
	c.report(*p)
	old, _ := c.Lookup(f.name)
	if old == nil || old.stamp != f.stamp || old.path() != f.path() || old.terms != c.Terms(f.name) {
		start := *p
		e, err := c.hash(ctx, f, func(done uint64) {
			now := start
			now.Bytes += done
			c.hashed(f.name, done)
			c.report(now)
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			c.awaited(f, err == nil)
		}
		switch {
		case err != nil:
			delete(names, f.name)
			ch.Skipped = append(ch.Skipped, Skipped{f.path(), err})
			c.log.Warn("file is not offered", "path", f.path(), "err", err)
		case old == nil:
			ch.Added = append(ch.Added, f.name)
		case e.manifest != old.manifest:
			ch.Changed = append(ch.Changed, f.name)
		}
	}
	p.Files++
	p.Bytes += uint64(max(0, f.stamp.Size))
	return nil
}

func (c *Catalogue) report(p ScanProgress) {
	if c.cfg.Progress != nil {
		c.cfg.Progress(p)
	}
}

// Update hashes one file of the catalogue again where it changed, and waits
// for it: ErrNotFound where it is gone meanwhile.
func (c *Catalogue) Update(ctx context.Context, name string) (*Entry, error) {
	old, err := c.Lookup(name)
	if err != nil {
		return nil, err
	}
	e, err := c.hash(ctx, old.found, nil)
	if err != nil && ctx.Err() == nil {
		c.remove(name)
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return e, err
}

// hash returns the entry for a file as it is now, from the cache where that
// knows it. Only one hash of a file runs at a time.
func (c *Catalogue) hash(ctx context.Context, f found, progress func(uint64)) (*Entry, error) {
	for {
		u, mine := c.begin(f.name)
		if mine {
			u.entry, u.err = c.hashSettled(ctx, f, progress)
			c.end(f.name, u)
			return u.entry, u.err
		}
		select {
		case <-u.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// That hash began before we asked: it counts only where it is of the
		// file as it is now, and not where its caller called it off.
		if info, err := os.Stat(f.path()); err == nil && u.err == nil && u.entry.stamp == stampOf(info) {
			return u.entry, nil
		}
	}
}

// begin returns the hash of a file that is under way, or begins one.
func (c *Catalogue) begin(name string) (u *update, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u = c.busy[name]; u != nil {
		return u, false
	}
	u = &update{done: make(chan struct{})}
	c.busy[name] = u
	return u, true
}

func (c *Catalogue) end(name string, u *update) {
	if u.err == nil {
		c.put(u.entry)
	}
	c.mu.Lock()
	delete(c.busy, name)
	c.mu.Unlock()
	close(u.done)
}

// hashSettled gives a file that changes while it is hashed a second chance.
func (c *Catalogue) hashSettled(ctx context.Context, f found, progress func(uint64)) (*Entry, error) {
	e, err := c.hashNow(ctx, f, progress)
	if errors.Is(err, ErrChanged) {
		return c.hashNow(ctx, f, progress)
	}
	return e, err
}

func (c *Catalogue) hashNow(ctx context.Context, f found, progress func(uint64)) (e *Entry, err error) {
	file, err := f.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	s, err := stampFile(file)
	if err != nil {
		return nil, err
	}
	terms := c.Terms(f.name)
	chunk, err := terms.sellable(uint64(s.Size))
	if err != nil {
		return nil, err
	}
	var root [32]byte
	group := GroupFor(chunk)
	t, err := c.cache.open(f.path(), group, s)
	switch {
	case err == nil:
		root = t.Root()
		err = t.f.Close()
	case errors.Is(err, errCacheMiss):
		root, s, err = c.cache.build(ctx, file, f.path(), group, progress)
	}
	if err != nil {
		return nil, err
	}
	return c.newEntry(f, s, root, terms)
}

func (c *Catalogue) newEntry(f found, s stamp, root Hash, terms Terms) (*Entry, error) {
	m, err := terms.Manifest(f.name, uint64(s.Size), root)
	if err != nil {
		return nil, err
	}
	if err := m.Sign(c.cfg.Identity); err != nil {
		return nil, err
	}
	f.stamp = s
	return &Entry{found: f, manifest: m, terms: terms, cache: &c.cache, handles: &c.handles}, nil
}

// realPath returns p absolute, with its links resolved.
func realPath(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, os.ErrNotExist) {
		return abs, nil
	}
	return real, err
}
