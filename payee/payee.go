// Package payee drives the payee's side of channels: it locks one channel, asks
// the rules of package channel, saves what they decide, and only then signs or
// answers. It is the only writer of a payee's channel records.
//
// It starts no goroutine and reads no clock and no randomness of its own: both
// are passed in, so that a simulator runs the same code. It knows nothing of
// HTTP, and it never acknowledges what is not saved.
package payee

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/decoded"
	"github.com/spillway/spillway/internal/keylock"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// Buckets of the store.
const (
	bucketChannel = "payee/channel" // channel id → channel.PayeeRecord
	bucketKey     = "payee/key"     // K2 → channel id: one K2, one channel
	bucketPool    = "payee/pool"    // "pool" → channel.Pool
	bucketCharged = "payee/charged" // channel id/resource/page → bits
	bucketMeta    = "payee/meta"
)

// Errors beside those of package channel.
var (
	// ErrUnknown: no channel of this id is known.
	ErrUnknown = errors.New("no channel of this id is known here")
	// ErrStale: the chain backend has not been heard of for too long.
	ErrStale = errors.New("the chain's state is not known well enough")
)

// staleTip is the default age at which a tip is not believed any more. Three hours
// without a block, the least that it means, come about once in a thousand years.
const staleTip = 5 * time.Hour

// Store is what the driver needs of a store.
type Store interface {
	Get(ctx context.Context, bucket, key string) (store.Entry, error)
	List(ctx context.Context, bucket, prefix string) ([]store.Entry, error)
	Commit(ctx context.Context, ops ...store.Op) error
}

// Keys derives the payee's channel keys.
type Keys interface {
	PayeeChannelKey(nonce [16]byte) (*btcec.PrivateKey, error)
}

// Chain is what the driver asks of a blockchain.
type Chain interface {
	Tip(ctx context.Context) (chain.Tip, error)
	Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error)
	Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error)
	Broadcast(ctx context.Context, tx *wire.MsgTx) error
	FeeRate(ctx context.Context, blocks int) (script.FeeRate, error)
}

// Config is what a Payee needs. Store, Keys, Chain, Network, Payout, Now and Rand
// must be set.
type Config struct {
	Store   Store
	Keys    Keys
	Chain   Chain
	Network string
	Payout  []byte // script that settlements pay to
	Policy  channel.Policy
	// Constructions are the kinds of channel on offer; default: all that go one way.
	// A duplex channel needs a payout script that a rest may go to.
	Constructions []script.Construction
	// Dearest is the price in msat of the dearest chunk on sale; it sizes the
	// newcomers' pool. nil: no chunk needs a place.
	Dearest func() uint64
	// Offered reports whether a resource is on offer now. What was charged on a duplex
	// channel, is not, and never arrived is taken off its ledger. nil: everything is.
	Offered func(resource [32]byte) bool
	// MaxPending is how many channels may wait for their confirmations at once;
	// default 1,000.
	MaxPending int
	// Alone: nobody but this driver writes the channels of the store, which one process
	// has to itself. What is remembered of a channel is then taken for what is stored,
	// without asking the store; each save is a swap on its revision all the same.
	Alone bool
	// Coins, where it is set, lends a confirmed coin for a settlement whose own output is
	// too small to pay the fee that it needs; never to give more than the settlement saves.
	Coins Coins
	// Spread, where it is set, has to call do once for each number below n, in any order
	// and on any goroutines, and to return when all are done: many records are read so.
	// nil: one after the other.
	Spread func(n int, do func(i int))
	// StaleTip is how old the newest block may be by its own time for anything to be
	// delivered: a backend that stands still hides the expiry. Default: five hours
	// (a miner may date a block two hours wrong); on regtest, where blocks come
	// when somebody wants one, any age.
	StaleTip time.Duration
	Now      func() time.Time
	Rand     io.Reader
	Log      *slog.Logger
	// Alarm, where it is set, is told of each channel that is stopped, while the channel
	// is locked: it must not call back.
	Alarm func(*channel.StoppedError)
	// Observer, where it is set, is told of checks and of changes.
	Observer Observer
}

