// Package pairtest gives tests a payer and a payee with stores in memory and a
// chain in the process, all of which can be watched and made to fail.
//
// It is for tests only, and decides nothing that the drivers decide.
package pairtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/watch"
)

// Price is what a chunk costs, in msat; Capacity is what channels hold, in sat.
const (
	Price    = 1_000_000
	Capacity = 50_000
)

// Disk is a store that remembers what was committed, in order.
type Disk struct {
	*memory.Store
	mu      sync.Mutex
	commits [][]store.Op
}

// Commit implements store.Store.
func (d *Disk) Commit(ctx context.Context, ops ...store.Op) error {
	err := d.Store.Commit(ctx, ops...)
	if err == nil {
		d.mu.Lock()
		d.commits = append(d.commits, ops)
		d.mu.Unlock()
	}
	return err
}

// Commits is what was committed so far.
func (d *Disk) Commits() [][]store.Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([][]store.Op(nil), d.commits...)
}

// Chain is the embedded node with an eye on what is broadcast, and a switch.
type Chain struct {
	*devnet.Node
	mu    sync.Mutex
	sent  []*wire.MsgTx
	asked int
	down  bool
}

// Down makes the chain unreachable, or reachable again.
func (c *Chain) Down(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// Sent is what was broadcast so far, refused or not.
func (c *Chain) Sent() []*wire.MsgTx {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*wire.MsgTx(nil), c.sent...)
}

// Asked is how often the tip was asked for.
func (c *Chain) Asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// Tip implements chain.Backend.
func (c *Chain) Tip(ctx context.Context) (chain.Tip, error) {
	c.mu.Lock()
	c.asked++
	down := c.down
	c.mu.Unlock()
	if down {
		return chain.Tip{}, fmt.Errorf("%w: switched off", chain.ErrUnavailable)
	}
	return c.Node.Tip(ctx)
}

// Broadcast implements chain.Backend.
func (c *Chain) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	c.mu.Lock()
	c.sent = append(c.sent, tx)
	down := c.down
	c.mu.Unlock()
	if down {
		return fmt.Errorf("%w: switched off", chain.ErrUnavailable)
	}
	return c.Node.Broadcast(ctx, tx)
}

// Pair is both sides. Its fields may be changed before a restart.
type Pair struct {
	t          testing.TB
	Chain      *Chain
	PayerDisk  *Disk
	PayeeDisk  *Disk
	PayerKeys  *keys.Keyring
	PayeeKeys  *keys.Keyring
	Wallet     *wallet.Wallet
	Payer      *payer.Payer
	Payee      *payee.Payee
	Payout     []byte
	Policy     channel.Policy
	Credit     uint64                // msat
	Kinds      []script.Construction // on offer; none: the payee's default
	Observer   payee.Observer        // of the payee; nil: none
	alarms     []error               // of channels that a side stopped
	now        time.Time
	starts     byte
	clockGuard sync.Mutex
}

// New makes a pair with three coins of 100,000 sat for the payer.
func New(t testing.TB) *Pair {
	t.Helper()
	p := &Pair{t: t, PayerDisk: &Disk{Store: memory.New()}, PayeeDisk: &Disk{Store: memory.New()}, Credit: Price, now: time.Unix(1_700_000_000, 0)}
	p.Policy = channel.DefaultPolicy("regtest")
	p.Policy.Duration, p.Policy.Useful = 60, 10
	node, err := devnet.New(devnet.Config{Now: p.Now})
	p.must(err)
	t.Cleanup(func() { p.must(node.Close()) })
	p.Chain = &Chain{Node: node}
	p.PayerKeys = p.ring("abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about")
	p.PayeeKeys = p.ring("legal winner thank year wave sausage worth useful legal winner thank yellow")
	p.RestartPayer()
	p.RestartPayee()
	p.Coins(3)
	return p
}

func (p *Pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *Pair) ring(words string) *keys.Keyring {
	p.t.Helper()
	k, err := keys.FromMnemonic(words, devnet.Params())
	p.must(err)
	return k
}

// Now is the pair's clock.
func (p *Pair) Now() time.Time {
	p.clockGuard.Lock()
	defer p.clockGuard.Unlock()
	return p.now
}

func (p *Pair) alarm(stop *channel.StoppedError) {
	p.clockGuard.Lock()
	defer p.clockGuard.Unlock()
	p.alarms = append(p.alarms, stop)
}

// Alarms are the channels that a side stopped so far.
func (p *Pair) Alarms() []error {
	p.clockGuard.Lock()
	defer p.clockGuard.Unlock()
	return append([]error(nil), p.alarms...)
}

// Wait lets time pass.
func (p *Pair) Wait(d time.Duration) {
	p.clockGuard.Lock()
	defer p.clockGuard.Unlock()
	p.now = p.now.Add(d)
}

// dice is randomness that differs for each start.
func (p *Pair) dice() *rand.ChaCha8 {
	p.starts++
	return rand.NewChaCha8([32]byte{p.starts})
}

// RestartPayer makes the payer's process anew; only its disk is as it was.
func (p *Pair) RestartPayer() {
	p.t.Helper()
	var err error
	p.Wallet, err = wallet.New(p.t.Context(), wallet.Config{Keys: p.PayerKeys, Chain: p.Chain, Store: p.PayerDisk, Params: devnet.Params()})
	p.must(err)
	p.Payer, err = payer.New(payer.Config{
		Store: p.PayerDisk, Keys: p.PayerKeys, Wallet: p.Wallet, Chain: p.Chain, Network: "regtest", Policy: p.Policy, Rand: p.dice(),
		Alarm: p.alarm,
	})
	p.must(err)
}

