package transcript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"

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

// journal is the buyer's own bucket: which chunks it has verified.
const journal = "journal"

// errCrash is what every save of a side answers that was killed.
var errCrash = errors.New("killed")

// disk is one side's store. It can be told to kill the side at one of its saves,
// before or after that save; everything fails from then on until a restart.
type disk struct {
	*memory.Store
	commits  int
	killAt   int // 0: never
	survives bool
	dead     bool
}

func (d *disk) Commit(ctx context.Context, ops ...store.Op) error {
	if d.dead {
		return errCrash
	}
	if d.commits++; d.commits != d.killAt {
		return d.Store.Commit(ctx, ops...)
	}
	d.dead = true
	if d.survives {
		if err := d.Store.Commit(ctx, ops...); err != nil {
			return err
		}
	}
	return errCrash
}

func (d *disk) Get(ctx context.Context, bucket, key string) (store.Entry, error) {
	if d.dead {
		return store.Entry{}, errCrash
	}
	return d.Store.Get(ctx, bucket, key)
}

func (d *disk) List(ctx context.Context, bucket, prefix string) ([]store.Entry, error) {
	if d.dead {
		return nil, errCrash
	}
	return d.Store.List(ctx, bucket, prefix)
}

// host is a chain and its clock. Worlds may follow each other on it: each has keys
// of its own.
type host struct {
	node *devnet.Node
	now  time.Time
	runs byte
	more byte
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{now: time.Unix(1_700_000_000, 0)}
	var err error
	if h.node, err = devnet.New(devnet.Config{Now: func() time.Time { return h.now }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.node.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// seed is a mnemonic that nobody else on this host has.
func (h *host) seed(t testing.TB, side byte) string {
	t.Helper()
	words, err := keys.NewMnemonic(rand.NewChaCha8([32]byte{side, h.runs, h.more}))
	if err != nil {
		t.Fatal(err)
	}
	return words
}

// world is a payer and a payee with one chain and one channel between them.
type world struct {
	*host
	t      testing.TB
	words  [2]string // the payer's, the payee's
	policy channel.Policy

	payerDisk, payeeDisk *disk
	payer                *payer.Payer
	payee                *payee.Payee
	wallet               *wallet.Wallet
	payout               []byte

	kind    script.Construction
	credit  uint64 // msat
	price   uint64 // msat, of each chunk
	offer   channel.Offer
	id      string
	closing *payer.Closing
	backups map[string][]store.Entry
	starts  int // of either side
}

func newWorld(t testing.TB, h *host) *world {
	t.Helper()
	if h.runs++; h.runs == 0 {
		h.more++
	}
	h.node.SetFeeRate(0)
	w := &world{
		host: h, t: t, words: [2]string{h.seed(t, 1), h.seed(t, 2)}, kind: script.Taproot, credit: 1_000_000, price: 1_000_000,
		payerDisk: &disk{Store: memory.New()}, payeeDisk: &disk{Store: memory.New()}, backups: map[string][]store.Entry{},
	}
	w.policy = channel.DefaultPolicy("regtest")
	w.policy.Duration, w.policy.Useful = 60, 10
	if err := errors.Join(w.startPayer(), w.startPayee()); err != nil {
		t.Fatal(err)
	}
	return w
}

func ring(words string) (*keys.Keyring, error) {
	return keys.FromMnemonic(words, &chaincfg.RegressionNetParams)
}

// startPayer makes the payer's process anew: only its disk is as it was.
func (w *world) startPayer() error {
	w.payerDisk.dead, w.closing = false, nil
	k, err := ring(w.words[0])
	if err != nil {
		return err
	}
	w.wallet, err = wallet.New(w.t.Context(), wallet.Config{Keys: k, Chain: w.node, Store: w.payerDisk, Params: devnet.Params()})
	if err != nil {
		return err
	}
	w.payer, err = payer.New(payer.Config{
		Store: w.payerDisk, Keys: k, Wallet: w.wallet, Chain: w.node, Network: "regtest", Policy: w.policy, Rand: w.dice(1),
	})
	return err
}

func (w *world) freeOrphans() error {
	records, err := w.payer.Records(w.t.Context())
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, r := range records {
		known[r.Terms.Outpoint.Hash.String()] = r.Phase != channel.Abandoned || r.FundingSent
	}
	_, err = w.wallet.ReleaseOrphans(w.t.Context(), 0, func(txid string) bool { return known[txid] })
	return err
}

func (w *world) startPayee() error {
	w.payeeDisk.dead = false
	k, err := ring(w.words[1])
	if err != nil {
		return err
	}
	if _, w.payout, err = k.WalletKey(false, 0); err != nil {
		return err
	}
	w.payee, err = payee.New(payee.Config{
		Store: w.payeeDisk, Keys: k, Chain: w.node, Network: "regtest", Payout: w.payout, Policy: w.policy,
		Dearest: func() uint64 { return w.price }, Now: func() time.Time { return w.now }, Rand: w.dice(2),
	})
	return err
}

// dice is randomness that differs for each start of each side, and can be repeated.
func (w *world) dice(side byte) *rand.ChaCha8 {
	w.starts++
	return rand.NewChaCha8([32]byte{side, byte(w.starts), byte(w.starts >> 8)})
}

// restart starts every side again that was killed; it reports whether one was. No
// other process uses the payer's coins here: what belongs to no channel is free.
func (w *world) restart() (bool, error) {
	var errs []error
	killed := w.payerDisk.dead || w.payeeDisk.dead
	if w.payerDisk.dead {
		errs = append(errs, w.startPayer(), w.freeOrphans())
	}
	if w.payeeDisk.dead {
		errs = append(errs, w.startPayee())
	}
	return killed, errors.Join(errs...)
}

// mine adds blocks; time passes with them.
func (w *world) mine(blocks int) error {
	for range blocks {
		w.now = w.now.Add(10 * time.Minute)
		if _, err := w.node.Mine(1); err != nil {
			return err
		}
	}
	return nil
}

// step lets the watches of the sides look at the chain once.
func (w *world) step(drivers ...watch.Driver) error {
	return (&watch.Watch{Chain: w.node, Drivers: drivers}).Step(w.t.Context())
}

// copyOf is all that a side has saved.
func copyOf(ctx context.Context, d *disk) (all []store.Entry, err error) {
	for _, bucket := range []string{
		"payer/channel", "payer/meta", journal, "wallet/index", "wallet/reserved", "wallet/tx",
		"payee/channel", "payee/key", "payee/pool", "payee/charged", "payee/meta",
	} {
		entries, err := d.List(ctx, bucket, "")
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

// restore gives a side a disk with what was saved in a copy.
func restored(ctx context.Context, entries []store.Entry) (*disk, error) {
	d := &disk{Store: memory.New()}
	for _, e := range entries {
		if err := d.Commit(ctx, store.Op{Bucket: e.Bucket, Key: e.Key, Value: e.Value}); err != nil {
			return nil, err
		}
	}
	d.commits = 0
	return d, nil
}

// refusals are the sentinels by which a transcript names errors.
var refusals = []struct {
	err  error
	name string
}{
	{channel.ErrSignature, "ErrSignature"}, {channel.ErrAmountExceeds, "ErrAmountExceeds"}, {channel.ErrInsufficient, "ErrInsufficient"},
	{channel.ErrUnconfirmed, "ErrUnconfirmed"}, {channel.ErrExpiring, "ErrExpiring"}, {channel.ErrFinalized, "ErrFinalized"},
	{channel.ErrConflict, "ErrConflict"}, {channel.ErrOwes, "ErrOwes"}, {channel.ErrBudget, "ErrBudget"}, {channel.ErrPrepay, "ErrPrepay"},
	{channel.ErrNotYet, "ErrNotYet"}, {channel.ErrUnsupported, "ErrUnsupported"}, {channel.ErrNothingAtStake, "ErrNothingAtStake"},
	{channel.ErrTooSmall, "ErrTooSmall"}, {channel.ErrTerms, "ErrTerms"}, {payee.ErrUnknown, "ErrUnknown"}, {payer.ErrUnknown, "ErrUnknown"},
	{wallet.ErrInsufficient, "wallet: ErrInsufficient"}, {chain.ErrRejected, "chain: ErrRejected"},
}

// name is how a transcript shows an error: its sentinel, and what it asks for.
func name(err error) string {
	var money *channel.InsufficientError
	var depth *channel.UnconfirmedError
	switch {
	case errors.As(err, &money) && money.Ahead:
		return fmt.Sprintf("refused: ErrInsufficient, %d sat are due ahead", money.Required)
	case errors.As(err, &money):
		return fmt.Sprintf("refused: ErrInsufficient, %d sat are enough", money.Required)
	case errors.As(err, &depth):
		return fmt.Sprintf("refused: ErrUnconfirmed, %d of %d", depth.Have, depth.Want)
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return "refused: " + r.name
		}
	}
	return "failed: " + err.Error()
}

// same reports whether two scripts are one.
func same(a, b []byte) bool { return bytes.Equal(a, b) }
