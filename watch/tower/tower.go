// Package tower is a watchtower: it settles channels in the place of payees that
// are not there when it counts. It holds, for each channel, a ladder of completed
// settlements at rising fees that the provider handed over, and broadcasts the
// lowest rung that is accepted when a refund, an older state or the deadline is
// seen; it climbs as the deadline nears.
//
// It has no key and no coin, and can pay nobody but whom the rungs pay: the worst
// that it can do is to broadcast the dearest rung, or nothing. It starts no
// goroutine, reads no clock and no randomness, and knows nothing of HTTP; it never
// says that it holds a ladder before that is saved.
package tower

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/decoded"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/watch"
)

// Buckets of the store.
const (
	bucketProvider = "tower/provider" // name → provider
	bucketChannel  = "tower/channel"  // name/txid:vout → Entry
)

// Store is what a tower needs of a store.
type Store interface {
	Get(ctx context.Context, bucket, key string) (store.Entry, error)
	List(ctx context.Context, bucket, prefix string) ([]store.Entry, error)
	Commit(ctx context.Context, ops ...store.Op) error
}

// Chain is what a tower asks of a blockchain.
type Chain interface {
	Tip(ctx context.Context) (chain.Tip, error)
	Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error)
	Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error)
	Broadcast(ctx context.Context, tx *wire.MsgTx) error
}

// Config is what a Tower needs. Store and Chain must be set.
type Config struct {
	Store Store
	Chain Chain
	// Burial is the depth in blocks at which a spend is final and the channel is
	// forgotten; default 7, one more than the deepest reorg that is survived.
	Burial uint32
	// MaxChannels and MaxBytes are what one provider may store at once; defaults
	// 10,000 channels and 64 MiB.
	MaxChannels int
	MaxBytes    int64
	// MaxAhead is how many blocks an expiry may be away; default 52,560, a year.
	MaxAhead uint32
	// Notify is told what happens; it must return soon. nil: nobody is.
	Notify func(Event)
	Log    *slog.Logger
}

// Event is something that a tower did.
type Event struct {
	Kind     string // "ladder" taken, "rung" broadcast and accepted, "done" forgotten
	Provider string
	Channel  string
	Amount   int64  // sat, what the ladder claims before its fee
	Epoch    uint32 // of the ladder; 0 in a channel that is not duplex
	Rung     int    // of "rung": its place in the ladder
	Rungs    int    // how many there are
	Txid     string // of "rung", and of "done" where something spent the channel
	Fee      int64  // sat, of "rung"
	Height   uint32 // the tip
	Why      Reason // of "rung"
}

// Tower is the driver; it is a watch.Driver. Its methods may be called from many
// goroutines.
type Tower struct {
	cfg   Config
	known decoded.Values[Entry] // entries as they were read

	mu    sync.Mutex
	told  map[string]string // by entry, what was told of it last
	tried map[string]string // by entry, the look at the chain for which all was refused
}

