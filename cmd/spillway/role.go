package main

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/sqlite"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/watch"
)

// role is one side's folder, opened: a provider and a payer on one machine do
// not meet.
type role struct {
	name   string // payer or payee
	dir    string
	params *chaincfg.Params
	keys   *keys.Keyring
	store  store.Store
	chain  chain.Backend
	wallet *wallet.Wallet
	fresh  bool // the wallet was made just now
	close  []func() error
}

// folder is where a role keeps its things on the chosen network.
func (a *app) folder(name string) string {
	return filepath.Join(a.flags.data, name, a.flags.network)
}

// exists reports whether a role has a folder on the chosen network.
func (a *app) exists(name string) bool {
	info, err := os.Stat(filepath.Join(a.folder(name), "spillway.db"))
	return err == nil && info.Mode().IsRegular()
}

// openFolder opens a role's folder and store, without seed or chain.
func (a *app) openFolder(ctx context.Context, name string) (_ *role, err error) {
	params, err := a.params()
	if err != nil {
		return nil, err
	}
	r := &role{name: name, dir: a.folder(name), params: params}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, localError(err)
	}
	r.store, err = sqlite.Open(ctx, filepath.Join(r.dir, "spillway.db"), sqlite.Options{Shared: name == "payer"})
	if err != nil {
		return nil, err
	}
	r.close = append(r.close, r.store.Close)
	return r, nil
}

// openRole opens a role's folder: its store, its seed and the chain. Only on
// regtest a missing seed is made. The store is locked before: two first starts
// must not make two seeds.
func (a *app) openRole(ctx context.Context, name string) (_ *role, err error) {
	if err := a.checkOpening(name); err != nil {
		return nil, err
	}
	r, err := a.openFolder(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if err := a.openSeed(r); err != nil {
		return nil, err
	}
	if r.chain, err = a.openChain(ctx, r); err != nil {
		return nil, err
	}
	r.wallet, err = wallet.New(ctx, wallet.Config{Keys: r.keys, Chain: r.chain, Store: r.store, Params: r.params, Logger: a.out.logger()})
	if r.fresh && errors.Is(err, wallet.ErrOtherSeed) {
		return nil, errors.Join(noSeedYet(r), dropSeed(r.dir))
	}
	if err != nil {
		return nil, err
	}
	return r, r.hintScripts(ctx)
}

// Close closes what the role opened, last first.
func (r *role) Close() error {
	var failed []error
	for i := len(r.close) - 1; i >= 0; i-- {
		failed = append(failed, r.close[i]())
	}
	r.close = nil
	return errors.Join(failed...)
}

// openSeed reads the role's seed; on regtest it makes one where there is none.
func (a *app) openSeed(r *role) error {
	words, err := a.readSeed(r.dir)
	if errors.Is(err, keys.ErrNoSeed) && a.regtest() {
		if words, err = keys.NewMnemonic(rand.Reader); err != nil {
			return err
		}
		if err = a.writeSeed(r.dir, words); err == nil {
			r.fresh = true
		}
	}
	if err != nil {
		return err
	}
	r.keys, err = keys.FromMnemonic(words, r.params)
	return err
}

// policy is the default policy of the chosen network, with what was said about caps.
func (a *app) policy() channel.Policy {
	return a.caps.apply(channel.DefaultPolicy(a.flags.network))
}

// step is one look of a role at the chain: each of its channels gets what is due,
// and the wallet's payments that the chain does not show are sent again.
func (r *role) step(ctx context.Context, w *watch.Watch) error {
	return errors.Join(w.Step(ctx), r.wallet.Rebroadcast(ctx))
}

// stepShare bounds what steps take of the time: after one that took long, such as a
// look at 100,000 channels, the next waits so many times as long, within reason.
const (
	stepShare   = 9
	longestWait = 30 * time.Second // blocks come more rarely
)

// every takes steps until the context ends. Failures are reported once for each
// new text, and the next step tries again.
func every(ctx context.Context, period time.Duration, step func(context.Context) error, report func(error)) {
	last := ""
	for {
		text, begin := "", time.Now()
		if err := step(ctx); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != last {
				report(err)
			}
		}
		last = text
		tick := time.NewTimer(max(period-time.Since(begin), min(stepShare*time.Since(begin), longestWait), 0))
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// localError marks an error of the local disk.
func localError(err error) error {
	return &failure{exit: exitLocal, code: "local", message: err.Error(), money: keptHere,
		next: "Check the folder's permissions and free space.", err: err}
}
