// Package watch keeps channels in step with the chain. It is level triggered: at
// every step it looks at the chain as it is now, asks each channel's driver what
// is due, and lets the driver save and broadcast. A reorg, a restart or a missed
// block is no special case: the next look says what is true then.
//
// It starts no goroutine and reads no clock. It never signs and never stores.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// feeTarget is the confirmation target, in blocks, that fees are asked for.
const feeTarget = 3

// Chain is what is asked of a blockchain.
type Chain interface {
	Tip(ctx context.Context) (chain.Tip, error)
	Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error)
	Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error)
	FeeRate(ctx context.Context, blocks int) (script.FeeRate, error)
}

// Target is one channel to look at.
type Target struct {
	ID        string
	Outpoint  wire.OutPoint
	FundingTx []byte // T1 where it is known
	// Rest is the payer's rest script. With it a spend in the mempool is looked at more
	// closely: what it leaves to the payee, and what hangs on it.
	Rest []byte
}

// Driver is a side's driver: payer.Payer or payee.Payee.
type Driver interface {
	// Watched returns the channels that are not over; with an error, those it could read.
	Watched(ctx context.Context) ([]Target, error)
	// Due does what one channel needs in view of the chain. funding is T1 as
	// the chain showed it, nil when it is not seen.
	Due(ctx context.Context, id string, v channel.View, funding []byte) error
}

// Seen is a channel with what the chain says of it.
type Seen struct {
	ID      string
	View    channel.View
	Funding []byte // T1 as the chain showed it, nil when it is not seen
}

// Together is a driver that decides about all of its channels at once. Where it is one,
// it is asked instead of Due.
type Together interface {
	DueTogether(ctx context.Context, seen []Seen) error
}

// Watch steps through the channels of its drivers.
type Watch struct {
	Chain   Chain
	Drivers []Driver
	Log     *slog.Logger
	tip     chain.Tip
}

// Tip is the tip at the last step.
func (w *Watch) Tip() chain.Tip { return w.tip }

// Step looks at every channel once. A failure in one channel does not keep the
// others from their turn; all failures come back joined.
func (w *Watch) Step(ctx context.Context) error {
	tip, err := w.Chain.Tip(ctx)
	if err != nil {
		return err
	}
	w.tip = tip
	var failed []error
	for _, d := range w.Drivers {
		targets, err := d.Watched(ctx)
		if err != nil {
			failed = append(failed, err) // of some channels; the others came along
		}
		failed = append(failed, w.all(ctx, d, targets)...)
	}
	return errors.Join(failed...)
}

// all looks at a driver's channels, one after the other.
func (w *Watch) all(ctx context.Context, d Driver, targets []Target) (failed []error) {
	together, waits := d.(Together)
	var all []Seen
	for _, t := range targets {
		seen, err := w.one(ctx, t)
		if err == nil && !waits {
			err = d.Due(ctx, t.ID, seen.View, seen.Funding)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("channel %s: %w", t.ID, err))
			continue
		}
		all = append(all, seen)
	}
	if waits {
		failed = append(failed, together.DueTogether(ctx, all))
	}
	return failed
}

func (w *Watch) one(ctx context.Context, t Target) (Seen, error) {
	view, tx, err := LookAt(ctx, w.Chain, t)
	if err != nil {
		return Seen{}, err
	}
	seen := Seen{ID: t.ID, View: view}
	if tx != nil {
		seen.Funding, err = channel.EncodeTx(tx)
	}
	return seen, err
}

// Look asks the chain for a channel's view, and for T1 where it is seen. A tip
// that moves meanwhile is asked again, so that a view never mixes two tips.
func Look(ctx context.Context, c Chain, op wire.OutPoint, funding []byte) (v channel.View, t1 *wire.MsgTx, err error) {
	return LookAt(ctx, c, Target{Outpoint: op, FundingTx: funding})
}

// LookAt is Look with all that is known of the channel.
func LookAt(ctx context.Context, c Chain, t Target) (v channel.View, t1 *wire.MsgTx, err error) {
	Hint(c, t.Outpoint, t.FundingTx)
	for range 5 {
		before, err := c.Tip(ctx)
		if err != nil {
			return v, nil, err
		}
		if v, t1, err = look(ctx, c, t, before); err != nil {
			return v, nil, err
		}
		after, err := c.Tip(ctx)
		if err != nil {
			return v, nil, err
		}
		if after.Hash == before.Hash {
			return v, t1, nil
		}
	}
	return v, nil, fmt.Errorf("%w: the tip kept moving", chain.ErrUnavailable)
}

// Hint names the script of a channel's funding to a blockchain that finds T1, and what
// spends it, only by that: see chain.ScriptHinter. funding is T1, where it is known.
func Hint(c Chain, op wire.OutPoint, funding []byte) {
	h, ok := c.(chain.ScriptHinter)
	if !ok || len(funding) == 0 {
		return
	}
	tx, err := channel.DecodeTx(funding)
	if err != nil || int64(op.Index) >= int64(len(tx.TxOut)) {
		return // whoever needs T1 says what is wrong with it
	}
	h.HintScripts(tx.TxOut[op.Index].PkScript)
}

func look(ctx context.Context, c Chain, t Target, tip chain.Tip) (v channel.View, t1 *wire.MsgTx, err error) {
	v.Tip = tip.Height
	if v.Rate, err = c.FeeRate(ctx, feeTarget); err != nil {
		return v, nil, err
	}
	info, err := c.Tx(ctx, t.Outpoint.Hash)
	switch {
	case errors.Is(err, chain.ErrNotFound):
		v.Funding.ConflictDepth, err = conflict(ctx, c, t.Outpoint.Hash, t.FundingTx, tip)
		return v, nil, err
	case err != nil:
		return v, nil, err
	}
	v.Funding.Seen = true
	if info.Confirmed {
		v.Funding.Height = info.Height
	}
	spend, err := c.Spend(ctx, t.Outpoint)
	if err != nil || spend == nil {
		return v, info.Tx, err
	}
	if spend.Confirmed {
		v.Spend, err = mined(ctx, c, spend)
		return v, info.Tx, err
	}
	v.Spend, err = unconfirmed(ctx, c, t, spend, info.Tx)
	return v, info.Tx, err
}

// conflict is how deep a transaction is buried that spends one of T1's inputs
// elsewhere; 0: there is none in a block.
func conflict(ctx context.Context, c Chain, t1 chainhash.Hash, funding []byte, tip chain.Tip) (uint32, error) {
	if len(funding) == 0 {
		return 0, nil
	}
	tx, err := channel.DecodeTx(funding)
	if err != nil {
		return 0, err
	}
	var deepest uint32
	for _, in := range tx.TxIn {
		spend, err := c.Spend(ctx, in.PreviousOutPoint)
		if err != nil {
			return 0, err
		}
		if spend == nil || spend.Txid == t1 || !spend.Confirmed || spend.Height > tip.Height {
			continue
		}
		deepest = max(deepest, tip.Height-spend.Height+1)
	}
	return deepest, nil
}
