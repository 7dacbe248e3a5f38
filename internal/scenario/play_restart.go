package scenario

import (
	"github.com/spillway/spillway/channel"
)

// restarts are the stories in which machines fail.
func restarts() []Scenario {
	return []Scenario{
		{
			Name: "both-restart-from-crash", Honest: Both, Channels: everyWay, play: bothCrash,
			Title: "both sides crash in the middle of payments and of the close: nothing is paid twice, nothing is lost",
		},
		{
			Name: "provider-restored-from-old-backup", Honest: Both, Channels: everyWay, play: oldBackup,
			Title: "the provider's disk is lost and an old backup restored: the payer's newest update makes it whole",
		},
	}
}

func bothCrash(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 2); err != nil {
		return err
	}
	who := s.payee.who()
	if err := s.crashedCharge(d); err != nil {
		return err
	}
	s.tell("Two chunks are bought and paid. The third is asked for; %s saves the charge, and is killed before a byte has left.", who)
	s.tell("It starts again as %s. The same chunk is asked for again: it is charged already, so it is free, and arrives.", s.payee.who())
	who = s.payer.who()
	if err := s.crashedPayment(d); err != nil {
		return err
	}
	s.tell("%s verifies it, saves what it signs, and is killed before it sends. It starts again as %s: signed is spent, so it sends what it had signed, and signs nothing twice.", capital(who), s.payer.who())
	if err := s.buy(d, 2); err != nil {
		return err
	}
	if err := s.draw(); err != nil {
		return err
	}
	who = s.payee.who()
	if err := s.crashedClose(d); err != nil {
		return err
	}
	s.tell("Two more chunks. Then the close, and %s is killed right after it saved its part.", who)
	for _, h := range s.hands() {
		if err := h.start(); err != nil {
			return err
		}
	}
	s.tell("Asked again, it gives the same transaction. Both sides are killed once more; %s and %s see it mined.", s.payee.who(), s.payer.who())
	return s.bury(s.payee, s.payer)
}

// crashedCharge has the provider crash between a charge and its answer.
func (s *Stage) crashedCharge(d *deal) error {
	if err := s.payee.do("doomed", nil, nil); err != nil {
		return err
	}
	if err := s.payee.crashed(s.ask(d)); err != nil {
		return err
	}
	if err := s.payee.start(); err != nil {
		return err
	}
	before, err := s.payee.Record(s.ctx, d.id)
	if err != nil {
		return err
	}
	if err := s.ask(d); err != nil {
		return err
	}
	after, err := s.payee.Record(s.ctx, d.id)
	s.want(before.Charged == d.delivered && after.Charged == before.Charged,
		"a chunk that was charged cost %d msat again; %d msat are charged, %d msat delivered", after.Charged-before.Charged, before.Charged, d.delivered)
	return err
}

// crashedPayment has the payer crash between what it signs and sending it; and
// before that, once, so that nothing is saved at all.
func (s *Stage) crashedPayment(d *deal) error {
	verified := d.verified
	for _, when := range []string{"doomed-before", "doomed"} {
		d.verified = verified // a chunk that was not saved with its payment is verified again
		if err := s.payer.do(when, nil, nil); err != nil {
			return err
		}
		if err := s.payer.crashed(s.sign(d, price)); err != nil {
			return err
		}
		if err := s.payer.start(); err != nil {
			return err
		}
	}
	return s.pay(d)
}

// crashedClose has the provider crash between its part of the close and its answer.
func (s *Stage) crashedClose(d *deal) error {
	if err := s.payee.do("doomed", nil, nil); err != nil {
		return err
	}
	if err := s.payee.crashed(s.payer.do("try-close", d.id, nil)); err != nil {
		return err
	}
	for _, h := range s.hands() {
		if err := h.start(); err != nil {
			return err
		}
	}
	return s.end(d)
}

func oldBackup(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 2); err != nil {
		return err
	}
	if err := s.cast.backup(s.ctx); err != nil {
		return err
	}
	if err := s.event("b", "backup"); err != nil {
		return err
	}
	s.tell("Two chunks are bought and paid; then the provider makes a backup.")
	if err := s.pass(2, s.payee, s.payer); err != nil {
		return err
	}
	if err := s.wait(); err != nil {
		return err
	}
	if err := s.buy(d, 4); err != nil {
		return err
	}
	who := s.payee.who()
	if err := s.payee.fall(); err != nil {
		return err
	}
	if err := s.cast.restore(s.ctx); err != nil {
		return err
	}
	if err := s.payee.start(); err != nil {
		return err
	}
	s.tell("Four more are bought and paid: %s in all. Then %s is killed, its disk is lost, and %s starts from the old backup.", sat(d.paid()), who, s.payee.who())
	r, err := s.payee.Record(s.ctx, d.id)
	if err != nil {
		return err
	}
	if err := s.event("r", "restored"); err != nil {
		return err
	}
	s.tell("Its books say that %s were paid. It knows that it knows too little: on channels from before it delivers nothing and signs no close.", sat(r.Paid))
	if err := s.denied(d, channel.ErrExpiring); err != nil {
		return err
	}
	if r, err = s.payee.Record(s.ctx, d.id); err != nil {
		return err
	}
	s.want(r.Paid == d.paid(), "after the payer's update it holds %d sat, not %d sat", r.Paid, d.paid())
	s.tell("The payer reconnects and sends its newest update, as it always does. Now the provider holds %s again; a chunk is refused all the same.", sat(r.Paid))
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.until(d.margin(), s.payee, s.payer); err != nil {
		return err
	}
	s.tell("At the margin it settles all of it.")
	return s.bury(s.payee, s.payer)
}
