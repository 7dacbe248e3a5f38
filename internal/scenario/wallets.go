package scenario

import "github.com/spillway/spillway/wallet"

// Wallets are what each side has on the chain in all: confirmed coins, in sat.
type Wallets struct {
	Had     Amounts `json:"had"`     // before the story
	Has     Amounts `json:"has"`     // when it is over
	Funding Amounts `json:"funding"` // fees of the fundings; those of the ends are the result's
}

// wallets looks up what each side has, script by script, and holds that against what
// the channels left it: what it had, less what was locked and what fundings cost, and
// what came out.
func (s *Stage) wallets(r *Result) error {
	r.Wallets.Had = s.book.had
	want := s.book.had
	for _, d := range s.channels {
		want.Payer -= int64(d.terms.Capacity)
		if d.given {
			continue
		}
		fee, err := s.fee(d.funding)
		if err != nil {
			return err
		}
		r.Wallets.Funding.Payer += fee
		want.Payer -= fee
	}
	want.add(Payer, r.Got.Payer)
	want.add(Payee, r.Got.Payee)
	for pk, who := range s.book.owner {
		coins, err := s.chain.UTXOs(s.ctx, []byte(pk))
		if err != nil {
			return err
		}
		for _, c := range coins {
			s.want(c.Confirmed, "%d sat of the %s's are in no block at the end", c.Value, person(who))
			r.Wallets.Has.add(who, c.Value)
		}
	}
	s.want(r.Wallets.Has == want, "the wallets hold %d sat and %d sat, by the channels they should hold %d sat and %d sat",
		r.Wallets.Has.Payer, r.Wallets.Has.Payee, want.Payer, want.Payee)
	return s.ownWord(r)
}

// ownWord asks the payer's wallet, where it is there, what it has.
func (s *Stage) ownWord(r *Result) error {
	if s.payer.actor == nil {
		return nil
	}
	var b wallet.Balance
	if err := s.payer.do("balance", nil, &b); err != nil {
		return err
	}
	s.want(b.Confirmed == r.Wallets.Has.Payer, "the payer's wallet counts %d sat, the chain has %d sat", b.Confirmed, r.Wallets.Has.Payer)
	return nil
}