// Payee is the driver. Its methods may be called from many goroutines: each
// channel has one user at a time.
type Payee struct {
	cfg   Config
	locks keylock.Locks
	kept  decoded.Values[*kept]         // what is remembered of channels, by id
	pool  sync.Mutex                    // held after a channel's lock, never before it
	size  map[script.Construction]int64 // vB of a settlement with a rest

	quoted struct { // the chain as offers see it
		sync.Mutex
		look look
		at   time.Time
	}

	pending pending
}

// New checks the configuration. Errors: channel.ErrTerms for a margin that is too small.
func New(cfg Config) (*Payee, error) {
	if cfg.Store == nil || cfg.Keys == nil || cfg.Chain == nil || cfg.Now == nil || cfg.Rand == nil || len(cfg.Payout) == 0 {
		return nil, errors.New("payee: store, keys, chain, payout script, clock and randomness are needed")
	}
	if err := cfg.Policy.CheckMargin(); err != nil {
		return nil, err
	}
	if len(cfg.Constructions) == 0 {
		cfg.Constructions = []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.StaleTip == 0 && cfg.Network != "regtest" {
		cfg.StaleTip = staleTip
	}
	if cfg.MaxPending <= 0 {
		cfg.MaxPending = defaultPending
	}
	if cfg.Dearest == nil {
		cfg.Dearest = func() uint64 { return 0 }
	}
	cfg.Policy.FeeInputs = cfg.Coins != nil
	p := &Payee{cfg: cfg, size: map[script.Construction]int64{}}
	p.kept.Limit = maxKept
	return p, p.measure()
}

// held is one locked channel with its record as it is saved.
type held struct {
	id     string
	rev    uint64
	record channel.PayeeRecord
	script *script.Channel
	unlock func()
}

// lock locks a channel and reads its record; where that is none that the rules can have
// led to, the channel is stopped. Errors: ErrUnknown.
func (p *Payee) lock(ctx context.Context, id string) (*held, error) {
	h, err := p.lockBare(ctx, id)
	if err != nil {
		return nil, err
	}
	if h.script, err = p.scripts(h.record.Terms); err != nil {
		h.unlock()
		return nil, err
	}
	return h, nil
}

// lockBare is lock without the channel's scripts.
func (p *Payee) lockBare(ctx context.Context, id string) (*held, error) {
	unlock := p.locks.Lock(id)
	h, err := p.readBare(ctx, id)
	if err != nil {
		unlock()
		return nil, err
	}
	h.unlock = unlock
	if h.record.Stopped == "" {
		if err := h.record.Sound(); err != nil {
			_ = p.stop(ctx, h, err) // said there, also where it is not saved; the record in hand is stopped in any case
		}
	}
	return h, nil
}

func (p *Payee) read(ctx context.Context, id string) (*held, error) {
	h, err := p.readBare(ctx, id)
	if err != nil {
		return nil, err
	}
	h.script, err = p.scripts(h.record.Terms)
	return h, err
}

// readBare is read without the channel's scripts.
func (p *Payee) readBare(ctx context.Context, id string) (*held, error) {
	if p.cfg.Alone {
		if r, revision, ok := p.newest(id); ok {
			return &held{id: id, rev: revision, record: r}, ctx.Err()
		}
	}
	e, err := p.cfg.Store.Get(ctx, bucketChannel, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, id)
	} else if err != nil {
		return nil, err
	}
	h := &held{id: id, rev: e.Revision}
	h.record, err = p.decode(e, true)
	return h, err
}

// save commits a record in a step that charges nothing, with other ops, where the
// invariants hold. Errors: channel.ErrStopped, of the store.
func (p *Payee) save(ctx context.Context, h *held, next channel.PayeeRecord, more ...store.Op) error {
	return p.saveStep(ctx, h, next, channel.Step{}, more...)
}

