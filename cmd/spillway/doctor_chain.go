package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/script"
)

// chainSeen is what one blockchain answered.
type chainSeen struct {
	name   string
	tip    chain.Tip
	hashes map[uint32]chainhash.Hash // of blocks below the tip
	health *chain.Health
	can    chain.Capabilities
	rates  map[int]script.FeeRate // by target in blocks
	rated  error
	clock  time.Duration // how far the server's clock is ahead of this one
	timed  bool          // clock is known
	err    error         // it could not be asked
}

// feeTargets are those that estimates are asked for, in blocks.
var feeTargets = []int{1, 3, 6, 144}

// lookAtChains asks each blockchain at --chain by itself.
func (a *app) lookAtChains(ctx context.Context, limit time.Duration) (all []finding) {
	urls, err := a.chainURLs()
	if err != nil {
		return []finding{failedCheck("chain", err)}
	}
	var seen []chainSeen
	for _, text := range urls {
		s := a.askChain(ctx, text, limit)
		all = append(all, a.judgeChain(s)...)
		seen = append(seen, s)
	}
	all = append(all, judgeAgreement(seen)...)
	return append(all, judgeClock(seen, time.Now(), a.regtest())...)
}

// askChain asks one blockchain all that is judged.
func (a *app) askChain(ctx context.Context, text string, limit time.Duration) (s chainSeen) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	one := &app{out: a.out, stdin: a.stdin, flags: a.flags, caps: a.caps, secret: a.secret, chainTyped: a.chainTyped}
	one.flags.chain = []string{text}
	s = chainSeen{name: bitcoind.Redact(text), hashes: map[uint32]chainhash.Hash{}, rates: map[int]script.FeeRate{}}
	s.clock, s.timed = dateOf(ctx, text)
	b, err := one.connect(ctx)
	if err != nil {
		s.err = err
		return s
	}
	defer func() { s.err = errors.Join(s.err, endChain(b)) }()
	if s.tip, s.err = b.Tip(ctx); s.err != nil {
		return s
	}
	s.can = b.Capabilities()
	if h, ok := b.(chain.HealthChecker); ok {
		health, err := h.Health(ctx)
		if err != nil {
			s.err = err
			return s
		}
		s.health = &health
	}
	for back := range uint32(6) {
		if back > s.tip.Height {
			break
		}
		hash, err := b.BlockHash(ctx, s.tip.Height-back)
		if err != nil {
			s.err = err
			return s
		}
		s.hashes[s.tip.Height-back] = hash
	}
	for _, blocks := range feeTargets {
		rate, err := b.FeeRate(ctx, blocks)
		if err != nil {
			s.rated = err
			break
		}
		s.rates[blocks] = rate
	}
	return s
}

// dateOf is how far the clock of an HTTP server is ahead of this one, by the date of its
// answer, whatever that is.
func dateOf(ctx context.Context, text string) (time.Duration, bool) {
	if !strings.HasPrefix(text, "http://") && !strings.HasPrefix(text, "https://") {
		return 0, false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, strings.TrimSuffix(text, "/")+"/blocks/tip/height", nil)
	if err != nil {
		return 0, false
	}
	before := time.Now()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, false
	}
	if err := resp.Body.Close(); err != nil {
		return 0, false
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, false
	}
	middle := before.Add(time.Since(before) / 2)
	return at.Sub(middle), true
}

// judgeChain says how one blockchain stands.
func (a *app) judgeChain(s chainSeen) (all []finding) {
	if s.err != nil {
		f := failedCheck("chain", s.err)
		f.exit = exitChain
		return []finding{f}
	}
	all = append(all, fine("chain", "%s answers, on %s, at block %d of %s", s.name, a.flags.network, s.tip.Height, s.tip.Time.UTC().Format(time.RFC3339)))
	if s.health != nil && s.health.Peers == 0 && !a.regtest() {
		all = append(all, warning("chain", "Look at the node's connections: it may be cut off.", "%s has no peer", s.name))
	}
	if !s.can.Mempool && a.exists("payee") {
		all = append(all, warning("chain", "Ask a node or an Esplora besides, with another --chain.", "%s sees no unconfirmed transactions: a refund or an old state that is on its way is seen late", s.name))
	}
	switch {
	case s.rated != nil:
		f := failedCheck("fees", s.rated)
		if f.exit = exitChain; a.flags.network != "mainnet" {
			f.Level = levelWarn
		}
		all = append(all, f)
	case !s.can.FeeEstimates:
		all = append(all, warning("fees", "Ask a node or an Esplora besides, with another --chain.", "%s estimates no fees: fixed ones are used", s.name))
	default:
		all = append(all, judgeFees(s)...)
	}
	return all
}

