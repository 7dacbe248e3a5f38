package scenario

import (
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// batches are the stories of settlements that hold several channels. Of channels in
// P2SH with a rest only one fits into such a settlement, so none is told there.
func batches() []Scenario {
	return []Scenario{
		{
			Name: "one-payer-evicts-a-batch", Honest: Payee, Channels: []script.Construction{script.Taproot, script.Multisig, script.Duplex}, play: evictedBatch,
			Title: "three channels are settled in one transaction, and one payer's refund throws it out of every mempool",
		},
	}
}

// batchOf is the settlement that waits for a channel, and how many channels it holds.
func (s *Stage) batchOf(d *deal) (*wire.MsgTx, int, error) {
	spend, err := s.chain.Spend(s.ctx, wire.OutPoint(d.terms.Outpoint))
	if err != nil || spend == nil {
		return nil, 0, err
	}
	info, err := s.chain.Tx(s.ctx, spend.Txid)
	if err != nil {
		return nil, 0, err
	}
	return info.Tx, len(info.Tx.TxIn), nil
}

func evictedBatch(s *Stage) error {
	for range 3 {
		if _, err := s.open(); err != nil {
			return err
		}
	}
	if err := s.pass(1, s.payer, s.payee); err != nil {
		return err
	}
	first := s.channels[0]
	for _, d := range s.channels {
		if err := s.buy(d, 5); err != nil {
			return err
		}
	}
	s.tell("Three %s channels are opened in one block, with one expiry, %d, and five chunks are bought in each: %s in all.", s.kind, first.terms.Expiry, sat(3*first.paid()))
	if err := s.until(first.margin(), s.payee); err != nil {
		return err
	}
	tx, n, err := s.batchOf(first)
	if err != nil {
		return err
	}
	s.want(n == 3, "the settlement holds %d channels", n)
	fee, err := s.fee(tx)
	if err != nil {
		return err
	}
	s.tell("At height %d all three are due. The provider settles them in one transaction of %d vB with one payout instead of three, for %s.", first.margin(), script.VSize(tx), sat(uint64(fee)))
	if err := s.event("b", "batch sent"); err != nil {
		return err
	}
	refund, err := s.payer.refund(first, 6*perVB)
	if err != nil {
		return err
	}
	reason, err := s.refused(Payer, roleRefund, refund, nonFinal)
	if err != nil {
		return err
	}
	s.tell("The payer of the first channel would throw it out with its refund, at six times the rate. Before the expiry no node takes that: %s. Nor has anybody signed a close.", reason)
	if err := s.evict(first, refund); err != nil {
		return err
	}
	if err := s.payee.start(); err != nil {
		return err
	}
	if err := s.look(s.payee); err != nil {
		return err
	}
	for _, d := range s.channels {
		tx, n, err := s.batchOf(d)
		if err != nil {
			return err
		}
		s.want(n == 1 && tx.TxHash() != refund.TxHash(), "channel %s waits with %d others", d.id, n-1)
	}
	s.tell("%s is back, and at its first look, before another block, each channel is settled alone, the first of them at a rate that outbids the refund. From the expiry on nothing is settled together any more.", capital(s.payee.who()))
	return s.bury(s.payee)
}

// evict keeps the settlement out of the chain up to the expiry, with the provider
// away, and has the refund of one of its channels throw it out.
func (s *Stage) evict(first *deal, refund *wire.MsgTx) error {
	who := s.payee.who()
	if err := s.payee.fall(); err != nil {
		return err
	}
	for height := first.margin(); height < first.terms.Expiry; height++ {
		if err := s.censor(); err != nil {
			return err
		}
	}
	s.tell("Now the worst comes together: %s is killed, so that nobody raises the fee, and miners leave the settlement out up to the expiry.", who)
	if err := s.broadcast(Payer, roleRefund, refund); err != nil {
		return err
	}
	_, n, err := s.batchOf(s.channels[1])
	if err != nil {
		return err
	}
	s.want(n == 0, "the refund did not evict the settlement of the others")
	if err := s.event("!", "batch evicted"); err != nil {
		return err
	}
	if err := s.draw(); err != nil {
		return err
	}
	s.tell("At height %d the refund is valid, takes one channel back, and with it the settlement of all three is out of every mempool.", first.terms.Expiry)
	return nil
}
