package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/reverse"
	"github.com/spillway/spillway/paywall"
)

// proxySection is what the settings file says of proxy beside its flags.
type proxySection struct {
	Set    map[string]string `toml:"set"`
	Remove []string          `toml:"remove"`
	Rules  []proxyRule       `toml:"rule"`
}

// proxyRule is what happens to the requests of one pattern.
type proxyRule struct {
	Match    string            `toml:"match"`
	Price    string            `toml:"price"`
	Upstream string            `toml:"upstream"`
	Set      map[string]string `toml:"set"`
	Remove   []string          `toml:"remove"`
	KeepHost bool              `toml:"keep-host"`
}

// proxyRules reads the rules of the settings file and what the flags say. dear is the
// most that is lent to a newcomer at once, in msat.
func (a *app) proxyRules(f proxyFlags) (cfg reverse.Config, dear uint64, err error) {
	var s proxySection
	if _, err := a.section("proxy", &s); err != nil {
		return cfg, 0, err
	}
	if f.upstream == "" {
		return cfg, 0, usagef("--upstream names the service to charge for, such as http://127.0.0.1:8080")
	}
	if f.free < 0 {
		return cfg, 0, usagef("--free-per-day is a number of requests, not %d", f.free)
	}
	size, err := content.ParseBytes(f.maxBody)
	if err != nil || size == 0 || size > 1<<50 {
		return cfg, 0, usagef("--max-body is a size such as 64MiB, not %s", clipped(f.maxBody))
	}
	cfg.FreePerDay, cfg.MaxBody = f.free, int64(size)
	d := proxyRule{Match: "/", Price: f.price, Upstream: f.upstream, Set: s.Set, Remove: s.Remove}
	if cfg.Default, err = a.proxyRule("proxy", d, proxyRule{}); err != nil {
		return cfg, 0, err
	}
	cfg.Default.Match = ""
	dear = lent(cfg.Default.Price)
	for i, r := range s.Rules {
		path := ruleAt(i)
		if r.Match == "" {
			return cfg, 0, a.wrongSetting(path, "a rule has a match, such as \"GET /v1/\"")
		}
		rule, err := a.proxyRule(path, r, d)
		if err != nil {
			return cfg, 0, err
		}
		cfg.Rules = append(cfg.Rules, rule)
		dear = max(dear, lent(rule.Price))
	}
	if err := reverse.Check(cfg); err != nil {
		return cfg, 0, usage(err)
	}
	return cfg, dear, nil
}

// proxyRule reads one rule; what it does not say is as by default.
func (a *app) proxyRule(path string, r, d proxyRule) (rule reverse.Rule, err error) {
	rule.Match, rule.KeepHost = r.Match, r.KeepHost
	if r.Price == "" {
		r.Price = d.Price
	}
	if rule.Price, err = parsePrice(r.Price); err != nil {
		return rule, a.wrongRule(path, "price", err)
	}
	if r.Upstream == "" {
		r.Upstream = d.Upstream
	}
	if rule.Upstream, err = url.Parse(r.Upstream); err != nil {
		return rule, a.wrongRule(path, "upstream", usagef("%q is no URL", clipped(r.Upstream)))
	}
	rule.Set, rule.Remove = maps.Clone(d.Set), slices.Concat(d.Remove, r.Remove)
	if rule.Set == nil {
		rule.Set = map[string]string{}
	}
	maps.Copy(rule.Set, r.Set)
	for name, value := range rule.Set {
		if !goodField(name) || !httpguts.ValidHeaderFieldValue(value) {
			return rule, a.wrongRule(path, "set", usagef("%q cannot be a field of a request that is set", clipped(name)))
		}
	}
	for _, name := range rule.Remove {
		if !httpguts.ValidHeaderFieldName(name) {
			return rule, a.wrongRule(path, "remove", usagef("%q is no name of a field", clipped(name)))
		}
	}
	return rule, nil
}

// goodField refuses fields that frame a request.
func goodField(name string) bool {
	framing := []string{"Connection", "Content-Length", "Host", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}
	return httpguts.ValidHeaderFieldName(name) && !slices.Contains(framing, http.CanonicalHeaderKey(name))
}

// wrongRule is a usage error about a key of a rule, with its line where it has one.
func (a *app) wrongRule(path, key string, err error) error {
	if path == "proxy" && (key == "price" || key == "upstream") {
		return usagef("--%s: %v", key, err)
	}
	return a.wrongSetting(path+"."+key, "%v", err)
}

func ruleAt(i int) string { return fmt.Sprintf("proxy.rule[%d]", i) }

// parsePrice reads AMOUNT/request, AMOUNT/SIZE, AMOUNT/event, AMOUNT/second or free.
func parsePrice(text string) (p paywall.Price, err error) {
	if text == "free" {
		return p, nil
	}
	amount, unit, found := strings.Cut(text, "/")
	if !found {
		return p, usagef("a price is AMOUNT/request, AMOUNT/SIZE, AMOUNT/event, AMOUNT/second or free, not %q", clipped(text))
	}
	msat, err := content.ParseAmountMsat(amount)
	if err != nil {
		return p, usage(err)
	}
	if msat == 0 {
		return p, usagef("a price of nothing is written: free")
	}
	switch unit {
	case "request":
		return paywall.PerRequest(msat), nil
	case "event":
		return paywall.PerEvent(msat), nil
	case "second":
		return paywall.PerSecond(msat), nil
	}
	per, err := content.ParsePrice(text) // a size, with or without a number
	if err != nil || per.PerBytes == 0 || per.PerBytes > 1<<40 {
		return p, usagef("a price is AMOUNT/request, AMOUNT/SIZE, AMOUNT/event, AMOUNT/second or free, not %q", clipped(text))
	}
	return paywall.PerByte(msat, per.PerBytes), nil
}

// lent is what a newcomer may have unpaid at once, in msat.
func lent(p paywall.Price) uint64 {
	if p.Per == 0 {
		return p.Msat
	}
	return max(1, p.Msat/p.Per) * (32 << 10)
}

// rereadRules puts the rules of the settings file in force as they are now; the default's
// price and upstream are those that the proxy began with. Errors: of a mistake, with its
// line; the rules stay.
func (a *app) rereadRules(f proxyFlags, to *reverse.Proxy) error {
	fresh := &app{out: a.out}
	fresh.flags.config = a.flags.config
	if err := fresh.openConfig(); err != nil {
		return err
	}
	if err := fresh.config.Check(knownKeys((&app{out: &output{}}).root())); err != nil {
		return err
	}
	cfg, _, err := fresh.proxyRules(f)
	if err != nil {
		return err
	}
	return to.Replace(cfg)
}
