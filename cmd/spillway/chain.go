package main

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/chain/btcd"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/chain/neutrino"
	"github.com/spillway/spillway/chain/several"
)

// staleAfter is how old the newest block may be: on mainnet a gap of three hours
// comes once in decades. Nobody mines on regtest.
const staleAfter = 3 * time.Hour

func (a *app) staleAfter() time.Duration {
	if a.regtest() {
		return 0
	}
	return staleAfter
}

// chainURLs are where the blockchain is asked. The environment's may name
// several, with spaces between them.
func (a *app) chainURLs() ([]string, error) {
	var urls []string
	for _, text := range a.flags.chain {
		urls = append(urls, strings.Fields(text)...)
	}
	if len(urls) > 0 {
		return urls, nil
	}
	if !a.regtest() {
		return []string{lightDefault}, nil // for payers: see checkSeller
	}
	return []string{"http://" + devnetAddress}, nil
}

// openChain connects to the blockchain that was chosen; a provider on regtest
// starts a devnet where none answers.
func (a *app) openChain(ctx context.Context, r *role) (chain.Backend, error) {
	if len(a.flags.chain) == 0 && a.regtest() && r.name == "payee" && !a.answers(ctx) {
		d, err := a.startDevnet(filepath.Join(a.flags.data, "devnet"), devnetAddress, 10*time.Second)
		if err != nil {
			return nil, err
		}
		a.out.say("No devnet answered, so one was started: Esplora API at %s (its coins are worth nothing)", d.url)
		r.close = append(r.close, d.Close)
	}
	c, err := a.connectIn(ctx, r.dir)
	if err != nil {
		return nil, err
	}
	r.close = append(r.close, func() error { return closeChain(c) })
	return c, nil
}

// answers reports whether the chosen blockchain answers.
func (a *app) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := a.connect(ctx)
	return err == nil && closeChain(c) == nil
}

// pace is how long a network takes for a block; 0 where blocks are made at will.
func pace(params *chaincfg.Params) time.Duration {
	if params.PoWNoRetargeting {
		return 0
	}
	return params.TargetTimePerBlock
}

// connect is connectIn for a single question: what it gives has to be closed.
func (a *app) connect(ctx context.Context) (chain.Backend, error) {
	return a.connectIn(ctx, a.folder("payer"))
}

// connectIn connects to the blockchain and makes sure that it answers and is not
// stale: to several backends where --chain was given more than once. A light client
// keeps its headers in the folder.
func (a *app) connectIn(ctx context.Context, dir string) (_ chain.Backend, err error) {
	urls, err := a.chainURLs()
	if err != nil {
		return nil, err
	}
	params, err := a.params()
	if err != nil {
		return nil, err
	}
	var members []several.Member
	defer func() {
		if err != nil {
			for _, m := range members {
				err = errors.Join(err, closeChain(m.Backend))
			}
		}
	}()
	for _, text := range urls {
		b, err := a.backend(text, params)
		if err != nil {
			return nil, err
		}
		members = append(members, several.Member{Name: shown(text), Backend: b})
	}
	b := members[0].Backend
	if len(members) > 1 {
		if b, err = several.New(several.Config{Members: members, Pace: pace(params), Logger: a.out.logger(), OnAlarm: a.alarm}); err != nil {
			return nil, usage(err)
		}
	}
	for i, m := range members {
		if l, ok := m.Backend.(*light); ok {
			if err := l.open(ctx, a, dir); err != nil {
				return nil, atChain(urls[i], err)
			}
		}
	}
	if _, err := b.Tip(ctx); err != nil {
		return nil, atChain(urls[0], err)
	}
	if err := chain.CheckStale(ctx, b, time.Now(), a.staleAfter()); err != nil {
		return nil, atChain(urls[0], err)
	}
	return b, nil
}

// backend is the one that a URL names.
func (a *app) backend(text string, params *chaincfg.Params) (chain.Backend, error) {
	scheme, _, _ := strings.Cut(text, ":")
	switch strings.ToLower(scheme) {
	case "http", "https":
		if u, err := url.Parse(text); err != nil || u.User != nil && a.chainTyped {
			return nil, usagef("%s: the URL of an Esplora is needed, without a password in it", bitcoind.Redact(text))
		}
		c, err := esplora.New(esplora.Config{URL: text, Network: params})
		if err != nil {
			return nil, usage(err)
		}
		return c, nil
	case bitcoind.Scheme:
		if a.chainTyped && bitcoind.HasPassword(text) {
			return nil, usagef("%s: a password on the command line is seen by everybody on this machine: "+
				"put the URL into SPILLWAY_CHAIN, or use ?cookie=PATH or ?password-file=PATH", bitcoind.Redact(text))
		}
		cfg, err := bitcoind.ParseURL(text, params)
		if err != nil {
			return nil, usage(err)
		}
		cfg.Logger = a.out.logger()
		c, err := bitcoind.New(cfg)
		if err != nil {
			return nil, usage(err)
		}
		return c, nil
	case btcd.Scheme:
		return a.btcdBackend(text, params)
	case neutrino.Scheme:
		return a.lightBackend(text, params)
	default:
		return nil, usagef("--chain: %q is not known: http://… or https://… (an Esplora), bitcoind://…, btcd://… or neutrino://…", clipped(scheme)+"://")
	}
}

