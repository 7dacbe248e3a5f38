package scenario

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// chains are the stories in which the chain is against somebody.
func chains() []Scenario {
	return []Scenario{
		{
			Name: "double-spent-funding", Honest: Payee, Channels: everyWay, play: doubleSpent,
			Title: "the payer spends the funding's coins again: a channel that is not confirmed buys nothing",
		},
		{
			Name: "reorg-of-funding", Honest: Both, Channels: everyWay, play: reorgFunding,
			Title: "the block with the funding is undone: deliveries wait, both sides send it again, and go on",
		},
		{
			Name: "reorg-of-settlement", Honest: Payee, Channels: everyWay, play: reorgSettlement,
			Title: "the blocks with the settlement are undone: it is sent again, and mined before the refund is valid",
		},
		{
			Name: "fee-spike-before-expiry", Honest: Payee, Channels: everyWay, play: feeSpike,
			Title: "fees rise thirtyfold as the margin begins: the settlement climbs until it is taken",
		},
		{
			Name: "fee-spike-after-close", Honest: Payee, Channels: everyWay, play: stuckClose,
			Title: "both have closed at yesterday's fee, and nobody mines it: the provider replaces it before the payer's refund can",
		},
		censorship(27),
	}
}

// censored is the name of a story with a number in it; N stands for 27.
var censored = regexp.MustCompile(`^censored-for-([1-9][0-9]?)-blocks$`)

// censorship is the story of so many blocks that leave the settlement out.
func censorship(blocks int) Scenario {
	return Scenario{
		Name: "censored-for-N-blocks", Honest: Payee, Channels: everyWay,
		play:  func(s *Stage) error { return censoredFor(s, blocks) },
		Title: fmt.Sprintf("miners leave the settlement out for N = %d blocks, and then a reorg of 6 undoes it: it is mined in time", blocks),
	}
}

// numbered finds a story whose name has a number in it.
func numbered(name string) (Scenario, bool) {
	m := censored.FindStringSubmatch(name)
	if m == nil {
		return Scenario{}, false
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n > int(channel.DefaultPolicy("regtest").Censorship) {
		return Scenario{}, false
	}
	sc := censorship(n)
	sc.Name = name
	return sc, true
}

func doubleSpent(s *Stage) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	s.tell("The payer opens a channel of %s. The provider sees the funding in its mempool, and it is in no block.", sat(d.terms.Capacity))
	var u channel.Update
	if err := s.payer.do("update", idArgs{ID: d.id, Sat: 3_000}, &u); err != nil {
		return err
	}
	if err := s.wait(); err != nil {
		return err
	}
	_, err = s.request(d, u)
	if !errors.Is(err, channel.ErrUnconfirmed) {
		return errors.Join(errors.New("a chunk was released over an unconfirmed funding"), err)
	}
	s.tell("The payer signs for %s and asks for a chunk. The provider takes the update and answers: %v.", sat(u.Amount), err)
	tx, err := s.payer.tx("double-spend", idArgs{ID: d.id, Sat: 1_000})
	if err != nil {
		return err
	}
	s.book.owns(Payer, tx.TxOut[d.terms.Outpoint.Index].PkScript)
	if err := s.broadcast(Payer, roleDoubleSpend, tx); err != nil {
		return err
	}
	s.tell("Then the payer spends the same coins to itself, at a higher fee. Nodes take it instead of the funding, and it is mined.")
	if err := s.pass(1, s.payee); err != nil {
		return err
	}
	if err := s.voided(d); err != nil {
		return err
	}
	if err := s.denied(d, channel.ErrUnconfirmed); err != nil {
		return err
	}
	if err := s.draw(); err != nil {
		return err
	}
	s.tell("However many updates the provider holds, they are worth nothing. It delivered nothing for them, and gives the channel up once the double spend is %d deep.", s.policy.Reorg)
	return s.bury(s.payee, s.payer)
}

func reorgFunding(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 3); err != nil {
		return err
	}
	s.tell("Three chunks are bought and paid. Then another branch of the chain wins, without the funding.")
	if err := s.unfund(d); err != nil {
		return err
	}
	if err := s.denied(d, channel.ErrUnconfirmed); err != nil {
		return err
	}
	s.tell("The channel stands, and its updates do; but they are money only over a confirmed funding, so nothing is delivered.")
	if err := s.again(d, s.payee); err != nil {
		return err
	}
	s.tell("The provider had saved the funding when it saw it. Its watch broadcasts it again, and it is mined; and then that is undone, too.")
	if err := s.unfund(d); err != nil {
		return err
	}
	if err := s.again(d, s.payer); err != nil {
		return err
	}
	s.tell("This time the provider is slow, and it is the payer's watch that broadcasts it.")
	if err := s.wait(); err != nil {
		return err
	}
	if err := s.look(s.payee); err != nil {
		return err
	}
	if err := s.buy(d, 2); err != nil {
		return err
	}
	s.tell("In the next block it is confirmed again, and all goes on. Two more chunks are bought, and the channel is closed.")
	if err := s.end(d); err != nil {
		return err
	}
	return s.bury(s.payee, s.payer)
}

