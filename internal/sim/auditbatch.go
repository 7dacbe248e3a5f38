package sim

import (
	"bytes"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
)

// batch holds a settlement of several channels against the rules: it spends them and
// nothing else, this one's rest is whole and at the index of its input, everything else
// goes to the others' payers and to the payee, and the shares of the fee are all of it.
func (a *audit) batch(r channel.PayeeRecord, tx *wire.MsgTx) {
	w, id, s := a.w, r.Terms.ID(), r.Settlement
	at := slices.IndexFunc(tx.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == wire.OutPoint(r.Terms.Outpoint) })
	if at < 0 || tx.LockTime != 0 || len(tx.TxIn) != len(s.Batch) || !slices.Contains(s.Batch, id) || tx.Version != r.Terms.TxVersion {
		w.violate("a settlement of %.12s and others spends something else, or later", id)
		return
	}
	if rest := int64(r.Terms.Capacity - s.Amount); rest > 0 &&
		(at >= len(tx.TxOut) || tx.TxOut[at].Value != rest || !bytes.Equal(tx.TxOut[at].PkScript, r.Terms.RestScript)) {
		w.violate("a settlement of %.12s at %d sat and others leaves its payer no %d sat", id, s.Amount, rest)
	}
	var sum, fee int64
	to := [][]byte{w.seller.payout}
	for _, member := range s.Batch {
		other := a.payee[member]
		sum, to = sum+int64(other.Terms.Capacity), append(to, other.Terms.RestScript)
		if b := other.Settlement; b == nil || b.Txid != s.Txid {
			return // it is saved in the same commit, and looked at after this one
		}
		fee += other.Settlement.Fee
	}
	a.outputs("settlement", tx, sum, fee, to...)
}
