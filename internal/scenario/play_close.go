package scenario

import (
	"errors"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// closes are the stories in which one side spoils the close.
func closes() []Scenario {
	return []Scenario{
		{
			Name: "provider-stalls-close", Honest: Payer, Channels: everyWay, play: stallsClose,
			Title: "the provider answers a close falsely, and then not at all: the payer's rest is late, and whole",
		},
		{
			Name: "payer-withholds-close", Honest: Payee, Channels: []script.Construction{script.Taproot, script.Duplex}, play: withholdsClose,
			Title: "the payer has the provider sign a close and keeps it back: the provider settles its newest update",
		},
	}
}

func stallsClose(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 4); err != nil {
		return err
	}
	s.tell("Four chunks are bought and paid: %s. The payer has what it wanted, and asks for the close.", sat(d.paid()))
	if !d.terms.Cosigned() {
		if err := s.falseClose(d, 1_000); err != nil {
			return err
		}
	}
	if err := s.payee.do("mute", nil, nil); err != nil {
		return err
	}
	for range 3 {
		if err := s.payer.do("try-close", d.id, nil); !errors.Is(err, errSilent) && !errors.Is(err, paywall.ErrUnreachable) {
			return errors.Join(errors.New("the provider answered"), err)
		}
	}
	if err := s.event("?", "no answer"); err != nil {
		return err
	}
	if d.terms.Cosigned() {
		s.tell("It asks three times. The provider does not answer, and settles nothing.")
	} else {
		s.tell("It asks three times more, each time with a new nonce. The provider does not answer.")
	}
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.until(d.margin(), s.payer, s.payee); err != nil {
		return err
	}
	s.tell("At height %d the provider has to settle, or it loses all that it earned to the refund. The rest was locked for %d blocks at most, a term that the payer had agreed to.", d.margin(), s.policy.Duration)
	return s.bury(s.payer, s.payee)
}

// falseClose answers the payer's wish to close with a transaction that pays the
// provider more, signed by the provider's own key.
func (s *Stage) falseClose(d *deal, more int64) error {
	if err := s.payee.do("lie", more, nil); err != nil {
		return err
	}
	err := s.payer.do("try-close", d.id, nil)
	s.want(errors.Is(err, channel.ErrTerms), "the payer signed a close that takes %d sat from it: %v", more, err)
	s.tell("The answer takes %s more than was paid. The payer looks before it signs: %v.", sat(uint64(more)), err)
	return nil
}

func withholdsClose(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 6); err != nil {
		return err
	}
	kept, err := s.payer.tx("keep-close", d.id)
	if err != nil {
		return err
	}
	s.tell("Six chunks are bought and paid: %s. The payer asks for the close, the provider signs its part, and the payer completes it and keeps it.", sat(d.paid()))
	if err := s.event("?", "close withheld"); err != nil {
		return err
	}
	if err := s.denied(d, channel.ErrFinalized); err != nil {
		return err
	}
	s.tell("For the provider the channel is over since it signed: nothing is delivered, nothing is taken, nothing is reopened.")
	if err := s.pass(3, s.payee); err != nil {
		return err
	}
	if lock := d.lock(); lock > 0 {
		if err := s.until(lock, s.payee); err != nil {
			return err
		}
	}
	s.tell("The close does not appear. The provider broadcasts its own settlement of the newest update instead.")
	if err := s.draw(); err != nil {
		return err
	}
	reason, err := s.refused(Payer, roleSettlement, kept, tooCheap)
	if err != nil {
		return err
	}
	s.tell("Now the payer broadcasts the close: %s. It pays a lower rate.", reason)
	if err := s.mine(1); err != nil {
		return err
	}
	if reason, err = s.refused(Payer, roleSettlement, kept, spent); err != nil {
		return err
	}
	s.tell("And a block later: %s. Either would have paid the provider the same, before fees.", reason)
	return s.bury(s.payee)
}
