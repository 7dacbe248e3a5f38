package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// hand is the story's hold on one side: who plays it now, if anybody does.
type hand struct {
	stage *Stage
	side  Side
	actor actor // nil: it is down
}

// start has the side begin on what its disk holds; every start is another process.
func (h *hand) start() (err error) {
	if h.actor != nil {
		if err := h.fall(); err != nil {
			return err
		}
	}
	p := h.stage.part()
	p.Role = h.side
	if h.actor, err = h.stage.cast.start(h.stage.ctx, p); err != nil {
		h.actor = nil
		return err
	}
	h.stage.began(h.side, h.actor)
	return nil
}

// fall ends the side without warning.
func (h *hand) fall() error {
	a := h.actor
	h.actor = nil
	return a.kill()
}

// crashed makes sure that the side died where it was told to.
func (h *hand) crashed(err error) error {
	if err == nil || !h.actor.died() {
		return errors.Join(fmt.Errorf("the %s did not crash", person(h.side)), err)
	}
	return nil
}

func (h *hand) order(ctx context.Context, do string, args, result any) error {
	if h.actor == nil {
		return fmt.Errorf("%w: the %s is down", chain.ErrUnavailable, h.side)
	}
	return h.actor.order(ctx, do, args, result)
}

func (h *hand) do(do string, args, result any) error {
	return h.order(h.stage.ctx, do, args, result)
}

// look has the side look at the chain once; one that is down sees nothing.
func (h *hand) look() error {
	if h.actor == nil {
		return nil
	}
	return h.do("look", nil, nil)
}

// who names the side, with its process where it has one.
func (h *hand) who() string {
	name := "the " + person(h.side)
	if h.actor != nil && h.actor.pid() != 0 {
		name += fmt.Sprintf(" (process %d)", h.actor.pid())
	}
	return name
}

// capital begins a sentence.
func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// person is what people call a side.
func person(s Side) string {
	if s == Payee {
		return "provider"
	}
	return string(s)
}

// buyerHand is the hold on the payer.
type buyerHand struct{ hand }

// Record is the payer's record of a channel.
func (b *buyerHand) Record(ctx context.Context, id string) (r channel.PayerRecord, err error) {
	err = b.order(ctx, "record", id, &r)
	return r, err
}

// Newest is the payer's newest update.
func (b *buyerHand) Newest(ctx context.Context, id string) (u channel.Update, err error) {
	err = b.order(ctx, "newest", id, &u)
	return u, err
}

// address is a script of the payer's wallet.
func (b *buyerHand) address() ([]byte, error) {
	var pk channel.Hex
	err := b.do("address", nil, &pk)
	b.stage.book.owns(Payer, pk)
	return pk, err
}

// refund is T2, completed by the payer whatever the height is.
func (b *buyerHand) refund(d *deal, rate script.FeeRate) (*wire.MsgTx, error) {
	return b.tx("refund", idArgs{ID: d.id, Rate: rate})
}

// tx is an order that is answered with a transaction.
func (h *hand) tx(do string, args any) (*wire.MsgTx, error) {
	var raw channel.Hex
	if err := h.do(do, args, &raw); err != nil {
		return nil, err
	}
	return channel.DecodeTx(raw)
}

// sellerHand is the hold on the provider.
type sellerHand struct{ hand }

// Record is the provider's record of a channel.
func (p *sellerHand) Record(ctx context.Context, id string) (r channel.PayeeRecord, err error) {
	err = p.order(ctx, "record", id, &r)
	return r, err
}