// clipped makes a text that somebody typed short enough to be repeated.
func clipped(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// alarm tells that backends differ, or that they agree again.
func (a *app) alarm(al several.Alarm) {
	subject := strings.TrimSpace(al.Backend + " " + al.Subject)
	if al.Over {
		a.alarms.over(string(al.Kind), subject)
		a.out.say("chain: over: %s %s %s", al.Kind, al.Backend, al.Subject)
	} else {
		a.alarms.raise(string(al.Kind), subject, al.Text)
		a.out.say("ALARM: the blockchains at --chain differ (%s %s %s): %s. The more cautious answer counts.", al.Kind, al.Backend, al.Subject, al.Text)
	}
	if err := a.out.event("alarm", al); err != nil {
		a.out.say("output: %v", err)
	}
}

// chainState is what a running provider tells of its blockchain.
type chainState struct {
	Height  uint32          `json:"height"`
	Time    time.Time       `json:"time"`
	Health  *chainHealth    `json:"health,omitempty"`
	Stale   string          `json:"stale,omitempty"`
	Alarms  []several.Alarm `json:"alarms"`
	Failure string          `json:"failure,omitempty"`
}

// chainHealth is how well the backend follows its network; see chain.Health.
type chainHealth struct {
	Headers uint32 `json:"headers_height"`
	Syncing bool   `json:"syncing"`
	Peers   int    `json:"peers"` // -1: not known
	Oldest  uint32 `json:"oldest_height"`
	Index   bool   `json:"index"`
}

// chainStateOf asks a backend how it is.
func (a *app) chainStateOf(ctx context.Context, b chain.Backend) chainState {
	s := chainState{Alarms: []several.Alarm{}}
	tip, err := b.Tip(ctx)
	if err != nil {
		s.Failure = err.Error()
	}
	s.Height, s.Time = tip.Height, tip.Time
	if h, ok := b.(chain.HealthChecker); ok && err == nil {
		if health, err := h.Health(ctx); err == nil {
			s.Health = &chainHealth{Headers: health.Headers, Syncing: health.Syncing, Peers: health.Peers, Oldest: health.Oldest, Index: health.Index}
		} else {
			s.Failure = err.Error()
		}
	}
	if err == nil {
		if err := chain.CheckStale(ctx, b, time.Now(), a.staleAfter()); errors.Is(err, chain.ErrStale) {
			s.Stale = err.Error()
		}
	}
	if m, ok := b.(interface{ Alarms() []several.Alarm }); ok {
		s.Alarms = append(s.Alarms, m.Alarms()...)
	}
	return s
}

// tellChain says what a running provider's blockchain suffers from.
func (a *app) tellChain(ctx context.Context) []several.Alarm {
	var s chainState
	if err := a.askProvider(ctx, "GET", "/v1/chain", &s); err != nil {
		return nil // none runs
	}
	if s.Stale != "" {
		a.out.say("ALARM: %s", s.Stale)
	}
	if s.Failure != "" {
		a.out.say("ALARM: the provider's blockchain: %s", s.Failure)
	}
	for _, al := range s.Alarms {
		a.out.say("ALARM since %s: %s %s: %s", al.Since.Format(time.RFC3339), al.Kind, al.Backend, al.Text)
	}
	return s.Alarms
}

// staleAlarm looks from time to time whether the blockchain lags, and tells once.
func (a *app) staleAlarm(b chain.Backend) func(context.Context) error {
	var next time.Time
	said := false
	return func(ctx context.Context) error {
		now := time.Now()
		if a.staleAfter() == 0 || now.Before(next) {
			return nil
		}
		next = now.Add(time.Minute)
		err := chain.CheckStale(ctx, b, now, a.staleAfter())
		if !errors.Is(err, chain.ErrStale) {
			if said = said && err != nil; err == nil {
				a.alarms.over(alarmStale, "")
			}
			return nil // what can't be asked is told by the watch
		}
		if said {
			return nil
		}
		said = true
		a.alarms.raise(alarmStale, "", err.Error())
		a.out.say("ALARM: %v", err)
		return a.out.event("alarm", map[string]any{"kind": alarmStale, "text": err.Error()})
	}
}

// hintScripts has a backend search for all of the wallet's coins at once.
func (r *role) hintScripts(ctx context.Context) error {
	w, ok := r.chain.(chain.ScriptWatcher)
	if !ok {
		return nil
	}
	scripts, err := r.wallet.Scripts(ctx)
	if err != nil {
		return err
	}
	return w.WatchScripts(ctx, scripts...)
}
