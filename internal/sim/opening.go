package sim

import (
	"errors"
	"slices"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/paywall"
)

// reopen goes on with an opening that did not come to its end.
func (b *buyer) reopen(r channel.PayerRecord) {
	id := r.Terms.ID()
	err := b.client.Reopen(b.w.ctx, id, "", b.expect(), nil)
	b.w.tell("%s goes on opening %.12s: %v", b.name, id, err)
	switch {
	case err == nil:
		b.use(id)
	case b.w.last && b.w.vanished && r.Phase == channel.Prepared && b.payer.Abandon(b.w.ctx, id) == nil:
	case b.w.last && b.w.vanished:
		b.giveUp(r)
	case errors.Is(err, paywall.ErrUnreachable), errors.Is(err, errNap), errors.Is(err, errKilled), errors.Is(err, paywall.ErrUnconfirmed):
	case r.Phase == channel.Prepared && b.payer.Abandon(b.w.ctx, id) == nil:
		b.w.tell("%s gives %.12s up before anything left", b.name, id)
	case errors.Is(err, paywall.ErrRefused), errors.Is(err, paywall.ErrGone), errors.Is(err, paywall.ErrExpiring),
		errors.Is(err, paywall.ErrMisbehaved) && (b.w.story.payee == "lies" || b.w.last), errors.Is(err, paywall.ErrOfferOver),
		errors.Is(err, channel.ErrTerms), errors.Is(err, chain.ErrRejected):
		b.giveUp(r)
	}
}

// giveUp frees the coin of an opening that is not accepted: an input of the
// unconfirmed T1 is spent elsewhere. Where T1 confirms first, the refund brings
// the money back.
func (b *buyer) giveUp(r channel.PayerRecord) {
	id := r.Terms.ID()
	j := *b.job
	j.Left, j.GivenUp = append(slices.Clone(j.Left), id), append(slices.Clone(j.GivenUp), id)
	if b.save(j) {
		b.w.tell("%s gives %.12s up and spends its coin elsewhere: %v", b.name, id, b.free(r))
	}
}

// free spends an input of the T1 of an opening that was given up.
func (b *buyer) free(r channel.PayerRecord) error {
	t1, err := channel.DecodeTx(r.FundingTx)
	if err != nil {
		b.w.violate("a funding transaction was saved that is none: %v", err)
		return err
	}
	tx := t1.Copy()
	tx.TxOut[0].PkScript = anybodyScript
	tx.TxOut[0].Value -= tx.TxOut[0].Value / 4 // dearer than T1, if that is in the mempool
	return b.w.chain.Broadcast(b.w.ctx, tx)
}

// freeAgain sends again what frees the coins of openings that were given up, like
// every wallet does with what is not mined.
func (b *buyer) freeAgain() {
	if err := b.load(); err != nil {
		return // it stops here, and is started again before the next event
	}
	for _, id := range b.job.GivenUp {
		r, err := b.payer.Record(b.w.ctx, id)
		if err != nil || r.Phase.Final() {
			continue
		}
		if err := b.free(r); err != nil && !errors.Is(err, chain.ErrRejected) {
			b.w.violate("the chain does not answer: %v", err)
		}
	}
}
