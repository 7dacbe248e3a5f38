package scenario

import (
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// duplexes are the stories in which an older state would pay somebody more.
func duplexes() []Scenario {
	return []Scenario{
		{
			Name: "payer-replays-old-state", Honest: Payee, Channels: []script.Construction{script.Duplex, Ladder}, play: replay,
			Title: "the payer broadcasts a state from before it paid more: the newest one is what is mined",
		},
		{
			Name: "idle-receiver", Honest: Payer, Channels: bothWays, play: idleReceiver,
			Title: "the provider paid back and says nothing more, to settle as if it had not: the payer's own deadline saves it",
		},
	}
}

// payBack has the provider return what it charged, by a state of its own, which the
// payer takes.
func (s *Stage) payBack(d *deal, msat uint64) error {
	if err := s.payee.do("pay-back", payBackArgs{d.id, msat}, nil); err != nil {
		return err
	}
	var state channel.Update
	if err := s.payer.do("take-back", d.id, &state); err != nil {
		return err
	}
	d.delivered -= msat
	d.verified -= msat
	d.take(state)
	return nil
}

func replay(s *Stage) error {
	if s.kind == Ladder {
		return replayLadder(s)
	}
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 10); err != nil {
		return err
	}
	if err := s.payBack(d, 4*price); err != nil {
		return err
	}
	old, err := s.payer.Record(s.ctx, d.id)
	if err != nil {
		return err
	}
	s.tell("Ten chunks are bought; the provider withdraws four and pays them back by a state of its own, epoch 2: its share is %s.", sat(d.paid()))
	if err := s.buy(d, 5); err != nil {
		return err
	}
	lock2, _ := d.terms.Lock(2)
	lock3, _ := d.terms.Lock(3)
	s.tell("Five more are bought, epoch 3: the share is %s. Each epoch's lock is %d blocks lower than the one before: epoch 2 is valid from height %d on, epoch 3 from %d on.", sat(d.paid()), d.terms.Step, lock2, lock3)
	s.marks = append(s.marks, mark{"3", "epoch 3 valid", lock3}, mark{"2", "epoch 2 valid", lock2})
	tx, err := s.payer.tx("complete", completeArgs{Payer: old, Rate: 3 * perVB})
	if err != nil {
		return err
	}
	who := s.payee.who()
	if err := s.payee.fall(); err != nil {
		return err
	}
	if err := s.until(lock2 - 1); err != nil {
		return err
	}
	reason, err := s.refused(Payer, roleOldState, tx, nonFinal)
	if err != nil {
		return err
	}
	s.tell("The payer completes its old state of epoch 2 and tries it a block early: %s. %s was killed before, and has not settled.", reason, capital(who))
	if err := s.mine(1); err != nil {
		return err
	}
	if err := s.broadcast(Payer, roleOldState, tx); err != nil {
		return err
	}
	if err := s.payee.start(); err != nil {
		return err
	}
	if err := s.look(s.payee); err != nil {
		return err
	}
	s.tell("At height %d the old state is in every mempool. In that moment %s is back; its newer one has been valid for %d blocks, and it replaces the old one.", lock2, s.payee.who(), d.terms.Step)
	if err := s.draw(); err != nil {
		return err
	}
	return s.bury(s.payee)
}

func idleReceiver(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 10); err != nil {
		return err
	}
	before, err := s.payee.Record(s.ctx, d.id)
	if err != nil {
		return err
	}
	if err := s.payBack(d, 4*price); err != nil {
		return err
	}
	lock1, _ := d.terms.Lock(1)
	lock2, _ := d.terms.Lock(2)
	s.tell("Ten chunks are bought, epoch 1, and four are paid back, epoch 2: the provider's share is %s. It still holds epoch 1, in which it has 10,000 sat, valid from height %d on.", sat(d.paid()), lock1)
	s.marks = append(s.marks, mark{"2", "epoch 2 valid, the payer's deadline", lock2}, mark{"1", "epoch 1 valid", lock1})
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.until(lock2, s.payer); err != nil {
		return err
	}
	s.tell("The provider says nothing, and waits. The payer has seen nothing wrong; but at height %d, %d blocks before epoch 1 is valid, it settles epoch 2 whatever it has heard.", lock2, d.terms.Margin)
	if err := s.until(lock1, s.payer); err != nil {
		return err
	}
	tx, err := s.payee.tx("complete", completeArgs{Payee: before, Rate: 20 * perVB})
	if err != nil {
		return err
	}
	reason, err := s.refused(Payee, roleOldState, tx, spent)
	if err != nil {
		return err
	}
	s.tell("At height %d the provider broadcasts epoch 1, at 20 sat/vB: %s. The output was spent long ago.", lock1, reason)
	return s.bury(s.payer)
}
