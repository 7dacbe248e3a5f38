package channel

import (
	"bytes"
	"errors"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// CloseRequest is the payer's wish for a cooperative close.
type CloseRequest struct {
	Update     Update // its newest, verified with Terms.VerifyUpdate
	PayerNonce Hex    // 66 bytes
	// Ledger is the payer's, in msat; duplex only, nil: it does not say. Where less is
	// in it than in the payee's, something that was charged never arrived.
	Ledger *uint64
}

// BeginClose is the payee's rule for a cooperative close: the newest update is
// taken, everything charged must be paid, and the transaction is fixed. The
// caller adds its nonce and partial signature (SetAnswer), saves the record
// (it is then final: no delivery, no updates, no reopening), and only then
// answers. A repeated request gets the same transaction; with the same payer
// nonce also the stored answer (answered is true). With a refusal next is the
// record with the update that came along, to be saved where it changed: it is
// money all the same.
// Errors: ErrFinalized, ErrOwes, ErrUnconfirmed, ErrExpiring, ErrUnsupported,
// ErrConflict. docs/protocol.md, "Closing".
func (r PayeeRecord) BeginClose(ch *script.Channel, q CloseRequest, payout []byte, v View) (next PayeeRecord, answered bool, err error) {
	if r.Terms.Construction != script.Taproot && r.Duplex == nil {
		return r, false, refuse(ErrUnsupported, "%s", r.Terms.Construction)
	}
	if r.Close != nil && r.Phase == Closing {
		if r.Duplex == nil && q.Update.Amount > r.Close.Amount {
			return r, false, refuse(ErrFinalized, "the close is agreed at %d sat", r.Close.Amount)
		}
		return r, bytes.Equal(r.Close.PayerNonce, q.PayerNonce), nil
	}
	if r, err = r.updateForClose(q.Update, v); err != nil {
		return r, false, err
	}
	switch {
	case r.Restored:
		return r, false, refuse(ErrExpiring, "this channel is from before a restore, it can only be settled")
	case r.Phase != Open && r.Phase != Funding:
		return r, false, refuse(ErrExpiring, "phase %s", r.Phase)
	case v.Tip >= r.Terms.deadline():
		return r, false, refuse(ErrExpiring, "at height %d the channel is settled instead", v.Tip)
	case v.Spend != nil:
		return r, false, refuse(ErrFinalized, "the funding output is being spent by %s", v.Spend.Txid)
	case !v.Funding.Seen:
		return r, false, &UnconfirmedError{Want: 1}
	case r.Duplex == nil && r.Owed() > 0:
		return r, false, refuse(ErrOwes, "charged %d msat, paid %d sat", r.Charged, r.Paid)
	}
	if q.Ledger != nil && r.Duplex != nil && CeilSat(r.Charged) > CeilSat(*q.Ledger) {
		return r, false, refuse(ErrOwes, "charged %d msat, the payer counts %d msat", r.Charged, *q.Ledger)
	}
	share := r.Paid
	if r.Duplex != nil {
		share = min(r.duplex().Target(), r.Terms.Capacity) // at the ledger, whoever owes
	}
	tx, fee, err := closeTx(ch, share, payout, v.Rate)
	if err != nil {
		return r, false, err
	}
	raw, err := encodeTx(tx)
	if err != nil {
		return r, false, err
	}
	next = r
	next.Phase = Closing
	next.Close = &PayeeClose{Amount: share, Fee: fee, Tx: raw, Txid: tx.TxHash().String(), Height: v.Tip}
	return next, false, nil
}

// updateForClose takes the newest update that comes with the wish to close.
func (r PayeeRecord) updateForClose(u Update, v View) (PayeeRecord, error) {
	if r.Duplex == nil {
		next, _, err := r.Update(u)
		return next, err
	}
	d, _, err := r.duplex().Take(u, v.Tip)
	if err != nil {
		return r, err
	}
	return r.with(d), nil
}

// closeTx builds the cooperative close: its fee is the going rate for its own
// size, never more than a settlement of the same amount would cost.
func closeTx(ch *script.Channel, share uint64, payout []byte, rate script.FeeRate) (*wire.MsgTx, int64, error) {
	tx, err := ch.CloseTx(int64(share), payout, rate.Fee(ch.CloseVSize(int64(share), payout)))
	if err != nil {
		return nil, 0, refuse(ErrTooSmall, "%v", err)
	}
	fee := ch.Capacity // with what was too little for an output of its own
	for _, out := range tx.TxOut {
		fee -= out.Value
	}
	return tx, fee, nil
}

// SetAnswer puts the payee's nonce and partial signature for the payer's nonce
// into the close. The record must be saved before they leave.
func (r PayeeRecord) SetAnswer(payerNonce, payeeNonce, partial []byte) PayeeRecord {
	c := *r.Close
	c.PayerNonce, c.PayeeNonce, c.Partial = payerNonce, payeeNonce, partial
	r.Close = &c
	return r
}

// FinishClose takes the completed close that the payer returned. It must be the
// transaction that was agreed, completely signed. Errors: ErrFinalized, ErrConflict.
func (r PayeeRecord) FinishClose(ch *script.Channel, final []byte) (PayeeRecord, error) {
	if r.Close == nil {
		return r, refuse(ErrConflict, "no close was agreed")
	}
	tx, err := DecodeTx(final)
	if err != nil {
		return r, refuse(ErrConflict, "%v", err)
	}
	if tx.TxHash().String() != r.Close.Txid {
		return r, refuse(ErrConflict, "%s is not the close that was agreed (%s)", tx.TxHash(), r.Close.Txid)
	}
	prev := map[wire.OutPoint]*wire.TxOut{wire.OutPoint(r.Terms.Outpoint): ch.Prevout()}
	if err := script.Execute(tx, prev); err != nil {
		return r, refuse(ErrConflict, "the close does not verify: %v", err)
	}
	c := *r.Close
	c.FinalTx = final
	r.Close = &c
	return r, nil
}

// AskSettle is the operator's (or a multisig payer's) wish to settle now. It is
// refused where nothing was paid. Errors: ErrFinalized, ErrNothingAtStake.
func (r PayeeRecord) AskSettle(why SettlingReason) (PayeeRecord, error) {
	switch {
	case r.Phase.Final() || r.Phase == Closing:
		return r, refuse(ErrFinalized, "phase %s", r.Phase)
	case r.Paid == 0:
		return r, ErrNothingAtStake
	}
	if r.Phase != Settling {
		r.Phase, r.Reason = Settling, why
	}
	return r, nil
}

func encodeTx(tx *wire.MsgTx) ([]byte, error) {
	var b bytes.Buffer
	if err := tx.Serialize(&b); err != nil {
		return nil, errors.Join(ErrTerms, err)
	}
	return b.Bytes(), nil
}

// EncodeTx is a transaction's wire form.
func EncodeTx(tx *wire.MsgTx) (Hex, error) { return encodeTx(tx) }
