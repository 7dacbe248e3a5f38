package content

import (
	"errors"
	"log/slog"
	"os"
	"sync"
)

// maxIdle is how many files a catalogue keeps open that nobody reads.
const maxIdle = 64

// handle is an open file with its tree, shared by its readers.
type handle struct {
	f    *os.File
	tree *tree
	refs int
	used uint64 // when it was last released, in releases
	gone bool   // closed with the last reader
}

func (h *handle) close() error { return errors.Join(h.f.Close(), h.tree.f.Close()) }

// handles keeps files open between slices: opening one costs as much as
// cutting a small slice.
type handles struct {
	log *slog.Logger

	mu    sync.Mutex
	open  map[*Entry]*handle
	clock uint64
	shut  bool
}

// take returns the entry's open handle, or nil.
func (hs *handles) take(e *Entry) *handle {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.open[e]
	if h != nil {
		h.refs++
	}
	return h
}

// add keeps a handle that was just opened, for its first reader. Where another
// one was faster, both serve their readers and the later one goes first.
func (hs *handles) add(e *Entry, h *handle) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h.refs = 1
	if hs.shut || hs.open[e] != nil {
		h.gone = true
		return
	}
	hs.open[e] = h
}

// release gives back a reader's share of h.
func (hs *handles) release(h *handle) error {
	hs.mu.Lock()
	h.refs--
	hs.clock++
	h.used = hs.clock
	var closing []*handle
	if h.refs == 0 && h.gone {
		closing = append(closing, h)
	}
	closing = append(closing, hs.evict()...)
	hs.mu.Unlock()
	return closeAll(closing)
}

// evict takes out the idle handles that are too many, the longest idle first.
func (hs *handles) evict() []*handle {
	var closing []*handle
	for {
		var idle int
		var oldest *Entry
		for e, h := range hs.open {
			if h.refs > 0 {
				continue
			}
			idle++
			if oldest == nil || h.used < hs.open[oldest].used {
				oldest = e
			}
		}
		if idle <= maxIdle {
			return closing
		}
		closing = append(closing, hs.open[oldest])
		delete(hs.open, oldest)
	}
}

// drop closes the handle of an entry that is not current any more, once its
// readers are done.
func (hs *handles) drop(e *Entry) {
	hs.mu.Lock()
	h := hs.open[e]
	delete(hs.open, e)
	idle := h != nil && h.refs == 0
	if h != nil {
		h.gone = true
	}
	hs.mu.Unlock()
	if idle {
		if err := h.close(); err != nil {
			hs.log.Warn("cannot close a file", "path", h.f.Name(), "err", err)
		}
	}
}

// close closes what is idle now, and the rest with its last reader.
func (hs *handles) close() error {
	hs.mu.Lock()
	hs.shut = true
	var closing []*handle
	for e, h := range hs.open {
		h.gone = true
		if h.refs == 0 {
			closing = append(closing, h)
		}
		delete(hs.open, e)
	}
	hs.mu.Unlock()
	return closeAll(closing)
}

func closeAll(list []*handle) error {
	var err error
	for _, h := range list {
		err = errors.Join(err, h.close())
	}
	return err
}
