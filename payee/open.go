package payee

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// Prepare is the payee's step 4 of opening a multisig channel: it checks the
// unsigned refund and signs it, deterministically, so that nothing is stored and
// a retry gets the same answer. op carries no update yet.
// Errors: channel.ErrTerms, channel.ErrConflict, channel.ErrUnsupported.
func (p *Payee) Prepare(ctx context.Context, o channel.Offer, op channel.Opening, refund []byte) (channel.Hex, error) {
	if !(channel.Terms{Construction: op.Construction}).Cosigned() {
		return nil, fmt.Errorf("%w: %s", channel.ErrUnsupported, op.Construction)
	}
	t, ch, err := o.Terms(op, p.cfg.Policy)
	if err != nil {
		return nil, err
	}
	tip, err := p.cfg.Chain.Tip(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.TimeLeft(tip.Height, p.cfg.Policy); err != nil {
		return nil, err
	}
	if err := p.unused(ctx, t); err != nil {
		return nil, err
	}
	tx, err := channel.DecodeTx(refund)
	if err != nil {
		return nil, err
	}
	if err := ch.CheckRefundRequest(tx); err != nil {
		return nil, fmt.Errorf("%w: %w", channel.ErrTerms, err)
	}
	key, err := p.cfg.Keys.PayeeChannelKey(t.Nonce)
	if err != nil {
		return nil, err
	}
	return ch.SignRefund(key)
}

// unused refuses a K2 or an outpoint that belongs to a channel already.
func (p *Payee) unused(ctx context.Context, t channel.Terms) error {
	if _, err := p.cfg.Store.Get(ctx, bucketChannel, t.ID()); err == nil {
		return fmt.Errorf("%w: %s", channel.ErrConflict, t.ID())
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if _, err := p.cfg.Store.Get(ctx, bucketKey, t.PayeeKey.String()); err == nil {
		return fmt.Errorf("%w: the payee's key has been used", channel.ErrConflict)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// Opened is the answer to an opening.
type Opened struct {
	Record channel.PayeeRecord
	Depth  uint32 // confirmations of T1 now
	Repeat bool   // the opening was known
}

// Open takes an opening on an offer of this payee (the caller has checked that
// the offer is its own). T1, where it came along, is broadcast after everything
// else was checked; the channel is stored only once T1 is seen.
// Errors: those of channel.Offer.Open; chain.ErrRejected when T1 is refused; ErrBusy.
func (p *Payee) Open(ctx context.Context, o channel.Offer, op channel.Opening) (Opened, error) {
	return p.open(ctx, o, op, false)
}

// open is Open, and OpenRestored.
func (p *Payee) open(ctx context.Context, o channel.Offer, op channel.Opening, restored bool) (Opened, error) {
	t, ch, err := o.Terms(op, p.cfg.Policy)
	if err != nil {
		return Opened{}, err
	}
	defer p.locks.Lock(t.ID())()
	digest, err := digestOf(o, op)
	if err != nil {
		return Opened{}, err
	}
	if again, err := p.repeated(ctx, t, digest); again != nil || err != nil {
		return p.reopened(ctx, again, err)
	}
	if err := p.unused(ctx, t); err != nil {
		return Opened{}, err
	}
	if err := p.verify(t, ch, op.Update); err != nil {
		return Opened{}, err
	}
	if err := p.inTime(ctx, t, restored); err != nil {
		return Opened{}, err
	}
	if err := p.publish(ctx, t, ch, op); err != nil {
		return Opened{}, err
	}
	view, out, err := p.look(ctx, t, nil)
	if err != nil {
		return Opened{}, err
	}
	rule := o.Open
	if restored {
		rule = o.OpenRestored
	}
	r, err := rule(op, p.cfg.Policy, view, out)
	if err != nil {
		return Opened{}, err
	}
	left, err := p.enter(ctx, r)
	if err != nil {
		return Opened{}, err
	}
	defer left()
	r.Digest = digest
	return p.store(ctx, r, view)
}

// inTime refuses an opening that comes too late, before its T1 is broadcast here.
func (p *Payee) inTime(ctx context.Context, t channel.Terms, restored bool) error {
	tip, err := p.cfg.Chain.Tip(ctx)
	if err != nil || restored && tip.Height < t.Expiry {
		return err
	}
	return t.TimeLeft(tip.Height, p.cfg.Policy)
}

// store saves a new channel and its place in the pool in one commit.
func (p *Payee) store(ctx context.Context, r channel.PayeeRecord, view channel.View) (Opened, error) {
	r.NewcomerAbove = freshAbove(view.Rate)
	id := r.Terms.ID()
	ops := []store.Op{{Bucket: bucketKey, Key: r.Terms.PayeeKey.String(), Value: []byte(id)}}
	if r.Terms.Credit > r.NewcomerAbove && !r.Restored {
		p.pool.Lock()
		defer p.pool.Unlock()
		op, err := p.reserve(ctx, &r, view)
		if err != nil {
			return Opened{}, err
		}
		ops = append(ops, op)
	}
	if err := p.begins(&r); err != nil {
		return Opened{}, err
	}
	value, err := json.Marshal(r)
	if err != nil {
		return Opened{}, err
	}
	ops = append(ops, store.Op{Bucket: bucketChannel, Key: id, Value: value})
	events, err := p.beside(nil, r)
	if err != nil {
		return Opened{}, fmt.Errorf("channel %s was not saved: %w", id, err)
	}
	ops = append(ops, events...)
	if err := p.cfg.Store.Commit(ctx, ops...); errors.Is(err, store.ErrConflict) {
		return Opened{}, fmt.Errorf("%w: another opening took its key first: %w", channel.ErrConflict, err)
	} else if err != nil {
		return Opened{}, fmt.Errorf("channel %s was not saved: %w", id, err)
	}
	p.observe(id, view)
	p.saved(nil, r)
	p.cfg.Log.Info("channel opened", "channel", id, "capacity_sat", r.Terms.Capacity, "phase", r.Phase)
	return Opened{Record: r, Depth: view.Depth()}, nil
}

// reserve takes a newcomer's place of one chunk, where there is room.
func (p *Payee) reserve(ctx context.Context, r *channel.PayeeRecord, view channel.View) (store.Op, error) {
	pool, rev, err := p.readPool(ctx)
	if err != nil {
		return store.Op{}, err
	}
	now := p.cfg.Now().Unix()
	next, has := pool.At(view.Tip, now).Reserve(r.Terms.ID(), r.Terms.Credit, now)
	r.Place = has
	return poolOp(next, pool, rev)
}

// repeated returns the stored channel of a repeated opening; other content is refused.
func (p *Payee) repeated(ctx context.Context, t channel.Terms, digest channel.Hex) (*held, error) {
	h, err := p.read(ctx, t.ID())
	if errors.Is(err, ErrUnknown) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if string(h.record.Digest) != string(digest) {
		return nil, fmt.Errorf("%w: %s", channel.ErrConflict, t.ID())
	}
	return h, nil
}

func (p *Payee) reopened(ctx context.Context, h *held, err error) (Opened, error) {
	if err != nil {
		return Opened{}, err
	}
	view, err := p.view(ctx, h)
	if err != nil {
		return Opened{}, err
	}
	return Opened{Record: h.record, Depth: view.Depth(), Repeat: true}, nil
}

// publish checks T1, where it came with the opening, and broadcasts it.
func (p *Payee) publish(ctx context.Context, t channel.Terms, ch *script.Channel, op channel.Opening) error {
	if len(op.FundingTx) == 0 {
		return nil
	}
	tx, err := channel.DecodeTx(op.FundingTx)
	if err != nil {
		return err
	}
	at := wire.OutPoint(t.Outpoint)
	if tx.TxHash() != at.Hash || int(at.Index) >= len(tx.TxOut) {
		return fmt.Errorf("%w: the funding transaction is not %s", channel.ErrTerms, t.Outpoint)
	}
	out := tx.TxOut[at.Index]
	if out.Value != int64(t.Capacity) || string(out.PkScript) != string(ch.OutputScript()) {
		return fmt.Errorf("%w: the funding transaction does not pay %d sat to these keys", channel.ErrTerms, t.Capacity)
	}
	if err := p.cfg.Chain.Broadcast(ctx, tx); err != nil && !errors.Is(err, chain.ErrUnavailable) {
		return fmt.Errorf("the funding transaction was refused: %w", err)
	} else if err != nil {
		return err
	}
	return nil
}

// digestOf names the content of an opening: a repeat must have the same.
func digestOf(o channel.Offer, op channel.Opening) (channel.Hex, error) {
	op.FundingTx = nil // its id is in the outpoint
	raw, err := json.Marshal(struct {
		O channel.Offer
		C channel.Opening
	}{o, op})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	return sum[:], nil
}

// readPool reads the newcomers' pool, sized for what is on sale now.
func (p *Payee) readPool(ctx context.Context) (channel.Pool, uint64, error) {
	size := p.cfg.Policy.PoolChunks * min(p.cfg.Dearest(), channel.MaxSat*10)
	e, err := p.cfg.Store.Get(ctx, bucketPool, "pool")
	if errors.Is(err, store.ErrNotFound) {
		return channel.Pool{Size: size}, 0, nil
	} else if err != nil {
		return channel.Pool{}, 0, err
	}
	var pool channel.Pool
	if err := json.Unmarshal(e.Value, &pool); err != nil {
		return pool, 0, fmt.Errorf("%w: the pool: %v", store.ErrDamaged, err)
	}
	pool.Size, pool.Places = size, maps.Clone(pool.Places)
	return pool, e.Revision, nil
}

// poolOp saves the pool, where the invariants hold; old is what it was made from.
// Errors: channel.ErrInvariant.
func poolOp(pool, old channel.Pool, rev uint64) (store.Op, error) {
	if err := pool.Sound(old); err != nil {
		return store.Op{}, err
	}
	value, err := json.Marshal(pool)
	return store.Op{Bucket: bucketPool, Key: "pool", Value: value, Expect: rev}, err
}
