package channel

import (
	"bytes"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// spends is what must hold of every transaction that a side signs whole: it spends this
// channel and nothing else, at its lock, pays only whom it should, what any node relays,
// and outputs and fee are the capacity.
func (t *Terms) spends(what string, tx *wire.MsgTx, lock uint32, fee int64, to ...[]byte) error {
	if len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != wire.OutPoint(t.Outpoint) || tx.TxIn[0].Sequence != script.Sequence {
		return violated(what, "it does not spend this channel alone")
	}
	if tx.LockTime != lock || len(tx.TxOut) == 0 || len(tx.TxOut) > len(to) {
		return violated(what, "a lock at %d, not %d, and %d outputs", tx.LockTime, lock, len(tx.TxOut))
	}
	sum := fee
	for _, out := range tx.TxOut {
		right := false
		for _, pk := range to {
			right = right || bytes.Equal(pk, out.PkScript)
		}
		switch {
		case !right:
			return violated(what, "it pays %d sat to %x", out.Value, out.PkScript)
		case out.Value < script.Dust(out.PkScript) || out.Value > int64(t.Capacity):
			return violated(what, "an output of %d sat", out.Value)
		}
		sum += out.Value
	}
	if sum != int64(t.Capacity) || fee < 0 {
		return violated(what, "outputs and a fee of %d sat are %d sat, the capacity is %d sat", fee, sum, t.Capacity)
	}
	return nil
}

// held is the lock of the newest update that is held, and what it leaves its sender (sat).
func (r *PayeeRecord) held() (lock uint32, rest uint64) {
	if r.Duplex != nil {
		lock, _ = r.Terms.Lock(r.Duplex.Held.Epoch)
		return lock, r.Terms.Capacity - min(r.Terms.Capacity, r.Duplex.Held.Amount)
	}
	return 0, r.Terms.Capacity - min(r.Terms.Capacity, r.Paid)
}

// SettlementSound is what must hold of a settlement before it is saved and sent: it is
// of the newest update that is held, leaves the payer its rest, and can be relayed.
// fee is all of the transaction's, in sat. Errors: ErrInvariant.
func (r *PayeeRecord) SettlementSound(tx *wire.MsgTx, fee int64, payout []byte) error {
	return BatchSound([]*PayeeRecord{r}, tx, fee, payout)
}

// BatchSound is SettlementSound for a settlement of several channels of one payee, and
// of nothing else: each input is one of them, each rest is at its input's index, and all
// that is left is the payee's. Errors: ErrInvariant.
func BatchSound(all []*PayeeRecord, tx *wire.MsgTx, fee int64, payout []byte) error {
	if len(tx.TxIn) != len(all) || len(tx.TxOut) == 0 || len(tx.TxOut) > len(all)+1 {
		return violated("settlement", "%d inputs and %d outputs for %d channels", len(tx.TxIn), len(tx.TxOut), len(all))
	}
	left, rests, spent := -fee, 0, make([]bool, len(tx.TxIn))
	for _, r := range all {
		at := slices.IndexFunc(tx.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == wire.OutPoint(r.Terms.Outpoint) })
		lock, rest := r.held()
		switch {
		case at < 0 || spent[at] || tx.TxIn[at].Sequence != script.Sequence || tx.LockTime != lock:
			return violated("settlement", "it does not spend %s, or at height %d and not %d", r.Terms.ID(), tx.LockTime, lock)
		case rest > 0 && (at >= len(tx.TxOut)-1 || tx.TxOut[at].Value != int64(rest) || !bytes.Equal(tx.TxOut[at].PkScript, r.Terms.RestScript)):
			return violated("settlement", "the payer of %s does not get its rest of %d sat", r.Terms.ID(), rest)
		case rest > 0 && rest < r.Terms.Dust():
			return violated("settlement", "a rest of %d sat is not relayed", rest)
		case rest > 0:
			rests++
		}
		spent[at] = true
		left += int64(r.Terms.Capacity - rest)
	}
	own := tx.TxOut[len(tx.TxOut)-1]
	switch {
	case len(tx.TxOut) != rests+1 || !bytes.Equal(own.PkScript, payout) || own.Value != left:
		return violated("settlement", "the payout is %d sat of %d sat, in %d outputs", own.Value, left, len(tx.TxOut))
	case own.Value < script.Dust(payout) || fee < minStep.Fee(script.VSize(tx)):
		return violated("settlement", "a payout of %d sat with a fee of %d sat for %d vB is not relayed", own.Value, fee, script.VSize(tx))
	}
	return nil
}

// CloseSound is what must hold of the agreed close before the payee's part of its
// signature is made. Errors: ErrInvariant.
func (r *PayeeRecord) CloseSound(payout []byte) error {
	switch {
	case r.Close == nil || r.Phase != Closing:
		return violated("close", "no close is agreed, the phase is %s", r.Phase)
	case r.Duplex == nil && (r.Owed() > 0 || r.Close.Amount != r.Paid):
		return violated("close", "agreed at %d sat, paid %d sat, owed %d msat", r.Close.Amount, r.Paid, r.Owed())
	}
	tx, err := DecodeTx(r.Close.Tx)
	if err != nil {
		return violated("close", "%v", err)
	}
	if tx.TxHash().String() != r.Close.Txid {
		return violated("close", "%s is not what was agreed", tx.TxHash())
	}
	return r.Terms.spends("close", tx, 0, r.Close.Fee, r.Terms.RestScript, payout)
}

// RefundSound is what must hold of a refund before it is saved and sent.
// Errors: ErrInvariant.
func (r *PayerRecord) RefundSound(tx *wire.MsgTx, fee int64) error {
	if len(r.RefundScript) == 0 {
		return violated("refund", "it has nowhere to go")
	}
	return r.Terms.spends("refund", tx, r.Terms.Expiry, fee, r.RefundScript)
}

// SettlementSound is what must hold of the settlement of what a duplex channel's payer
// holds before it is saved and sent. Errors: ErrInvariant.
func (r *PayerRecord) SettlementSound(tx *wire.MsgTx, fee int64) error {
	if r.Duplex == nil || r.Duplex.Held.Epoch == 0 {
		return violated("settlement", "the payer of a %s channel holds nothing", r.Terms.Construction)
	}
	lock, _ := r.Terms.Lock(r.Duplex.Held.Epoch)
	return r.Terms.spends("settlement", tx, lock, fee, r.Terms.PayeeRest, r.RefundScript)
}
