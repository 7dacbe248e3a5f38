package scenario

import (
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// Result is how a story ended. Amounts are in sat: Owed before fees, Got what was
// mined, Fees those of the transactions that ended the channels (a funding's fee is
// with its transaction).
type Result struct {
	Scenario string  `json:"scenario"`
	Channel  string  `json:"channel"`
	Honest   Side    `json:"honest"`
	Owed     Amounts `json:"owed"`
	Got      Amounts `json:"got"`
	Fees     Amounts `json:"fees"`
	Wallets  Wallets `json:"wallets"`
	// Exposure is the most that was released and not paid at one time, Credit what
	// the provider had chosen to risk, in msat.
	Exposure     uint64        `json:"exposure_msat"`
	Credit       uint64        `json:"credit_msat"`
	Delivered    uint64        `json:"delivered_msat"`
	Verified     uint64        `json:"verified_msat"`
	Transactions []Transaction `json:"transactions"`
	Steps        []string      `json:"steps"`
	Processes    []Process     `json:"processes,omitempty"` // that played, in the order of their starts
	Failed       []string      `json:"failed,omitempty"`    // what did not hold
	OK           bool          `json:"ok"`

	// Picture is the chain with what happened on it, for people.
	Picture []string `json:"-"`
}

// Process is one that played a part, and is gone when there is a result.
type Process struct {
	Role Side `json:"role"`
	PID  int  `json:"pid"`
}

// result counts what everybody got, and judges.
func (s *Stage) result() (*Result, error) {
	r := &Result{
		Scenario: s.sc.Name, Channel: string(s.kind), Honest: s.sc.Honest,
		Exposure: s.book.highest, Credit: s.setup.lead,
	}
	if r.Credit == 0 && s.kind != Ladder {
		r.Credit = price
	}
	for _, d := range s.channels {
		if err := s.voided(d); err != nil {
			return nil, err
		}
		r.Owed.Payee += int64(d.paid())
		r.Owed.Payer += int64(d.terms.Capacity - d.paid())
		r.Delivered += d.delivered
		r.Verified += d.verified
		if err := s.count(d, &r.Got, &r.Fees); err != nil {
			return nil, err
		}
	}
	tip, err := s.height()
	if err != nil {
		return nil, err
	}
	s.tell("At height %d it is over. The payer has %s and paid %s of fees, the provider has %s and paid %s.", tip,
		sat(uint64(r.Got.Payer)), sat(uint64(r.Fees.Payer)), sat(uint64(r.Got.Payee)), sat(uint64(r.Fees.Payee)))
	r.Steps, r.Processes = s.steps, s.processes
	if r.Transactions, err = s.transactions(); err != nil {
		return nil, err
	}
	if err := s.judge(r); err != nil {
		return nil, err
	}
	if r.Picture, err = s.picture(); err != nil {
		return nil, err
	}
	r.Failed, r.OK = s.foul, len(s.foul) == 0
	return r, nil
}

// voided finds out whether another transaction took the coins of a funding.
func (s *Stage) voided(d *deal) error {
	for _, in := range d.funding.TxIn {
		spend, err := s.chain.Spend(s.ctx, in.PreviousOutPoint)
		if err != nil {
			return err
		}
		d.void = d.void || spend != nil && spend.Confirmed && spend.Txid != d.funding.TxHash()
	}
	return nil
}

// judge holds the end against what the protocol promises whoever keeps to it.
func (s *Stage) judge(r *Result) error {
	sum := r.Got.Payer + r.Got.Payee + r.Fees.Payer + r.Fees.Payee
	s.want(sum == r.Owed.Payer+r.Owed.Payee, "%d sat were locked, and %d sat came out", r.Owed.Payer+r.Owed.Payee, sum)
	due := r.due(s.sc.Forfeits)
	s.want(r.Got.Payer == due.Payer, "the payer got %d sat of %d sat, with fees of %d sat", r.Got.Payer, r.Owed.Payer, r.Fees.Payer)
	s.want(r.Got.Payee == due.Payee, "the provider got %d sat of %d sat, with fees of %d sat", r.Got.Payee, r.Owed.Payee, r.Fees.Payee)
	if err := s.wallets(r); err != nil {
		return err
	}
	if r.Honest != Payer {
		s.want(r.Exposure <= r.Credit, "%d msat were released unpaid, and the credit is %d msat", r.Exposure, r.Credit)
	}
	for _, d := range s.channels {
		if err := s.records(d); err != nil {
			return err
		}
	}
	return s.rates()
}

// due is what each side has to get of the channels, to the satoshi: what it was owed
// less the fees that it bears; whoever forfeits leaves all of it to the other.
func (r *Result) due(forfeits Side) Amounts {
	due := r.Owed
	switch forfeits {
	case Payee:
		due = Amounts{Payer: r.Owed.Payer + r.Owed.Payee}
	case Payer:
		due = Amounts{Payee: r.Owed.Payer + r.Owed.Payee}
	}
	due.add(Payer, -r.Fees.Payer)
	due.add(Payee, -r.Fees.Payee)
	return due
}

// records holds what an honest side remembers against what happened.
func (s *Stage) records(d *deal) error {
	if s.sc.Honest != Payee && s.kind != Ladder {
		r, err := s.payer.Record(s.ctx, d.id)
		if err != nil {
			return err
		}
		s.want(r.Phase.Final(), "the payer's channel stays %s", r.Phase)
		s.want(r.Signed*1000 == d.verified, "the payer signed %d sat for %d msat that it had verified", r.Signed, d.verified)
	}
	if s.sc.Honest != Payer && s.kind != Ladder {
		r, err := s.payee.Record(s.ctx, d.id)
		if err != nil {
			return err
		}
		s.want(r.Phase.Final() || r.Paid == 0, "the provider's channel stays %s", r.Phase)
		s.want(d.void || r.Paid == d.paid(), "the provider holds %d sat, and %d sat reached it", r.Paid, d.paid())
	}
	return nil
}

// rates: from one transaction of a side's to the one that takes its place the fee
// rate never falls.
func (s *Stage) rates() error {
	type end struct {
		op wire.OutPoint
		by Side
	}
	last := map[end]int64{}
	for _, e := range s.book.seen {
		if role := s.roleOf(e); role != roleSettlement && role != roleRefund {
			continue
		}
		fee, err := s.fee(e.tx)
		if err != nil {
			return err
		}
		at := end{e.tx.TxIn[0].PreviousOutPoint, e.by}
		rate := fee * 1000 / script.VSize(e.tx)
		s.want(rate >= last[at] || !e.taken, "the fee rate fell from %d to %d sat for 1,000 vB", last[at], rate)
		last[at] = max(last[at], rate)
	}
	return nil
}

// Table is who got what of the channels against what each was owed, and what each
// has on the chain in all, for people.
func (r *Result) Table() []string {
	const row = "%-8s %13s %13s %7s  │ %14s %8s %14s  %s"
	line := func(who string, owed, got, fee, had, funding, has int64) string {
		verdict := "to the satoshi"
		if d := got + fee - owed; d > 0 {
			verdict = sat(uint64(d)) + " more"
		} else if d < 0 {
			verdict = sat(uint64(-d)) + " short"
		}
		return fmt.Sprintf(row, who, digits(owed), digits(got), digits(fee), digits(had), digits(funding), digits(has), verdict)
	}
	w := r.Wallets
	return []string{
		fmt.Sprintf("%-8s %-35s  │ %s", "in sat", "of what the channels held", "in all, on the chain"),
		fmt.Sprintf(row, "", "owed", "got", "fee", "had before", "fundings", "has now", "got + fee against owed"),
		line("payer", r.Owed.Payer, r.Got.Payer, r.Fees.Payer, w.Had.Payer, w.Funding.Payer, w.Has.Payer),
		line("provider", r.Owed.Payee, r.Got.Payee, r.Fees.Payee, w.Had.Payee, w.Funding.Payee, w.Has.Payee),
	}
}

// Verdict says in a sentence how it ended for whoever keeps to the protocol.
func (r *Result) Verdict() string {
	if !r.OK {
		return "It did not end as it has to."
	}
	if r.Honest == Both {
		return "Both kept to the rules, and each got what it was owed, less the fees that it bears."
	}
	if r.Honest == Payee && r.Owed.Payee == 0 && r.Got.Payee == 0 {
		return "The provider kept to the rules, and was owed nothing."
	}
	owed, got, fee := r.Owed.Payer, r.Got.Payer, r.Fees.Payer
	if r.Honest == Payee {
		owed, got, fee = r.Owed.Payee, r.Got.Payee, r.Fees.Payee
	}
	text := fmt.Sprintf("The %s kept to the rules and got what it was owed: %s", person(r.Honest), sat(uint64(owed)))
	if more := got + fee - owed; more > 0 {
		text += fmt.Sprintf(", and %s that the other left", sat(uint64(more)))
	}
	if fee > 0 {
		text += fmt.Sprintf("; %s of it went to miners", sat(uint64(fee)))
	}
	return text + "."
}
