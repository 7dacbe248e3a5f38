package channel

// A funding transaction of another wallet is known, and so is its id, before it is
// signed: every input is segwit. docs/protocol.md, "Opening".

// SignedFunding puts the signed T1 of another wallet into a record that has it unsigned.
// Errors: ErrFinalized where nothing of the channel is held yet, and so no refund,
// ErrTerms for another transaction, or one that is not signed.
func (r PayerRecord) SignedFunding(raw []byte) (PayerRecord, error) {
	if r.Phase == Prepared {
		return r, refuse(ErrFinalized, "the refund of channel %s is not held yet", r.Terms.ID())
	}
	next := r
	next.FundingTx, next.Unsigned = raw, false
	if !r.Unsigned || !next.signsFunding(&r) {
		return r, refuse(ErrTerms, "not the signed funding of channel %s", r.Terms.ID())
	}
	return next, nil
}

// signsFunding reports whether a record has the T1 of the one before, with what that
// one lacks: a witness for each input.
func (r *PayerRecord) signsFunding(old *PayerRecord) bool {
	if !old.Unsigned || r.Unsigned {
		return false
	}
	tx, err := DecodeTx(r.FundingTx)
	if err != nil || tx.TxHash() != old.Terms.Outpoint.Hash {
		return false
	}
	for _, in := range tx.TxIn {
		if len(in.Witness) == 0 {
			return false
		}
	}
	return true
}
