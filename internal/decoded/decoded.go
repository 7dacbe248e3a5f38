// Package decoded remembers stored values in the form that they were read in, by
// their revision, so that what did not change is not decoded again. It is bounded,
// and never answers for another revision than the one asked for.
package decoded

import (
	"strings"
	"sync"
)

// limit is how many values are kept where nothing else is said.
const limit = 4096

// Values is the memory. The zero value is ready, keeps 4,096 values, and is safe for
// concurrent use. What it returns is shared: nobody may change what a value points to.
type Values[T any] struct {
	Limit int // how many values are kept at most; 0: 4,096. Set before the first use.

	mu             sync.Mutex
	all            map[string]*entry[T]
	newest, oldest *entry[T] // by use
}

type entry[T any] struct {
	key          string
	revision     uint64
	value        T
	newer, older *entry[T]
}

// Get returns a key's value at a revision, and whether it is known.
func (v *Values[T]) Get(key string, revision uint64) (value T, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.all[key]
	if e == nil || e.revision != revision {
		return value, false
	}
	v.unlink(e)
	v.link(e)
	return e.value, true
}

// Newest returns what was put last of a key, with its revision, and whether anything is
// known. Another revision may be stored by now.
func (v *Values[T]) Newest(key string) (value T, revision uint64, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.all[key]
	if e == nil {
		return value, 0, false
	}
	v.unlink(e)
	v.link(e)
	return e.value, e.revision, true
}

// Put remembers a key's value at a revision. Where there are too many, the one that
// was not used for longest is forgotten.
func (v *Values[T]) Put(key string, revision uint64, value T) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.all[key]; e != nil {
		v.unlink(e)
		v.link(e)
		e.revision, e.value = revision, value
		return
	}
	if v.all == nil {
		v.all = map[string]*entry[T]{}
	}
	if len(v.all) >= v.most() {
		delete(v.all, v.oldest.key)
		v.unlink(v.oldest)
	}
	e := &entry[T]{key: strings.Clone(key), revision: revision, value: value} // a part of a long text would keep all of it
	v.all[e.key] = e
	v.link(e)
}

// Room reports whether one more value can be kept without forgetting another.
func (v *Values[T]) Room() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.all) < v.most()
}

func (v *Values[T]) most() int {
	if v.Limit > 0 {
		return v.Limit
	}
	return limit
}

func (v *Values[T]) link(e *entry[T]) {
	e.newer, e.older = nil, v.newest
	if v.newest != nil {
		v.newest.newer = e
	}
	if v.newest = e; v.oldest == nil {
		v.oldest = e
	}
}

func (v *Values[T]) unlink(e *entry[T]) {
	if e.newer == nil {
		v.newest = e.older
	} else {
		e.newer.older = e.older
	}
	if e.older == nil {
		v.oldest = e.newer
	} else {
		e.older.newer = e.newer
	}
}
