package main

import (
	"net"
	"net/http"
	"sync"
)

// quickStop lets a server's Shutdown not wait for connections on which nothing was ever
// asked: net/http gives them five seconds, and clients open spare ones, this program's own
// among them. It is called before the server serves.
func quickStop(s *http.Server) *http.Server {
	var mu sync.Mutex
	fresh, stopping := map[net.Conn]bool{}, false
	next := s.ConnState
	s.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		if state == http.StateNew && !stopping {
			fresh[c] = true
		} else {
			delete(fresh, c)
		}
		late := state == http.StateNew && stopping
		mu.Unlock()
		if late {
			closeUnused(c)
		}
		if next != nil {
			next(c, state)
		}
	}
	s.RegisterOnShutdown(func() {
		mu.Lock()
		stopping = true
		unused := fresh
		fresh = map[net.Conn]bool{}
		mu.Unlock()
		for c := range unused {
			closeUnused(c)
		}
	})
	return s
}

// closeUnused closes a connection that nothing was asked on: there is nobody to tell.
func closeUnused(c net.Conn) {
	if err := c.Close(); err != nil {
		return
	}
}
