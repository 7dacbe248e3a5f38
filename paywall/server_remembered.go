package paywall

import (
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// requestIn reads the request in a challenge that was made here, once for all that echo it.
// Nobody may change what it points to.
func (s *Server) requestIn(c mpp.Challenge) (bitcoin.Request, error) {
	if req, ok := s.read.Get(c.Request, 0); ok {
		return req, nil
	}
	req, err := bitcoin.ParseRequest(c.Request)
	if err == nil {
		s.read.Put(c.Request, 0, req)
	}
	return req, err
}

// Remembered is how many entries are kept in memory of channels and requests: for
// tests of what a peer can make of them. A request without a right MAC adds none.
func (s *Server) Remembered() int {
	s.mu.Lock()
	n := len(s.keys)
	s.mu.Unlock()
	s.requests.mu.Lock()
	n += len(s.requests.now) + len(s.requests.past)
	s.requests.mu.Unlock()
	s.bells.mu.Lock()
	defer s.bells.mu.Unlock()
	return n + len(s.bells.at) + s.read.Len()
}
