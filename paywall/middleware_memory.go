package paywall

// Memory is what a middleware remembers of its clients: how much of the free quota each
// has used, how often it asks, the answers that were bought and are kept for repeats, how
// far streams came. It lives in memory. The zero value is ready; middlewares that share
// one follow each other, with the same Server.
type Memory struct {
	quota quota
	kept  kept
	pasts pasts

	payers, unpaid limiters
}

// use has a configuration's limits count from now on, for what is remembered already too.
func (m *Memory) use(cfg MiddlewareConfig) {
	now, ttl := cfg.Server.cfg.Now, cfg.Server.cfg.TTL
	m.quota.mu.Lock()
	m.quota.most, m.quota.now = cfg.FreePerDay, now
	m.quota.mu.Unlock()
	m.kept.mu.Lock()
	m.kept.most, m.kept.each, m.kept.repeats, m.kept.ttl, m.kept.now = cfg.MaxAllKept, cfg.MaxKept, cfg.MaxRepeats, ttl, now
	m.kept.mu.Unlock()
	m.pasts.mu.Lock()
	m.pasts.ttl, m.pasts.now = ttl, now
	m.pasts.mu.Unlock()
	for _, l := range []*limiters{&m.payers, &m.unpaid} {
		l.mu.Lock()
		l.now = now
		l.mu.Unlock()
	}
}
