package payee

import "sync"

// locks gives each channel one user at a time.
type locks struct {
	mu   sync.Mutex
	held map[string]*waiting
}

type waiting struct {
	mu    sync.Mutex
	users int
}

// lock waits for the channel and returns what releases it.
func (l *locks) lock(id string) (unlock func()) {
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