// judgeFees says whether estimates make sense.
func judgeFees(s chainSeen) []finding {
	fast, slow := s.rates[feeTargets[0]], s.rates[feeTargets[len(feeTargets)-1]]
	switch {
	case fast >= chain.MaxFeeRate:
		return []finding{warning("fees", "Compare with another --chain.", "%s names %s, the most that is believed", s.name, fast)}
	case slow > fast:
		return []finding{warning("fees", "Compare with another --chain.", "%s wants more for a day (%s) than for the next block (%s)", s.name, slow, fast)}
	case fast > script.FeeRatePerVB(200):
		return []finding{warning("fees", "Wait with small channels: a settlement costs more than 40000 sat now.", "%s names %s for the next block", s.name, fast)}
	}
	return []finding{fine("fees", "%s for the next block, %s within a day", fast, slow)}
}

// judgeAgreement compares blockchains with each other.
func judgeAgreement(seen []chainSeen) (all []finding) {
	var good []chainSeen
	for _, s := range seen {
		if s.err == nil {
			good = append(good, s)
		}
	}
	for i := 1; i < len(good); i++ {
		x, y := good[0], good[i]
		if x.tip.Height > y.tip.Height {
			x, y = y, x
		}
		mine, ok := x.hashes[x.tip.Height], false
		theirs, known := y.hashes[x.tip.Height]
		ok = known && mine == theirs
		switch {
		case y.tip.Height-x.tip.Height > 2:
			all = append(all, warning("agreement", "Look at its peers and its disk.", "%s is %d blocks behind %s", x.name, y.tip.Height-x.tip.Height, y.name))
		case !ok:
			all = append(all, wrong("agreement", exitChain, "Ask a third one before anything is opened or sold.", "%s and %s have different blocks at height %d", x.name, y.name, x.tip.Height))
		default:
			all = append(all, fine("agreement", "%s and %s agree at height %d", x.name, y.name, x.tip.Height))
		}
	}
	return all
}

// Bounds of a clock that challenges, which live ten minutes, can be dated with.
const (
	clockOff  = 30 * time.Second
	clockBad  = 5 * time.Minute
	aheadMost = 2 * time.Hour // of a block's time before the network's: nodes take no more
)

// judgeClock holds this machine's clock against the servers' and the newest blocks.
func judgeClock(seen []chainSeen, now time.Time, regtest bool) []finding {
	const next = "Set the clock, and keep it right with NTP (timedatectl set-ntp true)."
	var all []finding
	for _, s := range seen {
		off := s.clock
		if off < 0 {
			off = -off
		}
		switch {
		case s.err == nil && s.tip.Time.Sub(now) > aheadMost && !regtest:
			all = append(all, wrong("clock", exitLocal, next, "the newest block is %v ahead of this clock: the clock is slow", s.tip.Time.Sub(now).Round(time.Second)))
		case s.timed && off > clockBad:
			all = append(all, wrong("clock", exitLocal, next, "this clock is %v %s that of %s", off.Round(time.Second), aheadOrBehind(s.clock), s.name))
		case s.timed && off > clockOff:
			all = append(all, warning("clock", next, "this clock is %v %s that of %s", off.Round(time.Second), aheadOrBehind(s.clock), s.name))
		case s.timed:
			all = append(all, fine("clock", "within %v of %s", (off+time.Second).Round(time.Second), s.name))
		}
	}
	if len(all) == 0 {
		for _, s := range seen {
			if s.err == nil {
				return []finding{fine("clock", "%s, the newest block is of %s", now.UTC().Format(time.RFC3339), s.tip.Time.UTC().Format(time.RFC3339))}
			}
		}
		return []finding{warning("clock", "Check it by hand: "+now.UTC().Format(time.RFC3339)+" is what it says.", "no blockchain answered that it could be compared with")}
	}
	return all
}

// aheadOrBehind puts a server's lead into words about this clock.
func aheadOrBehind(lead time.Duration) string {
	if lead > 0 {
		return "behind"
	}
	return "ahead of"
}

// blocksText is a number of blocks, and about how long that is.
func blocksText(n uint32) string {
	return fmt.Sprintf("%d blocks, about %.1f days", n, float64(n)/144)
}

// endChain closes a blockchain that was connected to.
func endChain(c chain.Backend) error {
	if b, ok := c.(interface{ Close() error }); ok {
		return b.Close()
	}
	return nil
}
