// Package keylock gives each key, such as a channel, one user at a time. It keeps
// nothing of keys that nobody uses.
package keylock

import "sync"

// Locks holds the locks. The zero value is ready.
type Locks struct {
	mu   sync.Mutex
	held map[string]*waiting
}

type waiting struct {
	mu    sync.Mutex
	users int
}

// Lock waits for the key and returns what releases it; that must be called once.
func (l *Locks) Lock(id string) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*waiting{}
	}
	w := l.held[id]
	if w == nil {
		w = &waiting{}
		l.held[id] = w
	}
	w.users++
	l.mu.Unlock()
	w.mu.Lock()
	return func() {
		w.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if w.users--; w.users == 0 {
			delete(l.held, id)
		}
	}
}
