package scenario

import (
	"errors"

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

// errPower is what a process sees of its own death: its last call never returns.
var errPower = errors.New("the power is gone")

func bothCrash(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 2); err != nil {
		return err
	}
	s.tell("Two chunks are bought and paid. The third is asked for; the provider saves the charge, and loses power before a byte has left.")
	if err := s.crashedCharge(d); err != nil {
		return err
	}
	s.tell("It starts again. The same chunk is asked for again: it is charged already, so it is free, and arrives.")
	if err := s.crashedPayment(d); err != nil {
		return err
	}
	s.tell("The payer verifies it, saves what it signs, and crashes before it sends. It starts again: signed is spent, so it sends what it had signed, and signs nothing twice.")
	if err := s.buy(d, 2); err != nil {
		return err
	}
	if err := s.draw(); err != nil {
		return err
	}
	s.tell("Two more chunks. Then the close, and the provider crashes right after it saved its part.")
	if err := s.crashedClose(d); err != nil {
		return err
	}
	s.tell("Asked again, it gives the same transaction. Both sides restart once more, and the close is mined.")
	for _, start := range []func() error{s.payee.restart, s.payer.restart} {
		if err := start(); err != nil {
			return err
		}
	}
	return s.bury(s.payee, s.payer)
}

// crashedCharge has the provider crash between a charge and its answer.
func (s *Stage) crashedCharge(d *deal) error {
	s.payee.disk.FailButPersistNext(errPower)
	if _, err := s.ask(d, 1); !errors.Is(err, errPower) {
		return errors.Join(errors.New("the provider did not crash"), err)
	}
	if err := s.payee.restart(); err != nil {
		return err
	}
	got, err := s.ask(d, 1)
	s.want(got.Fresh == 0, "a chunk that was charged cost %d msat again", got.Fresh)
	return err
}

// crashedPayment has the payer crash between what it signs and sending it; and
// before that, once, so that nothing is saved at all.
func (s *Stage) crashedPayment(d *deal) error {
	verified := d.verified
	s.payer.disk.FailNext(errPower)
	if err := s.sign(d, price); !errors.Is(err, errPower) {
		return errors.Join(errors.New("the payer did not crash"), err)
	}
	if err := s.payer.restart(); err != nil {
		return err
	}
	d.verified = verified // the chunk was not saved with it: it is verified again
	s.payer.disk.FailButPersistNext(errPower)
	if err := s.sign(d, price); !errors.Is(err, errPower) {
		return errors.Join(errors.New("the payer did not crash"), err)
	}
	if err := s.payer.restart(); err != nil {
		return err
	}
	_, err := s.ask(d, 0)
	return err
}

// crashedClose has the provider crash between its part of the close and its answer.
func (s *Stage) crashedClose(d *deal) error {
	c, err := s.payer.BeginClose(s.ctx, d.id)
	if err != nil {
		return err
	}
	s.payee.disk.FailButPersistNext(errPower)
	if d.terms.Cosigned() {
		_, err = s.payee.Settle(s.ctx, d.id, &c.Update, true)
	} else {
		_, err = s.payee.Close(s.ctx, d.id, channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]})
	}
	if !errors.Is(err, errPower) {
		return errors.Join(errors.New("the provider did not crash"), err)
	}
	if err := s.payee.restart(); err != nil {
		return err
	}
	if err := s.payer.restart(); err != nil {
		return err
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
	old, err := s.payee.disk.backup(s.ctx)
	if err != nil {
		return err
	}
	if err := s.event("b", "backup"); err != nil {
		return err
	}
	s.tell("Two chunks are bought and paid; then the provider makes a backup.")
	if err := s.pass(2, s.payee, s.payer); err != nil {
		return err
	}
	s.wait()
	if err := s.buy(d, 4); err != nil {
		return err
	}
	s.tell("Four more are bought and paid: %s in all. Then the provider's disk is lost, and the old backup restored.", sat(d.paid()))
	s.payee.disk = old
	if err := s.payee.restart(); err != nil {
		return err
	}
	if err := s.payee.MarkRestored(s.ctx); err != nil {
		return err
	}
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
