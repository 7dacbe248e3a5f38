package channel

import (
	"bytes"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// feeInput is what one fee input adds to a settlement, in vB: a P2TR output that is
// spent by its key, also in a transaction that has no other witness. docs/protocol.md,
// section 15.
const feeInput = 59

// topUp is the highest rate of a settlement of this size (vB) that a coin of the payee's
// own helps to pay; 0: none is used. Alone the settlement reaches limit, which leaves the
// payee an output that is relayed. With a coin the payee's output is never too small, and
// the fee may be as much as the settlement saves, and no more: what was paid.
func (r PayeeRecord) topUp(size int64, limit script.FeeRate, v View, p Policy) script.FeeRate {
	with := stakeRate(int64(r.Paid)-1, size+feeInput)
	had := r.Settlement != nil && r.Settlement.Coins > 0
	if !p.FeeInputs || r.Duplex != nil || with <= limit || with < minStep || limit >= max(v.Rate, minStep) && !had {
		return 0
	}
	return with
}

// TopUpSound is what must hold of a settlement with fee inputs of the payee's own before
// it is saved and sent; coins are what they hold (sat). The payer has its rest at the
// index of the channel's input, all else is the payee's, which gives no more of its own
// than what was paid. Errors: ErrInvariant.
func (r *PayeeRecord) TopUpSound(tx *wire.MsgTx, fee int64, payout []byte, coins map[wire.OutPoint]*wire.TxOut) error {
	_, rest := r.held()
	want := 1
	if rest > 0 {
		want = 2
	}
	if len(tx.TxIn) != 1+len(coins) || len(tx.TxOut) != want || tx.TxIn[0].PreviousOutPoint != wire.OutPoint(r.Terms.Outpoint) || tx.LockTime != 0 {
		return violated("top-up", "%d inputs and %d outputs, at height %d", len(tx.TxIn), len(tx.TxOut), tx.LockTime)
	}
	left := int64(r.Paid) - fee
	for _, in := range tx.TxIn[1:] {
		coin := coins[in.PreviousOutPoint]
		if coin == nil || in.Sequence != script.Sequence {
			return violated("top-up", "it spends %s", in.PreviousOutPoint)
		}
		left += coin.Value
	}
	own := tx.TxOut[want-1]
	switch {
	case rest > 0 && (tx.TxOut[0].Value != int64(rest) || !bytes.Equal(tx.TxOut[0].PkScript, r.Terms.RestScript)):
		return violated("top-up", "the payer does not get its rest of %d sat", rest)
	case !bytes.Equal(own.PkScript, payout) || own.Value != left || left < script.Dust(payout):
		return violated("top-up", "a payout of %d sat, %d sat are left", own.Value, left)
	case fee > int64(r.Paid) || fee < minStep.Fee(script.VSize(tx)):
		return violated("top-up", "a fee of %d sat for %d vB, to save %d sat", fee, script.VSize(tx), r.Paid)
	}
	return nil
}

// Without is the rate of a settlement that gets no coin: what its own output can pay up
// to rate; 0 where no node relays that, or where it would fall below the last one.
func (s Seat) Without(payout []byte, rate script.FeeRate) script.FeeRate {
	_, most := s.alone(payout)
	last := s.Record.Settlement
	if rate = min(rate, most); rate < minStep || last != nil && rate <= script.FeeRate(last.Rate) {
		return 0
	}
	return rate
}