// saveStep is save for a step that may charge.
func (p *Payee) saveStep(ctx context.Context, h *held, next channel.PayeeRecord, s channel.Step, more ...store.Op) error {
	if err := p.holds(h, &next, &s); err != nil {
		return p.stop(ctx, h, err)
	}
	return p.commit(ctx, h, next, more...)
}

// Record returns a channel's record. Errors: ErrUnknown.
func (p *Payee) Record(ctx context.Context, id string) (channel.PayeeRecord, error) {
	h, err := p.readBare(ctx, id)
	if err != nil {
		return channel.PayeeRecord{}, err
	}
	return h.record, nil
}

// Records returns all channels, sorted by id.
func (p *Payee) Records(ctx context.Context) ([]channel.PayeeRecord, error) {
	entries, err := p.cfg.Store.List(ctx, bucketChannel, "")
	if err != nil {
		return nil, err
	}
	records, failed := p.decodeAll(entries)
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return records, nil
}

// readable are the records that can be read, and what is wrong with the others.
func (p *Payee) readable(ctx context.Context) ([]channel.PayeeRecord, error) {
	entries, err := p.cfg.Store.List(ctx, bucketChannel, "")
	if err != nil {
		return nil, err
	}
	all, failed := p.decodeAll(entries)
	records := all[:0]
	for i, r := range all {
		if failed[i] == nil {
			records = append(records, r)
		}
	}
	return records, errors.Join(failed...)
}

// decodeAll reads stored records, several at once where that is allowed, and says what
// is wrong with each.
func (p *Payee) decodeAll(entries []store.Entry) ([]channel.PayeeRecord, []error) {
	records, failed := make([]channel.PayeeRecord, len(entries)), make([]error, len(entries))
	do := func(i int) { records[i], failed[i] = p.decode(entries[i], false) }
	if p.cfg.Spread != nil {
		p.cfg.Spread(len(entries), do)
		return records, failed
	}
	for i := range entries {
		do(i)
	}
	return records, failed
}

// decode reads a stored record, where it changed since it was read before. used: the
// channel is, so it is remembered also where another has to be forgotten for it.
func (p *Payee) decode(e store.Entry, used bool) (r channel.PayeeRecord, err error) {
	if r, ok := p.recordAt(e.Key, e.Revision); ok {
		return r, nil
	}
	if err := r.UnmarshalJSON(e.Value); err != nil {
		return r, fmt.Errorf("%w: channel %s: %v", store.ErrDamaged, e.Key, err)
	}
	if used || p.about(e.Key) != nil || p.kept.Room() {
		p.knows(e.Key, e.Revision, r)
	}
	return r, nil
}

// MACKey is the key that both ends of a channel share, by which the payer is
// told from somebody who has only seen an update. Errors: ErrUnknown.
func (p *Payee) MACKey(ctx context.Context, id string) ([32]byte, error) {
	h, err := p.readBare(ctx, id)
	if err != nil {
		return [32]byte{}, err
	}
	if k := p.about(id); k != nil {
		k.mu.Lock()
		mac, ok := k.mac, k.macKnown
		k.mu.Unlock()
		if ok {
			return mac, nil
		}
	}
	mac, err := p.MACKeyFor(h.record.Terms.Nonce, h.record.Terms.PayerKey)
	if err != nil {
		return mac, err
	}
	p.remember(id, func(k *kept) { k.mac, k.macKnown = mac, true })
	return mac, nil
}

// MACKeyFor is MACKey for a channel that is not stored yet.
func (p *Payee) MACKeyFor(nonce channel.Nonce, payer channel.Key) ([32]byte, error) {
	key, err := p.cfg.Keys.PayeeChannelKey(nonce)
	if err != nil {
		return [32]byte{}, err
	}
	return bitcoin.MACKey(key, payer)
}

// List reads the channels of a payee's store without a driver, sorted by id.
func List(ctx context.Context, s Store) ([]channel.PayeeRecord, error) {
	return (&Payee{cfg: Config{Store: s}}).Records(ctx)
}