// RestartPayee makes the payee's process anew; only its disk is as it was.
func (p *Pair) RestartPayee() {
	p.t.Helper()
	_, payout, err := p.PayeeKeys.WalletKey(false, 0)
	p.must(err)
	p.Payout = payout
	p.Payee, err = payee.New(payee.Config{
		Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: p.Chain, Network: "regtest", Payout: payout, Policy: p.Policy, Constructions: p.Kinds,
		Dearest: func() uint64 { return Price }, Now: p.Now, Rand: p.dice(), Alarm: p.alarm, Observer: p.Observer,
	})
	p.must(err)
}

// Coins gives the payer confirmed coins of 100,000 sat.
func (p *Pair) Coins(n int) {
	p.t.Helper()
	for range n {
		pk, err := p.Wallet.ReceiveScript(p.t.Context())
		p.must(err)
		_, err = p.Chain.Faucet(p.t.Context(), pk, 100_000)
		p.must(err)
	}
	p.Mine(1)
}

// Mine adds blocks; ten minutes pass with each.
func (p *Pair) Mine(n int) {
	p.t.Helper()
	for range n {
		p.Wait(10 * time.Minute)
		_, err := p.Chain.Mine(1)
		p.must(err)
	}
}

// Offer is what the payee offers now.
func (p *Pair) Offer() channel.Offer {
	p.t.Helper()
	o, err := p.Payee.Offer(p.t.Context(), payee.Price{Chunk: Price, Least: Price, Total: 10 * Price, Credit: p.Credit})
	p.must(err)
	return o
}

// Prepare prepares a channel on an offer and returns its record.
func (p *Pair) Prepare(o channel.Offer, kind script.Construction) channel.PayerRecord {
	p.t.Helper()
	r, err := p.Payer.Prepare(p.t.Context(), payer.OpenRequest{Offer: o, Construction: kind, Capacity: Capacity, Origin: "here"})
	p.must(err)
	return r
}

// SignRefund goes through steps 3 to 5 of opening a multisig channel.
func (p *Pair) SignRefund(o channel.Offer, r channel.PayerRecord) {
	p.t.Helper()
	tx, err := p.Payer.RefundRequest(p.t.Context(), r.Terms.ID())
	p.must(err)
	sig, err := p.Payee.Prepare(p.t.Context(), o, Terms(r), tx)
	p.must(err)
	p.must(p.Payer.TakeRefundSignature(p.t.Context(), r.Terms.ID(), sig))
}

// Terms is the part of an opening that `prepare` carries.
func Terms(r channel.PayerRecord) channel.Opening {
	t := r.Terms
	return channel.Opening{Construction: t.Construction, PayerKey: t.PayerKey, Outpoint: t.Outpoint, Capacity: t.Capacity, RestScript: t.RestScript}
}

// Open opens a channel, confirmed, and returns its id.
func (p *Pair) Open(kind script.Construction) string {
	p.t.Helper()
	o := p.Offer()
	r := p.Prepare(o, kind)
	if kind == script.Multisig || kind == script.MultisigP2SH {
		p.SignRefund(o, r)
	}
	op, err := p.Payer.Opening(p.t.Context(), r.Terms.ID())
	p.must(err)
	_, err = p.Payee.Open(p.t.Context(), o, op)
	p.must(err)
	p.must(p.Payer.Accepted(p.t.Context(), r.Terms.ID()))
	p.Mine(1)
	return r.Terms.ID()
}

// Item is a chunk of the file that everybody buys.
func Item(i uint64) payee.Item { return payee.Item{Resource: [32]byte{7}, Chunk: i, Price: Price} }

// Buy asks for chunks with the payer's newest update; where they are delivered the
// payer signs for those that were charged.
func (p *Pair) Buy(id string, chunks ...uint64) (payee.Receipt, error) {
	u, err := p.Payer.Newest(p.t.Context(), id)
	if err != nil {
		return payee.Receipt{}, err
	}
	q := payee.Request{Channel: id, Update: &u, Credit: p.Credit}
	for _, i := range chunks {
		q.Items = append(q.Items, Item(i))
	}
	got, err := p.Payee.Pay(p.t.Context(), q)
	if err != nil {
		return got, err
	}
	_, err = p.Payer.Pay(p.t.Context(), id, payer.Payment{Verified: got.Fresh}, channel.Limits{Budget: channel.MaxSat})
	return got, err
}

// Update signs an amount (sat) as the payer would, without its driver.
func (p *Pair) Update(id string, amount uint64) channel.Update {
	p.t.Helper()
	r, err := p.Payer.Record(p.t.Context(), id)
	p.must(err)
	ch, err := r.Terms.Script()
	p.must(err)
	key, err := p.PayerKeys.PayerChannelKey(r.KeyIndex)
	p.must(err)
	sig, err := ch.SignHalf(key, int64(r.Terms.Capacity-amount))
	p.must(err)
	return channel.Update{Amount: amount, Signature: sig}
}

// StepPayee lets the payee's watch look at the chain once.
func (p *Pair) StepPayee() error {
	return (&watch.Watch{Chain: p.Chain, Drivers: []watch.Driver{p.Payee}}).Step(p.t.Context())
}

// StepPayer lets the payer's watch look at the chain once.
func (p *Pair) StepPayer() error {
	return (&watch.Watch{Chain: p.Chain, Drivers: []watch.Driver{p.Payer}}).Step(p.t.Context())
}

// ErrInjected is the failure that tests inject.
var ErrInjected = errors.New("injected")