// unfund undoes the block with a channel's funding, and no node remembers it.
func (s *Stage) unfund(d *deal) error {
	if err := s.reorg(1, d.funding.TxHash()); err != nil {
		return err
	}
	if err := s.event("~", "reorg"); err != nil {
		return err
	}
	return s.draw()
}

// again lets one side alone look at a chain that has forgotten the funding, and has
// what it broadcasts mined.
func (s *Stage) again(d *deal, who side) error {
	if err := s.look(who); err != nil {
		return err
	}
	if err := s.mine(1); err != nil {
		return err
	}
	info, err := s.chain.Tx(s.ctx, d.funding.TxHash())
	if err != nil {
		return fmt.Errorf("the funding was not sent again: %w", err)
	}
	s.want(info.Confirmed, "the funding is not mined again")
	return nil
}

// end closes a channel as honest sides do.
func (s *Stage) end(d *deal) error {
	if err := s.close(d); err != nil {
		return err
	}
	return s.event("c", "close agreed")
}

// settling opens a channel, buys n chunks, and goes to the margin, where the
// provider settles.
func (s *Stage) settling(n int) (*deal, error) {
	d, err := s.opened()
	if err != nil {
		return nil, err
	}
	if err := s.buy(d, n); err != nil {
		return nil, err
	}
	s.tell("%d chunks are bought and paid: %s. The payer is not heard of any more.", n, sat(d.paid()))
	if err := s.until(d.margin(), s.payee); err != nil {
		return nil, err
	}
	return d, nil
}

func reorgSettlement(s *Stage) error {
	d, err := s.settling(4)
	if err != nil {
		return err
	}
	if err := s.pass(int(s.policy.Reorg), s.payee); err != nil {
		return err
	}
	tx, err := s.ended(d)
	if err != nil || tx == nil {
		return errors.Join(errors.New("the settlement is not mined"), err)
	}
	s.tell("The provider settles at the margin; six blocks later its settlement is six deep, and that is not the end yet.")
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.unsettle(tx); err != nil {
		return err
	}
	if err := s.event("~", "reorg"); err != nil {
		return err
	}
	refund, err := s.payer.refund(d, 5*perVB)
	if err != nil {
		return err
	}
	reason, err := s.refused(Payer, roleRefund, refund, nonFinal)
	if err != nil {
		return err
	}
	s.tell("A branch of seven blocks wins over those six, and no node remembers the settlement. The payer tries its refund: %s.", reason)
	if err := s.look(s.payee); err != nil {
		return err
	}
	s.tell("The provider's watch sees an unspent output and sends the settlement again. The margin of %d blocks counts with that.", d.terms.Margin)
	return s.bury(s.payee)
}

// unsettle undoes as many blocks as the protocol says are survived, and no node
// remembers a transaction of theirs.
func (s *Stage) unsettle(tx *wire.MsgTx) error {
	return s.reorg(int(s.policy.Reorg), tx.TxHash())
}

// picky mines a block as a miner does that takes nothing below a rate: of what
// spends a channel it takes what pays enough.
func (s *Stage) picky(d *deal, least script.FeeRate) (took bool, err error) {
	spend, err := s.chain.Spend(s.ctx, wire.OutPoint(d.terms.Outpoint))
	if err != nil || spend == nil || spend.Confirmed {
		return false, errors.Join(err, s.censor())
	}
	info, err := s.chain.Tx(s.ctx, spend.Txid)
	if err != nil {
		return false, err
	}
	fee, err := s.fee(info.Tx)
	if err != nil {
		return false, err
	}
	if script.FeeRate(fee*1000/script.VSize(info.Tx)) < least {
		return false, s.censor()
	}
	return true, s.censor(info.Tx)
}

