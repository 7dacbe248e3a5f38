package channel

import (
	"bytes"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// outcome is what the mined transaction that spends a channel's output left to the
// payee, before its fee (sat), and whether it is the payer's refund, of whichever of its
// machines; known is false where it could not be had. docs/protocol.md, "Phases".
func (t *Terms) outcome(s *SpendView) (got uint64, refund, known bool) {
	if s == nil || s.Tx == nil || int64(s.Vin) >= int64(len(s.Tx.TxIn)) {
		return 0, false, false
	}
	if s.Tx.LockTime >= t.Expiry { // nothing else is locked so long: see script.Refund and Terms.Lock
		return 0, true, true
	}
	if t.paidBack(s.Tx.LockTime) {
		for _, out := range s.Tx.TxOut {
			if bytes.Equal(out.PkScript, t.PayeeRest) && out.Value > 0 {
				got += uint64(out.Value)
			}
		}
		return min(got, t.Capacity), false, true
	}
	return uint64(Leaves(s.Tx, s.Vin, int64(t.Capacity), t.RestScript)), false, true
}

// paidBack reports whether a lock is that of a duplex state that the payee signed by
// halves and the payer completed.
func (t *Terms) paidBack(lock uint32) bool {
	if t.Construction != script.Duplex || lock == 0 || t.Step == 0 {
		return false
	}
	return SenderOf((t.Expiry-lock)/t.Step) == script.Payee
}

// ends is a payee's record when what spends its channel is buried: closed, or refunded
// where that was the payer's refund; with what it left to the payee.
func (r PayeeRecord) ends(s *SpendView) PayeeRecord {
	got, refund, known := r.Terms.outcome(s)
	if amount, ok := r.made(s.Txid); ok && !known {
		got, known = amount, true
	}
	if known {
		r.Got = &got
	}
	if refund {
		r.Phase = Refunded
	}
	return r
}

// Earned is what a payee has of a channel (sat, before fees): what it holds updates for,
// and of one that is over what the transaction that was mined left to it, as far as that
// is known.
func (r PayeeRecord) Earned() uint64 {
	switch {
	case r.Got != nil:
		return *r.Got
	case r.Phase == Refunded || r.Phase == Abandoned:
		return 0
	}
	return r.Paid
}

// Lost is what was charged in a channel that is over and never came (msat).
func (r PayeeRecord) Lost() uint64 {
	if !r.Phase.Final() {
		return 0
	}
	return r.Charged - min(r.Charged, r.Earned()*1000)
}

// ends is a payer's record when what spends its channel is buried.
func (r PayerRecord) ends(s *SpendView) PayerRecord {
	got, refund, known := r.Terms.outcome(s)
	if known {
		r.Got = &got
	}
	if refund || !known && r.Refund.Is(s.Txid) && (r.Duplex == nil || r.Duplex.Held.Epoch == 0) {
		r.Phase = Refunded
	}
	return r
}

// Leaves is what a transaction that spends a channel of this capacity (sat) with its
// input vin leaves to the payee before its fee, where the payee signed the whole of
// it (a refund, or a state that the payer completed, it did not): the capacity less what
// goes to the payer's rest script. In a transaction of several channels that is the output at the
// input's index.
func Leaves(tx *wire.MsgTx, vin uint32, capacity int64, rest []byte) int64 {
	outs := tx.TxOut
	if len(tx.TxIn) > 1 {
		outs = nil
		if int(vin) < len(tx.TxOut) {
			outs = tx.TxOut[vin : vin+1]
		}
	}
	left := capacity
	for _, out := range outs {
		if bytes.Equal(out.PkScript, rest) {
			left -= out.Value
		}
	}
	return max(left, 0)
}
