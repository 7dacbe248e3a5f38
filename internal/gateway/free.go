package gateway

import (
	"context"
	"net"
	"net/http"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/payee"
)

// isFree reports whether the chunks first to last cost nothing.
func isFree(m *content.Manifest, first, last uint64) bool {
	price, err := m.RangeMsat(first, last)
	return err == nil && price == 0
}

// firstPaid is the first of these chunks that costs something.
func firstPaid(m *content.Manifest, first, last uint64) uint64 {
	for first < last && m.ChunkPrice(first) == 0 {
		first = max(first+1, min(m.FreeChunks, last))
	}
	return first
}

// paid leaves out the items that cost nothing: they are not charged.
func paid(items []payee.Item) []payee.Item {
	charged := items[:0]
	for _, it := range items {
		if it.Price > 0 {
			charged = append(charged, it)
		}
	}
	return charged
}

// giveAway begins a delivery that costs nothing. An update that comes with the
// request is kept; deliveries to one address count as those of one channel do.
func (d *delivery) giveAway(w http.ResponseWriter, r *http.Request, cancel context.CancelCauseFunc) bool {
	if r.Header.Get(mpp.HeaderCredential) != "" {
		d.g.cfg.Paywall.Keep(r.Context(), r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	d.to = "free " + network(host)
	if d.stream = d.g.streams.enter(d.to, cancel); d.stream == nil {
		w.Header().Set("Retry-After", "1")
		fail(w, r, http.StatusServiceUnavailable, "the provider is busy; nothing was charged for this request")
		return false
	}
	return true
}
