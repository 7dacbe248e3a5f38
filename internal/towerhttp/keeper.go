package towerhttp

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch/tower"
)

// renew is after how many blocks a ladder is handed over again though nothing was
// paid: a tower may have lost it.
const renew = 144

// Payee is what a keeper asks of the payee's driver.
type Payee interface {
	Records(ctx context.Context) ([]channel.PayeeRecord, error)
	Rungs(ctx context.Context, id string, limit script.FeeRate) ([]payee.Rung, error)
	Pay(ctx context.Context, q payee.Request) (payee.Receipt, error)
}

// Keeper hands over a payee's ladders, again whenever enough was paid since. It
// starts no goroutine, and keeps in memory only what the tower has said: a new
// process hands everything over once more, which does no harm. It has one user at
// a time.
type Keeper struct {
	Payee Payee
	// HandOver gives a ladder to the tower; see Client.HandOver.
	HandOver func(ctx context.Context, h tower.Handoff) (tower.Taken, error)
	// Held asks what the tower holds; see Client.Held. A payee that was restored from an
	// old backup learns from it what it forgot: else it and its tower would outbid each
	// other with an older and a newer state. nil: nothing is asked.
	Held func(ctx context.Context) ([]Held, error)
	// Limit is the highest rung's rate; what is at stake limits it too.
	Limit script.FeeRate
	// Every is after how many blocks whatever was paid is handed over; default 6.
	Every uint32
	// Told hears of each ladder that the tower holds now. nil: nobody does.
	Told func(tower.Taken)

	marks map[string]Mark
	asked bool   // what the tower holds is known
	wait  uint32 // the tower would not tell at this tip
}

// Mark is what was handed over of a channel last.
type Mark struct {
	Amount  uint64 // sat; 0: nothing yet
	Epoch   uint32 // of what was handed over; duplex only
	Height  uint32 // the tip then
	Refused bool   // by the tower, or because no rung can be made of it
}

// newest is the newest of a payee's that can be settled.
func newest(r channel.PayeeRecord) channel.Update {
	if r.Duplex != nil {
		return r.Duplex.Held
	}
	return channel.Update{Amount: r.Paid}
}

// until is the height at which it has to be mined at the latest.
func until(r channel.PayeeRecord) uint32 {
	if u := newest(r); u.Epoch > 0 {
		if height, ok := r.Terms.Lock(u.Epoch - 1); ok {
			return height
		}
	}
	return r.Terms.Expiry
}

// update is what was handed over last.
func (m Mark) update() channel.Update { return channel.Update{Amount: m.Amount, Epoch: m.Epoch} }

// Due reports whether a channel's ladder is to be handed over: the first time that
// something was paid, when its newest state is of another epoch, when paid rose by a
// hundredth of the capacity or by the minimum charge, after every blocks and near the margin when it rose at all, and after a day
// in any case. One that was refused is tried again when more was paid, or with the
// next block. docs/protocol.md, "Watchtower".
func Due(r channel.PayeeRecord, last Mark, tip, every uint32) bool {
	u := newest(r)
	switch {
	case r.Phase.Final() || u.Amount == 0:
		return false
	case last.Refused:
		return u.Newer(last.update()) || tip > last.Height
	case last.Amount == 0 || u.Epoch > last.Epoch:
		return true
	case !u.Newer(last.update()):
		return tip >= last.Height+renew
	}
	enough := r.Terms.Capacity / 100
	if r.Terms.MinimumCharge > 0 {
		enough = min(enough, r.Terms.MinimumCharge)
	}
	near := uint64(tip)+uint64(every) >= uint64(until(r)-min(until(r), r.Terms.Margin))
	return u.Amount-last.Amount >= enough || tip >= last.Height+every || near
}

// Step hands over what is due at this tip; everything that rose where all is set. A
// refusal of one channel keeps no other from its turn; a tower that cannot be reached
// ends the step, and the next one tries again. Errors: joined refusals, ErrUnreachable.
func (k *Keeper) Step(ctx context.Context, tip uint32, all bool) error {
	var failed []error
	if err := k.learn(ctx, tip); errors.Is(err, ErrUnreachable) {
		return err
	} else if err != nil {
		failed = append(failed, err)
	}
	records, err := k.Payee.Records(ctx)
	if err != nil {
		return err
	}
	every := k.Every
	if every == 0 {
		every = 6
	}
	if all {
		every = 0
	}
	marks := make(map[string]Mark, len(records))
	for i, r := range records {
		id := r.Terms.ID()
		mark, known := k.marks[id]
		if Due(r, mark, tip, every) {
			next, err := k.one(ctx, r, tip)
			if errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
				for _, rest := range records[i:] { // keep what is known of the others
					if m, ok := k.marks[rest.Terms.ID()]; ok {
						marks[rest.Terms.ID()] = m
					}
				}
				k.marks = marks
				return errors.Join(append(failed, err)...)
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("channel %s: %w", id, err))
			}
			mark, known = next, true
		}
		if known && !r.Phase.Final() {
			marks[id] = mark
		}
	}
	k.marks = marks
	return errors.Join(failed...)
}

