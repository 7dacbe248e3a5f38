package gateway

// Sent is how many bytes of content were sent since the start.
func (g *Gateway) Sent() uint64 { return g.bytes.Load() }

// Deliveries is how many answers with content are being sent, or wait for a payment.
func (g *Gateway) Deliveries() int {
	g.streams.mu.Lock()
	defer g.streams.mu.Unlock()
	return len(g.streams.all)
}
