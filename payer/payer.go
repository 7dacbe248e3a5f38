// Package payer drives the payer's side of channels: it locks one channel, asks
// the rules of package channel, saves what they decide, and only then signs,
// sends or broadcasts. It is the only writer of a payer's channel records.
//
// It starts no goroutine and reads no clock and no randomness of its own. It
// knows nothing of HTTP, and it never signs an amount that is not saved as spent.
package payer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/curve"
	"github.com/spillway/spillway/internal/decoded"
	"github.com/spillway/spillway/internal/keylock"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/wallet"
)

// Buckets of the store.
const (
	bucketChannel = "payer/channel" // channel id → channel.PayerRecord
	bucketMeta    = "payer/meta"    // "next-key" → the next key index
)

// ErrUnknown: no channel of this id is known.
var ErrUnknown = errors.New("no channel of this id is known here")

// Store is what the driver needs of a store.
type Store interface {
	Get(ctx context.Context, bucket, key string) (store.Entry, error)
	List(ctx context.Context, bucket, prefix string) ([]store.Entry, error)
	Commit(ctx context.Context, ops ...store.Op) error
}

// Keys derives the payer's channel keys.
type Keys interface {
	PayerChannelKey(index uint32) (*btcec.PrivateKey, error)
}

// Wallet funds channels and names where rests and refunds go.
type Wallet interface {
	Fund(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) (*wallet.Funded, error)
	Release(ctx context.Context, tx *wire.MsgTx) error
	ReceiveScript(ctx context.Context) ([]byte, error)
}

// Chain is what the driver asks of a blockchain.
type Chain interface {
	Tip(ctx context.Context) (chain.Tip, error)
	Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error)
	Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error)
	Broadcast(ctx context.Context, tx *wire.MsgTx) error
	FeeRate(ctx context.Context, blocks int) (script.FeeRate, error)
}

// Config is what a Payer needs. All but Now, Keep, Spend, Log and Alarm must be set.
type Config struct {
	Store   Store
	Keys    Keys
	Wallet  Wallet
	Chain   Chain
	Network string
	Policy  channel.Policy
	Rand    io.Reader
	// Now, where it is set, is the time: what the chain said of a channel then serves the
	// orders of a peer for some seconds. nil: it is asked for each.
	Now func() time.Time
	// Keep, where it is set, is given each channel's export before its opening, and
	// so T1, leaves for the first time. It has to make it durable: an error of its
	// keeps the opening here.
	Keep func(ctx context.Context, e Export) error
	// Spend, where it is set, has the last word on each payment, before it is saved: r is
	// the channel with the payment in it, more (sat) what it signs beyond what was signed
	// before. An error of its leaves everything as it was. It is asked while the channel is
	// locked: it must not call back.
	Spend func(r channel.PayerRecord, more uint64) error
	Log   *slog.Logger
	// Alarm, where it is set, is told of each channel that is stopped, while the channel
	// is locked: it must not call back.
	Alarm func(*channel.StoppedError)
}

// Payer is the driver. Its methods may be called from many goroutines: each
// channel has one user at a time.
type Payer struct {
	cfg   Config
	locks keylock.Locks
	known decoded.Values[channel.PayerRecord] // records as they were read
	built decoded.Values[*script.Channel]     // scripts of channels, by id
	keys  decoded.Values[*btcec.PrivateKey]   // K1 of channels, by id
	views views
}

