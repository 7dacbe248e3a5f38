package paywall

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
	return n + len(s.bells.at)
}
