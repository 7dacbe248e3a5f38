package channel

import (
	"bytes"
	"slices"

	"github.com/spillway/spillway/script"
)

// Sound is what must hold of a payer's record by itself, whenever it is read, saved or
// signed for. Errors: ErrInvariant.
func (r *PayerRecord) Sound() error {
	if err := r.Terms.sound(); err != nil {
		return err
	}
	begun := r.Phase != Prepared && r.Phase != Abandoned
	switch {
	case !slices.Contains(payerPhases, r.Phase):
		return violated("phase", "%q", r.Phase)
	case r.Signed > r.Terms.Capacity:
		return violated("capacity", "signed %d sat of %d sat", r.Signed, r.Terms.Capacity)
	case r.Owed > MaxSat*1000:
		return violated("ledger", "%d msat", r.Owed)
	case r.Signed > 0 && len(r.Signature) == 0:
		return violated("signature", "signed %d sat without a half-signature", r.Signed)
	case r.Phase == Prepared && (r.Signed > 0 || r.FundingSent || r.Refund != nil || r.Close != nil):
		return violated("phase", "prepared, but something has left")
	case begun && r.Terms.Cosigned() && len(r.RefundSig) == 0:
		return violated("refund", "phase %s without the payee's signature of the refund", r.Phase)
	case r.Phase == Closing && r.Close == nil:
		return violated("close", "closing, but no close is agreed")
	case r.Refund != nil && !r.Refund.sound(&r.Terms):
		return violated("refund", "a fee of %d sat at %d", r.Refund.Fee, r.Refund.Rate)
	}
	if r.Duplex != nil || begun && r.Terms.Construction == script.Duplex {
		return r.soundDuplex()
	}
	if r.Terms.CheckAmount(r.Signed) != nil {
		return violated("dust", "signed %d sat of %d sat leave a rest below dust", r.Signed, r.Terms.Capacity)
	}
	return nil
}

// Begins is what must hold of a payer's record that is saved for the first time.
// Errors: ErrInvariant.
func (r *PayerRecord) Begins() error {
	switch {
	case r.Stopped != "" || r.Refund != nil || r.Close != nil || len(r.FundingTx) == 0:
		return violated("record", "a channel begins stopped, ended or without its funding")
	case !r.Imported && (r.Phase != Prepared || r.Signed > 0 || r.Owed > 0):
		return violated("phase", "a channel begins as %s with %d sat signed", r.Phase, r.Signed)
	case r.Imported && (r.Phase.Final() || r.Phase == Prepared):
		return violated("phase", "an imported channel begins as %s", r.Phase)
	}
	return r.Sound()
}

// Follows is what must hold between a payer's record and the one before, at each
// commit. Errors: ErrInvariant.
func (r *PayerRecord) Follows(old *PayerRecord) error {
	if err := r.Terms.same(&old.Terms); err != nil {
		return err
	}
	if err := moves(payerMoves, old.Phase, r.Phase); err != nil {
		return err
	}
	switch {
	case r.KeyIndex != old.KeyIndex || r.Imported != old.Imported || !bytes.Equal(r.RefundScript, old.RefundScript):
		return violated("record", "the key or where the refund goes changed")
	case !bytes.Equal(r.FundingTx, old.FundingTx) && !r.signsFunding(old):
		return violated("funding", "the funding transaction changed")
	case r.Unsigned && !old.Unsigned:
		return violated("funding", "its signatures are forgotten")
	case old.FundingSent && !r.FundingSent || old.Accepted && !r.Accepted || old.GivenUp && !r.GivenUp:
		return violated("record", "what has left is forgotten")
	case len(old.RefundSig) > 0 && len(r.RefundSig) == 0:
		return violated("refund", "the payee's signature of it is gone")
	case old.Stopped != "" || r.Stopped != "":
		return r.frozen(old)
	case old.Close != nil && r.Close == nil:
		return violated("close", "what was agreed is gone")
	case old.Close != nil && old.Phase == Closing && r.Close.Txid != old.Close.Txid:
		return violated("close", "another close than the one agreed")
	}
	if err := r.followsRefund(old); err != nil {
		return err
	}
	return r.followsMoney(old)
}

// followsRefund: a refund that was made stands, and its rate does not fall.
func (r *PayerRecord) followsRefund(old *PayerRecord) error {
	switch {
	case old.Refund == nil:
		return nil
	case r.Refund == nil:
		return violated("refund", "it is gone")
	case r.Duplex == nil && r.Refund.Rate < old.Refund.Rate:
		return violated("rate-fell", "the refund's, from %d to %d", old.Refund.Rate, r.Refund.Rate)
	case !r.Refund.Is(old.Refund.Txid):
		return violated("refund", "%s is forgotten", old.Refund.Txid)
	}
	return nil
}

