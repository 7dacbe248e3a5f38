package channel

import "github.com/spillway/spillway/script"

// childBudget is the size in vB of a child that a payer may hang on its rest to make a
// replacement dearer: what nodes take of one under version 3 (BIP431). A child of that
// size that pays more than the going rate helps the settlement into a block instead.
const childBudget = 1_000

// carried is the rate at which miners see a spend in the mempool with what hangs on it,
// where that is more than its own.
func (s *SpendView) carried() script.FeeRate {
	size := s.VSize + s.ChildVSize
	if s.VSize <= 0 || s.ChildVSize <= 0 || s.Fee < 0 || s.ChildFee < 0 || s.Fee > MaxSat || s.ChildFee > MaxSat {
		return s.rate()
	}
	return max(s.rate(), script.FeeRate((s.Fee+s.ChildFee)*1000/size))
}

// budgeted is the view with a child of the payer's that is not seen: the settlement that
// was made last is dearer than the one that still waits, and a block later it has not
// taken its place. Then 1,000 vB at the going rate hang on that one, at most.
func (r PayeeRecord) budgeted(v View) (_ View, hidden bool) {
	s, last := v.Spend, r.Settlement
	if s == nil || last == nil || s.Height > 0 || s.Txid == last.Txid || !r.knows(s.Txid) || v.Tip <= last.Height || script.FeeRate(last.Rate) <= s.rate() {
		return v, false
	}
	with := *s
	with.ChildFee = max(with.ChildFee, max(v.Rate, minStep).Fee(childBudget))
	v.Spend = &with
	return v, true
}

// replacing is the rate at which a settlement of this size (vB) takes the place of this
// payee's own one that waits, with what hangs on it: at least rate, and a fee that pays
// for all that is evicted. ok is false where there is nothing to be gained: what it pays
// does not allow for that (limit), or a child carries the one that waits far enough.
func (r PayeeRecord) replacing(v View, size int64, rate, limit script.FeeRate) (_ script.FeeRate, ok bool) {
	if v.Spend == nil || v.Spend.Height > 0 || !r.knows(v.Spend.Txid) {
		return rate, true
	}
	if r.own(v.Spend.Txid) && v.Spend.carried() > v.Spend.rate() && v.Spend.carried() >= rate {
		return rate, false
	}
	need := max(rate, v.outbid(size))
	return need, need <= limit
}
