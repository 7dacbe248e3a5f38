package channel

import "slices"

// maxMade bounds how many settlements that were replaced are remembered.
const maxMade = 500

// Made is a settlement that was broadcast and then replaced by another one: it may
// still be what nodes hold, or what is mined.
type Made struct {
	Txid   string `json:"txid"`
	Amount uint64 `json:"amount"` // sat, that it pays
}

// Settles returns the record with b as its newest settlement; the one before is not
// forgotten. The record must be saved before b is sent.
func (r PayeeRecord) Settles(b Broadcast) PayeeRecord {
	if last := r.Settlement; last != nil && last.Txid != b.Txid {
		made := slices.DeleteFunc(slices.Clone(r.Made), func(m Made) bool { return m.Txid == last.Txid || m.Txid == b.Txid })
		r.Made = append(made, Made{Txid: last.Txid, Amount: last.Amount})
		r.Made = r.Made[max(0, len(r.Made)-maxMade):]
	}
	r.Settlement = &b
	return r
}

// made finds a settlement of this payee's, the newest one or one that was replaced.
func (r PayeeRecord) made(txid string) (amount uint64, ok bool) {
	if r.Settlement != nil && r.Settlement.Txid == txid {
		return r.Settlement.Amount, true
	}
	for _, m := range r.Made {
		if m.Txid == txid {
			return m.Amount, true
		}
	}
	return 0, false
}

// own reports whether a transaction is one that the payee itself agreed to or made
// for the newest amount.
func (r PayeeRecord) own(txid string) bool {
	amount, ok := r.made(txid)
	return r.Close != nil && r.Close.Txid == txid || ok && amount == r.Paid
}

// PaidBy reports whether a transaction that spends the funding output pays the payee
// all that it held: one of its own settlements of the newest amount, or the close that
// was agreed.
func (r PayeeRecord) PaidBy(txid string) bool { return r.own(txid) }

// leaves reports what an unconfirmed spend that is none of those above leaves to the
// payee (sat), where it needed the payee's signature over the whole of it: a rung of
// its tower, or a settlement or a close that a restored payee has forgotten. A refund
// is locked. In a duplex channel the payer completes what the payee signed by halves.
func (r PayeeRecord) leaves(s *SpendView) (sat uint64, ok bool) {
	if s == nil || s.Height > 0 || s.Lock != 0 || s.Leaves <= 0 || r.Duplex != nil || r.own(s.Txid) {
		return 0, false
	}
	return uint64(s.Leaves), true
}

// covers reports whether an unconfirmed spend that is not known here leaves the payee
// what it was paid, or more.
func (r PayeeRecord) covers(s *SpendView) bool {
	left, ok := r.leaves(s)
	return ok && left >= r.Paid
}

// covered reports whether what spends the output in the mempool pays the payee as much
// as its own settlement would, or more than it knows of: it is left alone, since
// whoever completed it would only outbid the answer. docs/protocol.md, "Closing".
func (r PayeeRecord) covered(v View, c climb) bool {
	left, ok := r.leaves(v.Spend)
	if !ok || left < r.Paid {
		return false
	}
	rate := v.Spend.rate()
	low := rate < v.Rate
	if left > r.Paid { // it is newer: what is known here is for the last need only
		return !low || v.Tip+lastBlocks < r.Terms.Expiry
	}
	return !low && !c.due(rate)
}

// Shared reports whether what waits in the mempool settles other channels of this payee
// as well: whether it is replaced is decided for all of them, see Together.
func (r PayeeRecord) Shared(v View) bool {
	return r.Settlement != nil && len(r.Settlement.Batch) > 1 && v.Spend != nil && v.Spend.Height == 0 && r.knows(v.Spend.Txid)
}