// New checks the configuration.
func New(cfg Config) (*Tower, error) {
	if cfg.Store == nil || cfg.Chain == nil {
		return nil, errors.New("tower: a store and a chain are needed")
	}
	if cfg.Burial == 0 {
		cfg.Burial = 7
	}
	if cfg.MaxChannels <= 0 {
		cfg.MaxChannels = 10_000
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.MaxAhead == 0 {
		cfg.MaxAhead = 52_560
	}
	if cfg.Notify == nil {
		cfg.Notify = func(Event) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Tower{cfg: cfg, told: map[string]string{}, tried: map[string]string{}}, nil
}

// Watched implements watch.Driver. An entry that is damaged is listed by its name
// alone, so that Due tells of it and all others have their turn.
func (t *Tower) Watched(ctx context.Context) ([]watch.Target, error) {
	stored, err := t.cfg.Store.List(ctx, bucketChannel, "")
	if err != nil {
		return nil, err
	}
	targets := make([]watch.Target, len(stored))
	for i, s := range stored {
		targets[i].ID = s.Key
		if e, err := t.decode(s); err == nil {
			targets[i].Outpoint, targets[i].FundingTx, targets[i].Rest = wire.OutPoint(e.Channel), e.Funding, e.Rest
		}
	}
	return targets, nil
}

// Entries returns the channels of a provider, or of all where name is empty, sorted
// by provider and channel.
func (t *Tower) Entries(ctx context.Context, provider string) ([]Entry, error) {
	prefix := ""
	if provider != "" {
		prefix = provider + "/"
	}
	stored, err := t.cfg.Store.List(ctx, bucketChannel, prefix)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(stored))
	for i, s := range stored {
		if entries[i], err = t.decode(s); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func (t *Tower) decode(s store.Entry) (e Entry, err error) {
	if e, ok := t.known.Get(s.Key, s.Revision); ok {
		return e, nil
	}
	if err := json.Unmarshal(s.Value, &e); err != nil {
		return e, fmt.Errorf("%w: channel %s: %v", store.ErrDamaged, s.Key, err)
	}
	if rungs, err := e.Ladder.Unpack(); err != nil || len(rungs) != len(e.Rungs) || e.id() != s.Key {
		return e, fmt.Errorf("%w: channel %s: not what was saved (%v)", store.ErrDamaged, s.Key, err)
	}
	t.known.Put(s.Key, s.Revision, e)
	return e, nil
}

// get reads an entry. Errors: store.ErrNotFound.
func (t *Tower) get(ctx context.Context, id string) (e Entry, revision uint64, size int, err error) {
	s, err := t.cfg.Store.Get(ctx, bucketChannel, id)
	if err != nil {
		return e, 0, 0, err
	}
	e, err = t.decode(s)
	return e, s.Revision, len(s.Value), err
}

// Due implements watch.Driver: it does what Decide says for one channel.
func (t *Tower) Due(ctx context.Context, id string, v channel.View, _ []byte) error {
	e, _, _, err := t.get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil // forgotten meanwhile
	} else if err != nil {
		return err
	}
	view, err := t.view(ctx, e, v)
	if err != nil {
		return err
	}
	d := Decide(e, view, t.cfg.Burial)
	switch d.Do {
	case Wait:
		return nil
	case Forget:
		return t.forget(ctx, e, v)
	}
	look := fmt.Sprint(d, v.Tip, v.Spend)
	if v.Spend != nil {
		look = fmt.Sprint(d, v.Tip, *v.Spend)
	}
	if t.vain(id, look) {
		return nil
	}
	accepted := false
	if d.Do == Climb {
		accepted, err = t.climb(ctx, e, d, v.Tip)
	} else {
		accepted, err = t.sendFunding(ctx, e)
	}
	if err == nil && !accepted {
		t.note(t.tried, id, look)
	}
	return err
}

// vain reports whether everything was refused already as the chain stands: it is
// tried again with the next block, or when something else spends the channel, so that
// a ladder that no node takes holds up no other one.
func (t *Tower) vain(id, look string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tried[id] == look
}

func (t *Tower) sendFunding(ctx context.Context, e Entry) (accepted bool, err error) {
	tx, err := channel.DecodeTx(e.Funding)
	if err != nil {
		return false, err
	}
	return t.send(ctx, e, tx)
}

// view adds what an unconfirmed spend leaves to the payee.
func (t *Tower) view(ctx context.Context, e Entry, v channel.View) (View, error) {
	view := View{View: v, Leaves: e.Capacity}
	if v.Spend == nil || v.Spend.Height > 0 || e.rung(v.Spend.Txid) >= 0 {
		return view, nil
	}
	if v.Spend.Lock == math.MaxUint32 { // the channel's keys have not signed what is shown: see package watch
		view.Leaves = 0
		return view, nil
	}
	at := wire.OutPoint(e.Channel)
	spend, err := t.cfg.Chain.Spend(ctx, at)
	if err != nil {
		return view, err
	}
	if spend == nil || spend.Confirmed || spend.Txid.String() != v.Spend.Txid {
		return view, nil // something else by now: the next step sees it
	}
	info, err := t.cfg.Chain.Tx(ctx, spend.Txid)
	if errors.Is(err, chain.ErrNotFound) {
		return view, nil
	} else if err != nil {
		return view, err
	}
	view.Leaves = e.leaves(info.Tx, spend.Vin)
	return view, nil
}

// climb broadcasts the lowest rung from d.From on that is accepted.
func (t *Tower) climb(ctx context.Context, e Entry, d Decision, tip uint32) (accepted bool, err error) {
	rungs, err := e.Ladder.Unpack()
	if err != nil {
		return false, err
	}
	for i := d.From; i < len(rungs); i++ {
		if accepted, err = t.send(ctx, e, rungs[i]); err != nil {
			return false, err
		} else if accepted {
			t.climbed(e, i, d.Why, tip)
			return true, nil
		}
	}
	return false, nil
}

// climbed tells of a rung that was accepted, once for each block.
func (t *Tower) climbed(e Entry, i int, why Reason, tip uint32) {
	r := e.Rungs[i]
	if !t.note(t.told, e.id(), fmt.Sprint(r.Txid, tip)) {
		return
	}
	t.cfg.Log.Info("rung", "provider", e.Provider, "channel", e.Channel, "rung", i, "of", len(e.Rungs), "txid", r.Txid,
		"fee_sat", r.Fee, "height", tip, "reason", why)
	t.cfg.Notify(Event{Kind: "rung", Provider: e.Provider, Channel: e.Channel.String(), Amount: e.Amount, Epoch: e.Epoch(), Rung: i, Rungs: len(e.Rungs),
		Txid: r.Txid, Fee: r.Fee, Height: tip, Why: why})
}

// send broadcasts a transaction; a refusal by the node is no error.
func (t *Tower) send(ctx context.Context, e Entry, tx *wire.MsgTx) (accepted bool, err error) {
	err = t.cfg.Chain.Broadcast(ctx, tx)
	if errors.Is(err, chain.ErrRejected) {
		if t.note(t.told, e.id(), tx.TxHash().String()+err.Error()) {
			t.cfg.Log.Warn("a broadcast was refused", "provider", e.Provider, "channel", e.Channel, "txid", tx.TxHash(), "reason", err)
		}
		return false, nil
	}
	return err == nil, err
}

// note notes a text for an entry and reports whether it is another one than before; an
// empty one forgets.
func (t *Tower) note(in map[string]string, id, text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in[id] == text {
		return false
	}
	if in[id] = text; text == "" {
		delete(in, id)
	}
	return true
}

// rate is a rung's fee rate, as it is told.
func (r Rung) rate() script.FeeRate { return script.FeeRate(r.Fee * 1000 / max(r.VSize, 1)) }
