package main

import (
	"context"
	"errors"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/paywall"
)

// arrived looks for fundings that the other wallet sent by itself: of a channel whose
// signatures were never given here, or straight to an invitation's address. They are
// taken from the chain, and the channel goes on; done tells that one was found.
func (o *opener) arrived(ctx context.Context) (done bool, err error) {
	records, err := o.payer.Records(ctx)
	if err != nil {
		return false, err
	}
	for _, r := range records {
		if !o.here(r) || !r.Unsigned || r.Phase.Final() {
			continue
		}
		info, err := o.chain.Tx(ctx, r.Terms.Outpoint.Hash)
		if errors.Is(err, chain.ErrNotFound) {
			continue
		} else if err != nil {
			return false, err
		}
		o.app.out.say("Your wallet has sent the funding of channel %s by itself.", r.Terms.ID())
		return true, o.adopt(ctx, r.Terms.ID(), info.Tx)
	}
	return o.paid(ctx)
}

// adopt takes a funding that is on the network. Where the provider does not take the
// channel any more its money comes back with the refund.
func (o *opener) adopt(ctx context.Context, id string, tx *wire.MsgTx) error {
	err := o.client.Secure(ctx, id, paywall.Expect{})
	if err == nil {
		err = o.payer.TakeFunding(ctx, id, tx)
	}
	if err == nil {
		err = o.payer.Publish(ctx, id) // it is watched from here on, whatever the provider says
	}
	if err != nil {
		return err
	}
	return o.finish(ctx, id)
}

// paid looks for payments to addresses of invitations.
func (o *opener) paid(ctx context.Context) (done bool, err error) {
	all, err := o.payer.Invitations(ctx)
	if err != nil {
		return false, err
	}
	for _, v := range all {
		coins, err := o.chain.UTXOs(ctx, v.Script)
		if err != nil {
			return false, err
		}
		for _, c := range coins {
			info, err := o.chain.Tx(ctx, c.Outpoint.Hash)
			if err != nil {
				return false, err
			}
			if !c.Confirmed {
				o.app.out.say("A payment to the channel's address is on its way (%s). Run this command again when it is in a block.", c.Outpoint)
				continue
			}
			r, err := o.payer.Bind(ctx, v.Script, uint64(c.Value), info.Tx, nil)
			if err != nil {
				return false, err
			}
			o.app.out.say("%s was paid to the channel's address by %s.", money(uint64(c.Value)*1000), c.Outpoint.Hash)
			if !r.Terms.Cosigned() || o.client.Alive(r.Offer, true) == nil {
				return true, o.adopt(ctx, r.Terms.ID(), info.Tx)
			}
			return true, o.unsignedRefund(r)
		}
	}
	return false, nil
}

// unsignedRefund says what is left where the payee has to sign the refund of a channel
// that was paid before it was asked to.
func (o *opener) unsignedRefund(r channel.PayerRecord) error {
	return &failure{exit: exitRefused, code: "refund-unsigned", message: "channel " + r.Terms.ID() + " was funded before the provider had signed its refund, and the offer is over",
		money: "Its money can only be moved together with the provider.", next: "Keep the data folder, and ask the provider to sign a refund."}
}
