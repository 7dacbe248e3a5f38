package scenario

import (
	"errors"

	"github.com/spillway/spillway/channel"
)

// goods are the stories in which something is delivered wrong, or is not paid.
func goods() []Scenario {
	return []Scenario{
		{
			Name: "provider-serves-garbage", Honest: Payer, Channels: everyWay, play: garbage,
			Title: "the provider sends wrong bytes: they are noticed within a group, and never paid",
		},
		{
			Name: "payer-stops-paying", Honest: Payee, Channels: everyWay, play: stopsPaying,
			Title: "the payer takes a chunk and does not pay: the provider is out its credit, and no more",
		},
		{
			Name: "newcomers-steal-credit", Honest: Payee, Channels: everyWay, play: stealCredit,
			setup: func(u *setup) { u.coins, u.lead = thieves, poolChunks*price },
			Title: "twenty fresh channels each take a free first chunk: the newcomers' pool bounds what they get",
		},
	}
}

func garbage(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	for range 2 {
		if err := s.ask(d); err != nil {
			return err
		}
		if err := s.sign(d, price); err != nil {
			return err
		}
	}
	if err := s.payee.do("damage", nil, nil); err != nil {
		return err
	}
	u, err := s.payer.Newest(s.ctx, d.id)
	if err != nil {
		return err
	}
	got, err := s.request(d, u) // pays the second, gets the third
	if err != nil {
		return err
	}
	s.tell("Two chunks arrive, are verified against the file's root, and are paid: %s. The third one comes with one bit turned over.", sat(d.paid()))
	s.want(got.Wrong != "", "wrong bytes were not noticed")
	s.tell("The payer notices: %s. It throws them away and signs nothing.", got.Wrong)
	if err := s.denied(d, channel.ErrInsufficient); err != nil {
		return err
	}
	s.tell("The provider says that it wants its money before it sends more. It gets none, and the payer buys elsewhere.")
	if err := s.event("!", "wrong bytes"); err != nil {
		return err
	}
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.until(d.margin(), s.payee, s.payer); err != nil {
		return err
	}
	s.tell("All that the provider can settle is what was signed; the rest goes back to the payer.")
	return s.bury(s.payee, s.payer)
}

func stopsPaying(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 2); err != nil {
		return err
	}
	old, err := s.payer.Newest(s.ctx, d.id)
	if err != nil {
		return err
	}
	if err := s.buy(d, 13); err != nil {
		return err
	}
	s.tell("Fifteen chunks are bought and paid: %s. The payer is no newcomer any more; what bounds it now is the channel's own credit.", sat(d.paid()))
	if err := s.ask(d); err != nil {
		return err
	}
	s.tell("The next one is delivered on credit, and the payer does not pay it.")
	if err := s.event("!", "stops paying"); err != nil {
		return err
	}
	for range 3 {
		if err := s.denied(d, channel.ErrInsufficient); err != nil {
			return err
		}
	}
	s.tell("It asks for one more, three times. Each time it is told what it owes; check and charge are one commit, so no hurry helps.")
	if err := s.send(d, old); err != nil {
		return err
	}
	s.tell("It sends the update from when %s were paid, as if that were all. An older update is a success without effect.", sat(old.Amount))
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.until(d.margin(), s.payee); err != nil {
		return err
	}
	s.tell("At the margin the provider settles what it was paid. One chunk is lost: the credit that it chose to give.")
	return s.bury(s.payee)
}

const (
	thieves    = 20
	poolChunks = 16 // the default of channel.DefaultPolicy
)

func stealCredit(s *Stage) error {
	for range thieves {
		if _, err := s.open(); err != nil {
			return err
		}
	}
	if err := s.pass(1, s.payee); err != nil {
		return err
	}
	s.tell("Somebody opens %d channels at once. Each is a stranger to the provider, and each hopes for a free first chunk.", thieves)
	stolen := 0
	for _, d := range s.channels {
		err := s.ask(d)
		if err == nil {
			stolen++
		} else if !errors.Is(err, channel.ErrInsufficient) {
			return err
		}
	}
	if err := s.event("!", "stolen"); err != nil {
		return err
	}
	s.tell("%d of them get one. All newcomers together share a pool of %d chunks, checked in the commit of the charge.", stolen, s.policy.PoolChunks)
	s.want(stolen == poolChunks, "%d chunks were stolen, and the pool is %d", stolen, poolChunks)
	for _, d := range s.channels {
		if err := s.denied(d, channel.ErrInsufficient); err != nil {
			return err
		}
	}
	if err := s.newcomer(0, "while the pool is used up"); err != nil {
		return err
	}
	s.tell("None gets a second one. Whoever is new now is told that every chunk is due one ahead, before anything is locked.")
	if err := s.draw(); err != nil {
		return err
	}
	expiry := s.channels[0].terms.Expiry
	if err := s.until(expiry - 1); err != nil { // twenty channels to look at take long, and nothing is due
		return err
	}
	if err := s.until(expiry, s.payer); err != nil {
		return err
	}
	if err := s.bury(s.payer, s.payee); err != nil {
		return err
	}
	fees, err := s.cost()
	if err != nil {
		return err
	}
	s.tell("The thieves take their refunds. In fees the raid cost them %s; what they got fades from the pool within 144 blocks.", sat(uint64(fees)))
	if err := s.mine(144); err != nil {
		return err
	}
	return s.newcomer(price, "after 144 blocks")
}

// newcomer asks what credit (msat) somebody new is offered.
func (s *Stage) newcomer(want uint64, when string) error {
	var credit uint64
	if err := s.payer.do("quote", nil, &credit); err != nil {
		return err
	}
	s.want(credit == want, "a newcomer is offered a credit of %d msat %s, not %d msat", credit, when, want)
	return nil
}

// cost is all fees of what was mined, in sat.
func (s *Stage) cost() (fees int64, err error) {
	all, err := s.transactions()
	for _, t := range all {
		if t.Height != nil {
			fees += t.Fee
		}
	}
	return fees, err
}
