package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/chain/btcd"
	"github.com/spillway/spillway/chain/neutrino"
	"github.com/spillway/spillway/channel"
)

// lightDefault is where a payer asks on a public network when nothing is chosen: the
// network itself.
const lightDefault = neutrino.Scheme + "://"

// shown is a --chain without its credentials, for people.
func shown(text string) string {
	rest, ok := strings.CutPrefix(text, neutrino.Scheme+"://")
	if !ok {
		return bitcoind.Redact(text)
	}
	hosts, _, _ := strings.Cut(rest, "?")
	return neutrino.Scheme + "://" + clipped(hosts)
}

// hasPassword reports whether a URL carries a password in its text.
func hasPassword(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return strings.Contains(text, "@")
	}
	_, has := u.User.Password()
	return has
}

// btcdBackend is the btcd that a URL names; it is not asked yet.
func (a *app) btcdBackend(text string, params *chaincfg.Params) (chain.Backend, error) {
	if a.chainTyped && hasPassword(text) {
		return nil, usagef("%s: a password on the command line is seen by everybody on this machine: "+
			"put the URL into SPILLWAY_CHAIN, or use ?password-file=PATH", shown(text))
	}
	cfg, err := btcd.ParseURL(text, params)
	if err != nil {
		return nil, usage(err)
	}
	cfg.Logger = a.out.logger()
	c, err := btcd.New(cfg)
	if err != nil {
		return nil, usage(err)
	}
	return c, nil
}

// light is a light client that is opened once its folder is known.
type light struct {
	*neutrino.Client
	cfg neutrino.Config
}

// lightBackend is the light client that a URL names; it is not opened yet.
func (a *app) lightBackend(text string, params *chaincfg.Params) (chain.Backend, error) {
	cfg, err := neutrino.ParseURL(text, params)
	if err != nil {
		return nil, usage(err)
	}
	cfg.Logger = a.out.logger()
	return &light{cfg: cfg}, nil
}

// Close closes what was opened.
func (l *light) Close() error {
	if l.Client == nil {
		return nil
	}
	return l.Client.Close()
}

// peersLimit is how long peers are looked for.
const peersLimit = time.Minute

// open starts the light client in a folder and waits until it has caught up with its
// network, which takes minutes the first time.
func (l *light) open(ctx context.Context, a *app, dir string) (err error) {
	l.cfg.Dir = filepath.Join(dir, "light")
	if own := l.cfg.Network.Net; own != wire.SigNet && l.cfg.Network.Name == chaincfg.SigNetParams.Name {
		l.cfg.Dir += fmt.Sprintf("-%08x", uint32(own)) // it begins with the same block, and goes on with others
	}
	if l.Client, err = neutrino.Open(ctx, l.cfg); err != nil {
		return err
	}
	if len(l.cfg.Peers) == 0 {
		a.out.say("A light client follows %s by itself (--chain names a node of your own instead): looking for peers…", l.cfg.Network.Name)
	}
	begin := time.Now()
	for {
		err := l.Sync(ctx, func(at, of uint32) { a.out.say("catching up with %s: block %d of %d", l.cfg.Network.Name, at, of) })
		if !errors.Is(err, neutrino.ErrNoPeers) || ctx.Err() != nil || len(l.cfg.Peers) > 0 || time.Since(begin) > peersLimit {
			return err
		}
		if err := waitFor(ctx, time.Second); err != nil {
			return err
		}
	}
}

// waitFor waits, unless the context ends.
func waitFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// checkSeller refuses to sell on a public network without a --chain: the light client that
// payers use by default sees no mempool, and who wants it has to say so.
func (a *app) checkSeller(name string) error {
	if name == "payer" || a.regtest() || len(a.flags.chain) > 0 {
		return nil
	}
	return usagef("--chain is needed on %s by whoever sells or watches: bitcoind://HOST, btcd://USER@HOST or the URL of an Esplora; "+
		"neutrino:// (a light client, no node) sells too, but sees nothing before it is in a block", a.flags.network)
}

// checkTower refuses a blockchain that a tower cannot watch from: it looks transactions up by
// their ids.
func checkTower(c chain.Backend) error {
	if c.Capabilities().Mempool {
		return nil
	}
	return usagef("a tower needs a blockchain with a mempool: bitcoind://, btcd:// or an Esplora at --chain, not a light client alone")
}

// policyOn is the default policy of the chosen network as far as a blockchain allows it.
func (a *app) policyOn(c chain.Backend) channel.Policy {
	p, can := a.policy(), c.Capabilities()
	if can.NoVersion3 {
		p.TxVersion = 2
	}
	if !can.Mempool {
		p.ZeroConf = 0
	}
	return p
}

// tellLimits says what a provider's or a tower's blockchain cannot do.
func (a *app) tellLimits(c chain.Backend) {
	can := c.Capabilities()
	if !can.Mempool {
		a.out.say("This --chain shows no mempool: nothing is delivered before a funding is in a block, and a refund that a payer sends early is seen only once it is mined. " +
			"Zero-conf and early warnings need bitcoind://, btcd:// or an Esplora, alone or as a second --chain.")
	}
	if !can.FeeEstimates {
		a.out.say("This --chain has no fee estimates: fees are guessed from what the newest blocks paid.")
	}
	if can.NoVersion3 {
		a.out.say("This --chain relays no transactions of version 3: new channels use version 2, and what is still open with version 3 needs another --chain beside it to settle.")
	}
}

// closeChain closes a blockchain that was connected to for one question.
func closeChain(c chain.Backend) error {
	if b, ok := c.(interface{ Close() error }); ok {
		return b.Close()
	}
	return nil
}

// atChain names a blockchain in an error.
func atChain(text string, err error) error {
	return fmt.Errorf("the blockchain at %s: %w", shown(text), err)
}