func feeSpike(s *Stage) error {
	const floor, estimate = 30 * perVB, 12 * perVB
	d, err := s.settling(20)
	if err != nil {
		return err
	}
	s.tell("At height %d the provider settles at 1 sat/vB. In that moment everybody wants into the chain.", d.margin())
	if err := s.rate(estimate); err != nil {
		return err
	}
	blocks, took := 0, false
	for ; !took && blocks < int(d.terms.Margin); blocks++ {
		if took, err = s.picky(d, floor); err != nil {
			return err
		}
		if err := s.look(s.payee); err != nil {
			return err
		}
	}
	if err := s.rate(0); err != nil {
		return err
	}
	if err := s.event("$", "spike over"); err != nil {
		return err
	}
	s.tell("Miners take nothing below %s, and the provider's node estimates %s. The nearer the deadline, the more its settlement pays; after %d blocks a miner takes it.", perByte(floor), perByte(estimate), blocks)
	return s.inTime(d)
}

func stuckClose(s *Stage) error {
	const floor, estimate = 10 * perVB, 8 * perVB
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 20); err != nil {
		return err
	}
	if err := s.end(d); err != nil {
		return err
	}
	s.tell("20 chunks are bought and paid: %s. Both sides close the channel at 1 sat/vB. Then fees rise, and nobody mines the close.", sat(d.paid()))
	if err := s.rate(estimate); err != nil {
		return err
	}
	for height := uint32(0); height < d.terms.Expiry; {
		if _, err := s.picky(d, floor); err != nil {
			return err
		}
		if err := s.look(s.payee); err != nil {
			return err
		}
		if height, err = s.height(); err != nil {
			return err
		}
	}
	tx, err := s.payer.refund(d, 20*perVB)
	if err != nil {
		return err
	}
	s.tell("Miners take nothing below %s. The provider has waited for its margin at most, and has settled what it holds, in the place of the close.", perByte(floor))
	reason, err := s.refused(Payer, roleRefund, tx, spent)
	if err != nil {
		return err
	}
	s.tell("At height %d the payer's refund is valid, and it would pay 20 sat/vB, more than the close. It comes too late: %s.", d.terms.Expiry, reason)
	if err := s.rate(0); err != nil {
		return err
	}
	return s.inTime(d)
}

// offered is the fee (sat) of what waits to end a channel.
func (s *Stage) offered(d *deal) (int64, error) {
	spend, err := s.chain.Spend(s.ctx, wire.OutPoint(d.terms.Outpoint))
	if err != nil {
		return 0, err
	}
	if spend == nil {
		return 0, errors.New("nothing waits to end the channel")
	}
	info, err := s.chain.Tx(s.ctx, spend.Txid)
	if err != nil {
		return 0, err
	}
	return s.fee(info.Tx)
}

// perByte writes a fee rate of whole satoshis for people.
func perByte(r script.FeeRate) string { return fmt.Sprintf("%d sat/vB", r/perVB) }

// inTime checks that a channel's end was mined while the refund could not be.
func (s *Stage) inTime(d *deal) error {
	if err := s.bury(s.payee); err != nil {
		return err
	}
	tx, err := s.ended(d)
	if err != nil || tx == nil {
		s.want(false, "nothing ended the channel")
		return err
	}
	info, err := s.chain.Tx(s.ctx, tx.TxHash())
	if err != nil {
		return err
	}
	s.want(info.Height <= d.terms.Expiry, "mined at height %d, after the expiry %d", info.Height, d.terms.Expiry)
	return nil
}

func censoredFor(s *Stage, blocks int) error {
	d, err := s.settling(20)
	if err != nil {
		return err
	}
	s.tell("At height %d the provider settles. Miners do not want that transaction, whatever it pays.", d.margin())
	for range blocks {
		if err := s.censor(); err != nil {
			return err
		}
		if err := s.look(s.payee); err != nil {
			return err
		}
	}
	if err := s.event("c", "censorship ends"); err != nil {
		return err
	}
	offered, err := s.offered(d)
	if err != nil {
		return err
	}
	s.tell("For %d blocks it is left out. The longer that takes, the more the provider offers, and never more than what is at stake: %s of %s by now.", blocks, sat(uint64(offered)), sat(d.paid()))
	if err := s.pass(int(s.policy.Reorg), s.payee); err != nil {
		return err
	}
	tx, err := s.ended(d)
	if err != nil || tx == nil {
		return errors.Join(errors.New("the settlement is not mined"), err)
	}
	s.tell("Then a miner takes it, and it is six deep; and then those six blocks are undone by a branch of seven, without it.")
	if err := s.unsettle(tx); err != nil {
		return err
	}
	if err := s.event("~", "reorg"); err != nil {
		return err
	}
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.look(s.payee); err != nil {
		return err
	}
	s.tell("It is sent again. A margin of %d blocks is %d of censorship, a reorg of %d, %d to react, and two: it is mined at a height where the refund is not valid.",
		d.terms.Margin, s.policy.Censorship, s.policy.Reorg, s.policy.Reaction)
	return s.inTime(d)
}
