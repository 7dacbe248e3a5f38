package scenario

// vanishing are the stories in which one side is not there any more.
func vanishing() []Scenario {
	return []Scenario{
		{
			Name: "provider-vanishes", Honest: Payer, Forfeits: Payee, Channels: everyWay, play: providerVanishes,
			Title: "the provider is never heard of again: the refund brings back everything that is unpaid",
		},
		{
			Name: "payer-vanishes", Honest: Payee, Channels: everyWay, play: payerVanishes,
			Title: "the payer is never heard of again: the provider settles at the margin",
		},
	}
}

func providerVanishes(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 3); err != nil {
		return err
	}
	who := s.payee.who()
	if err := s.payee.fall(); err != nil {
		return err
	}
	s.tell("Three chunks are bought, verified and paid: %s. Then %s is killed, and nobody starts it again.", sat(d.paid()), who)
	if err := s.event("x", "provider gone"); err != nil {
		return err
	}
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.until(d.terms.Expiry-1, s.payer); err != nil {
		return err
	}
	s.tell("The payer asks nobody for anything. It waits; its watch looks at every block.")
	if err := s.until(d.terms.Expiry, s.payer); err != nil {
		return err
	}
	s.tell("At height %d the refund is valid, and the payer's watch broadcasts it. What the provider earned and never settled comes back as well.", d.terms.Expiry)
	return s.bury(s.payer)
}

func payerVanishes(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 5); err != nil {
		return err
	}
	who := s.payer.who()
	if err := s.payer.fall(); err != nil {
		return err
	}
	s.tell("Five chunks are bought and paid: %s. Then %s is killed, and nobody starts it again: it never asks for a close.", sat(d.paid()), who)
	if err := s.event("x", "payer gone"); err != nil {
		return err
	}
	if err := s.draw(); err != nil {
		return err
	}
	margin := d.terms.Expiry - d.terms.Margin
	if err := s.until(margin, s.payee); err != nil {
		return err
	}
	s.tell("At height %d the provider's watch completes the newest half-signature and broadcasts the settlement. The payer's rest goes to the payer, whether it is there or not.", margin)
	return s.bury(s.payee)
}
