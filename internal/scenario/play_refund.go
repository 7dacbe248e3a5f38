package scenario

import (
	"github.com/spillway/spillway/channel"
)

// refunds are the stories in which the payer wants everything back.
func refunds() []Scenario {
	return []Scenario{
		{
			Name: "payer-broadcasts-refund-early", Honest: Payee, Channels: everyWay, play: refundEarly,
			Title: "the payer broadcasts its refund before its time: no node and no miner takes it, and the provider settles",
		},
		{
			Name: "payer-races-refund-at-expiry", Honest: Payee, Channels: everyWay, play: refundRace,
			Title: "the provider almost sleeps through its margin, and the payer's refund is ready at the first moment",
		},
	}
}

func refundEarly(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 4); err != nil {
		return err
	}
	s.tell("Four chunks are bought and paid: %s. Now the payer wants all of it back, and signs its refund.", sat(d.paid()))
	tx, err := s.payer.refund(d, 2*perVB)
	if err != nil {
		return err
	}
	reason, err := s.refused(Payer, roleRefund, tx, nonFinal)
	if err != nil {
		return err
	}
	s.tell("The chain says: %s. Its lock is height %d.", reason, d.terms.Expiry)
	if err := s.unminable(tx); err != nil {
		return err
	}
	s.tell("It bribes a miner. A block with that refund breaks a consensus rule: no node follows it.")
	if err := s.show(tx); err != nil {
		return err
	}
	if err := s.event("!", "refund seen"); err != nil {
		return err
	}
	if err := s.denied(d, channel.ErrExpiring); err != nil {
		return err
	}
	s.tell("The provider's own node relays what cannot be mined yet, and shows it the refund. From that moment on nothing is delivered.")
	if err := s.look(s.payee); err != nil {
		return err
	}
	r, err := s.payee.Record(s.ctx, d.id)
	if err != nil {
		return err
	}
	s.want(r.Phase == channel.Settling && r.Reason == channel.SpendSeen, "the provider saw the refund, and its channel is %s (%s)", r.Phase, r.Reason)
	if lock := d.lock(); lock > 0 {
		s.tell("Its half-signature is valid from height %d on; it waits for that, and settles before the refund is.", lock)
		if err := s.until(lock, s.payee); err != nil {
			return err
		}
	} else {
		s.tell("It settles at once, at a rate that would replace the refund wherever that is.")
	}
	if err := s.draw(); err != nil {
		return err
	}
	return s.bury(s.payee)
}

func refundRace(s *Stage) error {
	first, err := s.opened()
	if err != nil {
		return err
	}
	second, err := s.opened() // a block later, so its expiry is too
	if err != nil {
		return err
	}
	for _, d := range s.channels {
		if err := s.buy(d, 5); err != nil {
			return err
		}
	}
	return s.raceAtExpiry(first, second)
}

// raceAtExpiry has the provider away until the first of two channels can be refunded,
// and the second one a block later.
func (s *Stage) raceAtExpiry(first, second *deal) error {
	who := s.payee.who()
	if err := s.payee.fall(); err != nil {
		return err
	}
	s.tell("The payer buys five chunks in each of two channels. Then %s is killed, and stays away through its whole margin.", who)
	if err := s.event("x", "provider down"); err != nil {
		return err
	}
	if err := s.until(first.terms.Expiry); err != nil {
		return err
	}
	tx, err := s.payer.refund(first, 2*perVB)
	if err != nil {
		return err
	}
	if err := s.broadcast(Payer, roleRefund, tx); err != nil {
		return err
	}
	early, err := s.payer.refund(second, 2*perVB)
	if err != nil {
		return err
	}
	reason, err := s.refused(Payer, roleRefund, early, nonFinal)
	if err != nil {
		return err
	}
	s.tell("At height %d the first channel's refund is valid, and the payer has it in every mempool. The second one's is not, for a block yet: %s.", first.terms.Expiry, reason)
	if err := s.payee.start(); err != nil {
		return err
	}
	if err := s.event("o", "provider back"); err != nil {
		return err
	}
	if err := s.look(s.payee); err != nil {
		return err
	}
	s.tell("At that moment %s is back, on the same folder. In the second channel it is in time: what is mined up to the expiry is safe. In the first one it is a race by fees, and it pays more than the refund does. Nobody promises that it wins there: the margin is what keeps a provider out of such races.", s.payee.who())
	if err := s.mine(1); err != nil {
		return err
	}
	late, err := s.payer.refund(second, 50*perVB)
	if err != nil {
		return err
	}
	if reason, err = s.refused(Payer, roleRefund, late, spent); err != nil {
		return err
	}
	s.tell("A block later the payer offers 50 sat/vB for the second refund. It is too late: %s.", reason)
	return s.bury(s.payee)
}
