package payee

// Remembered is how many entries are kept in memory of channels and offers, beside
// what is stored: for tests of what a peer can make of them. Each kind is bounded, and
// an unpaid request adds none.
func (p *Payee) Remembered() int {
	p.pending.mu.Lock()
	defer p.pending.mu.Unlock()
	return len(p.pending.ids) + p.known.Len() + p.built.Len() + p.macs.Len() + p.views.Len()
}
