// Package decoded remembers stored values in the form that they were read in, by
// their revision, so that what did not change is not decoded again. It is bounded,
// and never answers for another revision than the one asked for.
package decoded

import "sync"

// limit is how many values are kept at most.
const limit = 4096

// Values is the memory. The zero value is ready, and safe for concurrent use. What
// it returns is shared: nobody may change what a value points to.
type Values[T any] struct {
	mu  sync.Mutex
	all map[string]entry[T]
}

type entry[T any] struct {
	revision uint64
	value    T
}

// Get returns a key's value at a revision, and whether it is known.
func (v *Values[T]) Get(key string, revision uint64) (value T, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.all[key]
	if !ok || e.revision != revision {
		return value, false
	}
	return e.value, true
}

// Put remembers a key's value at a revision. Where there are too many, any other
// one is forgotten.
func (v *Values[T]) Put(key string, revision uint64, value T) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all == nil {
		v.all = map[string]entry[T]{}
	}
	if _, known := v.all[key]; !known && len(v.all) >= limit {
		for other := range v.all {
			delete(v.all, other)
			break
		}
	}
	v.all[key] = entry[T]{revision, value}
}