// followsMoney: what was signed and what is owed never fall, and there are never two
// half-signatures for one amount, nor one in a channel that is only refunded.
func (r *PayerRecord) followsMoney(old *PayerRecord) error {
	if r.Imported && (r.Signed != old.Signed || !bytes.Equal(r.Signature, old.Signature) || !sameDuplex(r.Duplex, old.Duplex)) {
		return violated("imported", "something was signed in a channel that is only refunded")
	}
	if old.Duplex != nil {
		return followDuplex(r.Duplex, old.Duplex)
	}
	if r.Duplex != nil {
		return nil // it was opened
	}
	same := bytes.Equal(r.Signature, old.Signature)
	switch {
	case r.Signed < old.Signed:
		return violated("signed-fell", "from %d to %d sat", old.Signed, r.Signed)
	case r.Owed < old.Owed:
		return violated("ledger-fell", "from %d to %d msat", old.Owed, r.Owed)
	case r.Signed == old.Signed && !same && len(old.Signature) > 0:
		return violated("signature", "another half-signature for the same %d sat", r.Signed)
	case r.Signed > old.Signed && same && len(r.Signature) > 0:
		return violated("signature", "signed rose to %d sat, the half-signature did not change", r.Signed)
	case r.Signed > old.Signed && old.Phase.Final():
		return violated("final", "signed rose to %d sat in phase %s", r.Signed, old.Phase)
	}
	return nil
}

// frozen: in a stopped channel nothing moves but the phase, by what the chain shows,
// and the refund.
func (r *PayerRecord) frozen(old *PayerRecord) error {
	switch {
	case r.Stopped == "" || old.Stopped != "" && r.Stopped != old.Stopped:
		return violated("stopped", "the mark of a stop is gone")
	case r.Signed != old.Signed || r.Owed != old.Owed || !bytes.Equal(r.Signature, old.Signature) || !sameDuplex(r.Duplex, old.Duplex):
		return violated("stopped", "something of a stopped channel changed")
	}
	return r.followsRefund(old)
}

// MaySign is what must hold before the payer's half-signature for the record's newest
// update is made: it is agreed (what is owed by its own ledger, what it pays ahead by
// consent, the minimum charge), within the budget, and no less than what it signed
// before. old is the record as it is saved. Errors: ErrInvariant.
func (r *PayerRecord) MaySign(old *PayerRecord, lim Limits) error {
	if err := r.Follows(old); err != nil {
		return err
	}
	if r.Duplex != nil {
		return r.maySignState(old, lim)
	}
	t := &r.Terms
	agreed := CeilSat(r.Owed) + min(lim.Prepay, MaxSat)
	if floor := min(t.MinimumCharge, t.Capacity-min(t.Capacity, t.Dust())); agreed < floor {
		agreed = floor
	}
	if lim.Consent {
		agreed += t.Dust()
	}
	switch {
	case r.Void():
		return violated("void", "a half-signature for %d sat in a channel that is over or given up", r.Signed)
	case r.Signed <= old.Signed:
		return violated("signed-fell", "a second half-signature, for %d sat after %d sat", r.Signed, old.Signed)
	case r.Signed > lim.Budget:
		return violated("budget", "a half-signature for %d sat, allowed are %d sat", r.Signed, lim.Budget)
	case r.Signed > agreed:
		return violated("agreed", "a half-signature for %d sat, the ledger says %d msat", r.Signed, r.Owed)
	case t.CheckAmount(r.Signed) != nil:
		return violated("dust", "a half-signature for %d sat of %d sat", r.Signed, t.Capacity)
	}
	return nil
}

// maySignState is MaySign for a state of a duplex channel.
func (r *PayerRecord) maySignState(old *PayerRecord, lim Limits) error {
	sent := r.Duplex.Sent
	switch {
	case r.Void():
		return violated("void", "a state of epoch %d in a channel that is over or given up", sent.Epoch)
	case old.Duplex != nil && !sent.Newer(old.Duplex.Sent):
		return violated("signed-fell", "a second state (%d, %d sat)", sent.Epoch, sent.Amount)
	case sent.Amount > lim.Budget:
		return violated("budget", "a state of %d sat, allowed are %d sat", sent.Amount, lim.Budget)
	case sent.Amount > max(old.Signed, CeilSat(r.Owed))+min(lim.Prepay, MaxSat):
		return violated("agreed", "a state of %d sat, the ledger says %d msat", sent.Amount, r.Owed)
	}
	return nil
}