// one hands one channel's ladder over.
func (k *Keeper) one(ctx context.Context, r channel.PayeeRecord, tip uint32) (Mark, error) {
	u := newest(r)
	refused := Mark{Amount: u.Amount, Epoch: u.Epoch, Height: tip, Refused: true}
	rungs, err := k.Payee.Rungs(ctx, r.Terms.ID(), k.Limit)
	if errors.Is(err, channel.ErrTooSmall) || errors.Is(err, channel.ErrFinalized) {
		return refused, nil // nothing that a tower could settle, yet or any more
	} else if err != nil {
		return refused, err
	}
	txs := make([]*wire.MsgTx, len(rungs))
	for i, rung := range rungs {
		if txs[i], err = channel.DecodeTx(rung.Tx); err != nil {
			return refused, err
		}
	}
	h := tower.Handoff{Channel: r.Terms.Outpoint, Expiry: r.Terms.Expiry, Margin: r.Terms.Margin}
	if r.Duplex != nil {
		h.Step = r.Terms.Step
	}
	if h.Ladder, err = tower.Pack(txs); err != nil {
		return refused, err
	}
	taken, err := k.HandOver(ctx, h)
	if err != nil {
		return refused, err
	}
	given, has := handed(txs[0], r, rungs[0].Amount), channel.Update{Amount: uint64(max(taken.Amount, 0)), Epoch: taken.Epoch}
	if given.Newer(has) {
		return refused, &RefusedError{Problem{Code: "older", Detail: fmt.Sprintf("it holds %d sat in epoch %d, not %d in %d", has.Amount, has.Epoch, given.Amount, given.Epoch)}}
	}
	if has.Newer(given) {
		k.asked = false // it knows more than we do
	}
	if k.Told != nil {
		k.Told(taken)
	}
	return Mark{Amount: given.Amount, Epoch: given.Epoch, Height: tip}, nil
}

// handed is what a ladder is of: the state may be newer by now than the record was.
func handed(rung *wire.MsgTx, r channel.PayeeRecord, amount uint64) channel.Update {
	u := channel.Update{Amount: amount}
	if r.Duplex != nil {
		u.Epoch = (r.Terms.Expiry - rung.LockTime) / r.Terms.Step
	}
	return u
}

// learn takes the updates that the tower holds and the payee has forgotten, once, and
// again when the tower turns out to know more. Each is verified like one that the payer
// sends. Errors: joined refusals, ErrUnreachable.
func (k *Keeper) learn(ctx context.Context, tip uint32) error {
	if k.asked || k.Held == nil || k.wait > 0 && k.wait == tip {
		return nil
	}
	list, err := k.Held(ctx)
	if errors.Is(err, ErrRefused) {
		k.wait = tip // the next block is soon enough
	}
	if err != nil {
		return err
	}
	records, err := k.Payee.Records(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]channel.PayeeRecord, len(records))
	for _, r := range records {
		known[r.Terms.ID()] = r
	}
	var failed []error
	for _, h := range list {
		r, ok := known[h.Channel]
		if !ok || r.Phase.Final() || h.Amount <= 0 || !h.update().Newer(newest(r)) {
			continue
		}
		err := k.take(ctx, h)
		if err == nil {
			continue
		}
		err = fmt.Errorf("channel %s: the tower holds %d sat, we %d: %w", h.Channel, h.Amount, newest(r).Amount, err)
		if !hopeless(err) {
			return err // not its fault: asked again
		}
		failed = append(failed, err)
	}
	k.asked = true
	return errors.Join(failed...)
}

// hopeless reports whether an update is not taken however often it is shown.
func hopeless(err error) bool {
	for _, e := range []error{channel.ErrSignature, channel.ErrAmountExceeds, channel.ErrFinalized, channel.ErrTerms, channel.ErrExpiring} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// update is what the tower holds, without its signature.
func (h Held) update() channel.Update {
	return channel.Update{Amount: uint64(max(h.Amount, 0)), Epoch: h.Epoch}
}

// take takes the update that a tower holds. Errors: channel.ErrSignature where there is
// none, those of payee.Payee.Pay.
func (k *Keeper) take(ctx context.Context, h Held) error {
	for _, half := range h.Halves {
		u := h.update()
		u.Signature = half
		q := payee.Request{Channel: h.Channel, Update: &u}
		if _, err := k.Payee.Pay(ctx, q); !errors.Is(err, channel.ErrSignature) {
			return err
		}
	}
	return channel.ErrSignature
}
