package gateway

import (
	"net/http"

	"github.com/spillway/spillway/paywall"
)

// compact is how the connections of the compact transport are served: each order on one
// is a request like every other, with its limits and its price. Idle they hold none of
// the places of requests. docs/protocol.md, section 21.
func (g *Gateway) compact() paywall.CompactConfig {
	return paywall.CompactConfig{
		Handler: http.HandlerFunc(g.ServeHTTP), Stall: g.cfg.Stall, Max: g.cfg.MaxSockets, PerClient: g.cfg.MaxPerAddress,
	}
}

// CloseConnections ends the connections that net/http does not know of any more; after
// Drain, and beside http.Server.Close.
func (g *Gateway) CloseConnections() { g.cfg.Paywall.CloseConnections() }