// New checks the configuration.
func New(cfg Config) (*Payer, error) {
	if cfg.Store == nil || cfg.Keys == nil || cfg.Wallet == nil || cfg.Chain == nil || cfg.Rand == nil || cfg.Policy.MaxDuration == 0 {
		return nil, errors.New("payer: store, keys, wallet, chain, policy and randomness are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Payer{cfg: cfg}, nil
}

// held is one locked channel with its record as it is saved.
type held struct {
	id     string
	rev    uint64
	record channel.PayerRecord
	script *script.Channel
	unlock func()
}

// lock locks a channel and reads its record; where that is none that the rules can have
// led to, the channel is stopped. Errors: ErrUnknown.
func (p *Payer) lock(ctx context.Context, id string) (*held, error) {
	unlock := p.locks.Lock(id)
	h, err := p.read(ctx, id)
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

func (p *Payer) read(ctx context.Context, id string) (*held, error) {
	e, err := p.cfg.Store.Get(ctx, bucketChannel, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, id)
	} else if err != nil {
		return nil, err
	}
	h := &held{id: id, rev: e.Revision}
	if h.record, err = p.decode(e); err != nil {
		return nil, err
	}
	h.script, err = p.scripts(h.record.Terms)
	return h, err
}

// scripts returns the scripts of a channel that is stored, built once: its terms
// never change.
func (p *Payer) scripts(t channel.Terms) (*script.Channel, error) {
	id := t.ID()
	if ch, ok := p.built.Get(id, 0); ok {
		return ch, nil
	}
	ch, err := t.Script()
	if err != nil {
		return nil, err
	}
	p.built.Put(id, 0, ch)
	return ch, nil
}

// save commits a record, with other ops, where the invariants hold.
// Errors: channel.ErrStopped, of the store.
func (p *Payer) save(ctx context.Context, h *held, next channel.PayerRecord, more ...store.Op) error {
	if next.Stopped == "" {
		if err := next.Sound(); err != nil {
			return p.stop(ctx, h, err)
		}
	}
	if err := next.Follows(&h.record); err != nil {
		return p.stop(ctx, h, err)
	}
	return p.commit(ctx, h, next, more...)
}

// Record returns a channel's record. Errors: ErrUnknown.
func (p *Payer) Record(ctx context.Context, id string) (channel.PayerRecord, error) {
	h, err := p.read(ctx, id)
	if err != nil {
		return channel.PayerRecord{}, err
	}
	return h.record, nil
}

// Records returns all channels, sorted by id.
func (p *Payer) Records(ctx context.Context) ([]channel.PayerRecord, error) {
	entries, err := p.cfg.Store.List(ctx, bucketChannel, "")
	if err != nil {
		return nil, err
	}
	records := make([]channel.PayerRecord, len(entries))
	for i, e := range entries {
		if records[i], err = p.decode(e); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// readable are the records that can be read, and what is wrong with the others.
func (p *Payer) readable(ctx context.Context) ([]channel.PayerRecord, error) {
	entries, err := p.cfg.Store.List(ctx, bucketChannel, "")
	if err != nil {
		return nil, err
	}
	records := slices.Grow([]channel.PayerRecord(nil), len(entries))
	var failed []error
	for _, e := range entries {
		r, err := p.decode(e)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		records = append(records, r)
	}
	return records, errors.Join(failed...)
}

// decode reads a stored record, where it changed since it was read before.
func (p *Payer) decode(e store.Entry) (r channel.PayerRecord, err error) {
	if r, ok := p.known.Get(e.Key, e.Revision); ok {
		return r, nil
	}
	if err := r.UnmarshalJSON(e.Value); err != nil {
		return r, fmt.Errorf("%w: channel %s: %v", store.ErrDamaged, e.Key, err)
	}
	p.known.Put(e.Key, e.Revision, r)
	return r, nil
}

// MACKey is the key that both ends of a channel share. Errors: ErrUnknown.
func (p *Payer) MACKey(ctx context.Context, id string) ([32]byte, error) {
	h, err := p.read(ctx, id)
	if err != nil {
		return [32]byte{}, err
	}
	key, err := p.key(h.record)
	if err != nil {
		return [32]byte{}, err
	}
	return bitcoin.MACKey(key, h.record.Terms.PayeeKey)
}

// key derives K1, once, and makes sure that it is the channel's.
func (p *Payer) key(r channel.PayerRecord) (*btcec.PrivateKey, error) {
	id := r.Terms.ID()
	if key, ok := p.keys.Get(id, 0); ok {
		return key, nil
	}
	key, err := p.cfg.Keys.PayerChannelKey(r.KeyIndex)
	if err != nil {
		return nil, err
	}
	if channel.Key(curve.Public(key).SerializeCompressed()) != r.Terms.PayerKey {
		return nil, fmt.Errorf("%w: the wallet's seed does not hold the key of channel %s", store.ErrDamaged, id)
	}
	p.keys.Put(id, 0, key)
	return key, nil
}

// nextKey takes the next unused key index, durably.
func (p *Payer) nextKey(ctx context.Context) (uint32, error) {
	for {
		var index uint64
		e, err := p.cfg.Store.Get(ctx, bucketMeta, "next-key")
		if err == nil {
			if index, err = strconv.ParseUint(string(e.Value), 10, 31); err != nil {
				return 0, fmt.Errorf("%w: next-key: %v", store.ErrDamaged, err)
			}
		} else if !errors.Is(err, store.ErrNotFound) {
			return 0, err
		}
		value := []byte(strconv.FormatUint(index+1, 10))
		err = p.cfg.Store.Commit(ctx, store.Op{Bucket: bucketMeta, Key: "next-key", Value: value, Expect: e.Revision})
		if errors.Is(err, store.ErrConflict) {
			continue // another process took this one
		}
		return uint32(index), err
	}
}

// change applies a rule to one channel and saves what it returns, with other ops.
// Errors: channel.ErrStopped, the rule's, of the store.
func (p *Payer) change(ctx context.Context, id string, rule func(*held) (channel.PayerRecord, []store.Op, error)) (channel.PayerRecord, error) {
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return channel.PayerRecord{}, err
	}
	defer h.unlock()
	return p.apply(ctx, h, rule)
}

// end is change for what ends a channel, which may be stopped.
func (p *Payer) end(ctx context.Context, id string, rule func(*held) (channel.PayerRecord, []store.Op, error)) (channel.PayerRecord, error) {
	h, err := p.lock(ctx, id)
	if err != nil {
		return channel.PayerRecord{}, err
	}
	defer h.unlock()
	return p.apply(ctx, h, rule)
}

func (p *Payer) apply(ctx context.Context, h *held, rule func(*held) (channel.PayerRecord, []store.Op, error)) (channel.PayerRecord, error) {
	next, ops, err := rule(h)
	if err != nil {
		return h.record, p.stop(ctx, h, err)
	}
	if err := p.save(ctx, h, next, ops...); err != nil {
		return h.record, err
	}
	return next, nil
}

// List reads the channels of a payer's store without a driver, sorted by id.
func List(ctx context.Context, s Store) ([]channel.PayerRecord, error) {
	return (&Payer{cfg: Config{Store: s}}).Records(ctx)
}
