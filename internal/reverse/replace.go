package reverse

import (
	"net/http"

	"github.com/spillway/spillway/paywall"
)

// ruleSet are the rules that are in force, and what charges by them. A request has one
// from its beginning to its end.
type ruleSet struct {
	rules     *http.ServeMux
	byDefault Rule
	paid      http.Handler
}

// ruleSet makes the rules of a configuration ready. Errors: of rules that cannot be.
func (p *Proxy) ruleSet(cfg Config) (*ruleSet, error) {
	rules, prices, err := rulesOf(cfg)
	if err != nil {
		return nil, err
	}
	wall, err := paywall.NewMiddleware(paywall.MiddlewareConfig{
		Server: p.cfg.Wall, Price: cfg.Default.Price, Rules: prices, FreePerDay: cfg.FreePerDay, Unread: streams, Stall: p.cfg.Stall, Memory: &p.memory,
	})
	if err != nil {
		return nil, err
	}
	return &ruleSet{rules: rules, byDefault: cfg.Default, paid: wall(p.direct)}, nil
}

// Replace puts other rules in force: default, rules and free requests of cfg. Requests
// that run go on by the ones that they began with; what an address had free today, and
// answers that were bought, are remembered. Errors: of rules that cannot be; those in force stay.
func (p *Proxy) Replace(cfg Config) error {
	next, err := p.ruleSet(cfg)
	if err != nil {
		return err
	}
	p.now.Store(next)
	return nil
}
