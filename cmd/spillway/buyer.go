package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/watch"
)

// buyer is the payer's side, opened: its folder, its driver, its client, and
// its watch.
type buyer struct {
	*role
	app     *app
	payer   *payer.Payer
	client  *paywall.Client
	buy     *download.Buyer
	exports string // folder that exports of channels are kept in; "": none
	filled  int    // how often the devnet's faucet filled the wallet
	node    purse  // the node's wallet, where channels are funded from that; nil: the built-in one
	// watcher is stepped by watch, and once more when a command is done
	watcher *watch.Watch
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// openBuyer opens the payer's folder.
func (a *app) openBuyer(ctx context.Context) (*buyer, error) { return a.openBuyerFrom(ctx, "") }

// openBuyerFrom opens the payer's folder; from names the wallet that funds channels, as
// --wallet does.
func (a *app) openBuyerFrom(ctx context.Context, from string) (*buyer, error) {
	named, err := a.nodeWalletName(from)
	if err != nil {
		return nil, err
	}
	r, err := a.openRole(ctx, "payer")
	if err != nil {
		return nil, err
	}
	tap := &tapped{purse: r.wallet}
	var funds purse = tap
	if named != nil {
		if funds, err = a.openNodeWallet(ctx, r, *named); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	b, err := a.newBuyerFrom(r, paywall.DefaultHTTP(), funds)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if tap.buyer = b; named != nil {
		b.node = funds
	}
	if err := b.freeOrphans(ctx); err != nil {
		a.out.say("coins that an earlier run had reserved were not looked at: %v", err)
	}
	return b, nil
}

// orphanBlocks is how many blocks a coin may be reserved for a channel that is
// not saved: another process may be at it.
const orphanBlocks = 6

// freeOrphans frees the coins that a run had reserved when it was killed before
// its channel was saved.
func (b *buyer) freeOrphans(ctx context.Context) error {
	known, err := b.payer.Fundings(ctx)
	if err != nil {
		return err
	}
	freed, err := b.wallet.ReleaseOrphans(ctx, orphanBlocks, known)
	if freed > 0 {
		b.app.out.say("%d coins that an interrupted run had reserved are free again.", freed)
	}
	return err
}

// newBuyer wires a payer's drivers over its opened folder.
func (a *app) newBuyer(r *role, web *http.Client) (*buyer, error) {
	return a.newBuyerFrom(r, web, r.wallet)
}

func (a *app) newBuyerFrom(r *role, web *http.Client, funds purse) (_ *buyer, err error) {
	b := &buyer{role: r, app: a, exports: filepath.Join(r.dir, exportsFolder), stop: func() {}}
	b.payer, err = payer.New(payer.Config{
		Store: r.store, Keys: r.keys, Wallet: funds, Chain: r.chain, Network: a.flags.network,
		Policy: a.policy(), Rand: rand.Reader, Now: time.Now, Keep: b.keepExport, Spend: a.spend, Log: a.out.logger(), Alarm: a.stopAlarm,
	})
	if err != nil {
		return nil, err
	}
	b.watcher = &watch.Watch{Chain: r.chain, Drivers: []watch.Driver{b.payer}, Log: a.out.logger()}
	b.client, err = paywall.NewClient(paywall.ClientConfig{HTTP: web, Payer: b.payer, Network: a.flags.network, Compact: true})
	if err != nil {
		return nil, err
	}
	b.buy, err = download.New(download.Config{
		Client: b.client, Payer: b.payer, Store: r.store, Chain: r.chain, Wallet: funds, Network: a.flags.network, Policy: a.policy(),
		Locks: &download.FileLocks{Dir: filepath.Join(r.dir, "locks")}, Log: a.out.logger(),
	})
	return b, err
}

// watch keeps the payer's channels in step with the chain until Close.
func (b *buyer) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.work.Add(1)
	go func() {
		defer b.work.Done()
		every(ctx, time.Second, b.step, func(err error) { b.app.out.say("watch: %v", err) })
	}()
}

// look ends the watch with one last step, so that what is saved is as the chain
// stands.
func (b *buyer) look(ctx context.Context) error {
	b.stop()
	b.work.Wait()
	return b.step(ctx)
}

func (b *buyer) step(ctx context.Context) error { return b.role.step(ctx, b.watcher) }

// Close stops the watch and closes the folder.
func (b *buyer) Close() error {
	b.stop()
	b.work.Wait()
	if b.client != nil {
		b.client.CloseIdle()
	}
	return b.role.Close()
}

// tapped is the built-in wallet of somebody who buys on a devnet: what it lacks for a
// funding comes from the faucet, also where a purchase goes on in another channel than
// was planned.
type tapped struct {
	purse
	buyer *buyer
}

// Fund implements purse.
func (t *tapped) Fund(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) (*wallet.Funded, error) {
	tx, err := t.purse.Fund(ctx, outputs, rate)
	if t.buyer == nil || !errors.Is(err, wallet.ErrInsufficient) {
		return tx, err
	}
	fee, failed := t.purse.FundingFee(ctx, outputs, rate)
	if failed != nil {
		fee = rate.Fee(fundingSize)
	}
	need := 4*fee + 1000
	for _, out := range outputs {
		need += out.Value
	}
	if failed := t.buyer.fillFromFaucet(ctx, need); failed != nil {
		return nil, errors.Join(err, failed)
	}
	return t.purse.Fund(ctx, outputs, rate)
}

var _ payer.Bumper = (*tapped)(nil)

// Child implements payer.Bumper.
func (t *tapped) Child(ctx context.Context, parent *wire.MsgTx, index uint32, parentFee int64, rate script.FeeRate, most int64) (*wallet.Funded, error) {
	w, ok := t.purse.(payer.Bumper)
	if !ok {
		return nil, payer.ErrNoBump
	}
	return w.Child(ctx, parent, index, parentFee, rate, most)
}

// fundingSize is about what a funding with one input takes, in vB.
const fundingSize = 154

// fillFromFaucet has the devnet's faucet pay what is needed where the wallet has
// less, in one coin: gathering many small ones costs fees. On a real network
// nothing is ever given.
func (b *buyer) fillFromFaucet(ctx context.Context, need int64) error {
	client, ok := b.chain.(*esplora.Client)
	if !ok || !b.app.regtest() || b.node != nil {
		return nil
	}
	have, err := b.wallet.Balance(ctx)
	if err != nil || have.Spendable >= need {
		return err
	}
	pk, err := b.wallet.ReceiveScript(ctx)
	if err != nil {
		return err
	}
	if _, err := client.Faucet(ctx, pk, need); err != nil {
		b.app.out.say("The wallet lacks coins and this chain has no faucet that answers: %v", err)
		return nil // funding will say what is missing
	}
	b.filled++
	b.app.out.say("The wallet was filled with %s by the devnet's faucet (worth nothing).", money(uint64(need)*1000))
	return b.awaitCoins(ctx, need)
}

// awaitCoins waits until the wallet may spend this much, in sat.
func (b *buyer) awaitCoins(ctx context.Context, need int64) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		have, err := b.wallet.Balance(ctx)
		if err != nil {
			return err
		}
		if have.Spendable >= need {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
