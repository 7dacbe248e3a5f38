package payer

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/watch"
)

// Cancel gives up a channel whose opening may have left but was never accepted, and
// returns the id of its T1, whose inputs the wallet may then spend elsewhere
// (wallet.Wallet.Cancel). It is saved that nothing of the channel leaves any more;
// it may be repeated. The payee may hold T1: the channel is watched on, is abandoned
// once the other spend is buried, and lives again where T1 is seen first: its refund
// is what remains then. A channel of which nothing has left is for Abandon.
// Errors: channel.ErrFinalized when the opening was accepted, T1 was broadcast here
// or is on the chain, or nothing has left; those of the chain.
func (p *Payer) Cancel(ctx context.Context, id string) (t1 chainhash.Hash, err error) {
	r, err := p.end(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		next := h.record
		if next.Phase != channel.Funding || next.Accepted || next.FundingSent {
			return next, nil, fmt.Errorf("%w: channel %s is %s", channel.ErrFinalized, id, next.Phase)
		}
		watch.Hint(p.cfg.Chain, wire.OutPoint(next.Terms.Outpoint), next.FundingTx)
		_, err := p.cfg.Chain.Tx(ctx, next.Terms.Outpoint.Hash)
		if err == nil {
			return next, nil, fmt.Errorf("%w: the funding of channel %s is on the network", channel.ErrFinalized, id)
		} else if !errors.Is(err, chain.ErrNotFound) {
			return next, nil, err
		}
		next.GivenUp = true
		return next, nil, nil
	})
	return r.Terms.Outpoint.Hash, err
}
