package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// errStopping ends a delivery behind a whole chunk: the provider stops.
var errStopping = errors.New("the provider stops; what was paid is served again free")

// drainTick is how often Drain looks whether deliveries run still.
const drainTick = 20 * time.Millisecond

// Drain lets what is being sent finish and begins nothing new: slices that run are
// sent whole, plain downloads end behind the chunk that is under way, those that wait
// for a payment end at once. Other requests for content are refused with 503; what
// pays, resumes or closes a channel is still taken. It returns when nothing is being
// sent any more. Errors: the context's.
func (g *Gateway) Drain(ctx context.Context) error {
	g.draining.Store(true)
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for {
		if g.streams.drain() == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// drain ends the deliveries that wait for a payment, and returns how many others run.
func (s *streams) drain() (running int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.all {
		if st.paused > 0 {
			st.cancel(errStopping)
			continue
		}
		running++
	}
	return running
}

// stopping refuses a request for content while the provider stops; the update that
// came with it is kept.
func (g *Gateway) stopping(w http.ResponseWriter, r *http.Request) bool {
	if !g.draining.Load() {
		return false
	}
	g.cfg.Paywall.Keep(r.Context(), r)
	w.Header().Set("Retry-After", "5")
	fail(w, r, http.StatusServiceUnavailable, "the provider stops; nothing was charged for this request; ask again when it is back")
	return true
}
