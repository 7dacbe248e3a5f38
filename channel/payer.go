package channel

import (
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// PayerRecord is all that a payer remembers of one channel.
type PayerRecord struct {
	Terms        Terms       `json:"terms"`
	Phase        Phase       `json:"phase"`
	KeyIndex     uint32      `json:"key_index"` // what K1 is derived from
	Origin       string      `json:"origin"`    // where the payee is reached
	Payee        string      `json:"payee"`     // its identity
	Signed       uint64      `json:"signed"`    // sat, the highest amount ever signed
	Signature    Hex         `json:"signature"` // its half-signature
	Owed         uint64      `json:"owed"`      // msat, the payer's own ledger: what it verified
	FundingTx    Hex         `json:"funding_tx"`
	FundingSent  bool        `json:"funding_sent"`       // T1 may be on the network
	Unsigned     bool        `json:"unsigned,omitempty"` // T1 is another wallet's, whose signatures are not here yet
	GivenUp      bool        `json:"given_up,omitempty"` // never accepted: T1's coins may be spent elsewhere
	Imported     bool        `json:"imported,omitempty"` // read back from an export: only refunded
	RefundScript Hex         `json:"refund_script"`
	RefundSig    Hex         `json:"refund_sig,omitempty"` // the payee's, multisig only
	Offer        string      `json:"offer"`                // the challenge of the terms, as it came
	Accepted     bool        `json:"accepted"`             // the payee stored the opening
	Refund       *Broadcast  `json:"refund,omitempty"`
	Close        *PayerClose `json:"close,omitempty"`
	SpentBy      string      `json:"spent_by,omitempty"`
	Got          *uint64     `json:"got,omitempty"`     // as in PayeeRecord
	Duplex       *Duplex     `json:"duplex,omitempty"`  // duplex channels only
	Stopped      string      `json:"stopped,omitempty"` // why: an invariant was violated; see Stop
}

// PayerClose is the cooperative close, or the settlement that the payee returned.
type PayerClose struct {
	Tx   Hex    `json:"tx"`
	Txid string `json:"txid"`
}

// Opened puts the half-signature of the first update, over everything, into the
// record: `open` may leave when it is saved.
func (r PayerRecord) Opened(sig []byte) PayerRecord {
	r.Phase, r.Signature = Funding, sig
	if r.Terms.Construction == script.Duplex {
		r.Duplex = &Duplex{Sent: r.Terms.First(sig)}
	}
	return r
}

// Holding puts the newest update that is known into a record that is read back from
// an export, and what the payee of a duplex channel signed.
func (r PayerRecord) Holding(newest, held Update) PayerRecord {
	if r.Terms.Construction == script.Duplex {
		d := Duplex{Held: held, Sent: newest, Terms: r.Terms, Side: script.Payer}
		d.Ledger = d.Share() * 1000
		d.Phase = r.Phase
		return r.with(d)
	}
	r.Signed, r.Signature, r.Owed = newest.Amount, newest.Signature, newest.Amount*1000
	return r
}

// Newest is the newest update that the payer ever signed.
func (r PayerRecord) Newest() Update {
	if r.Duplex != nil {
		return r.Duplex.Sent
	}
	return Update{Amount: r.Signed, Signature: r.Signature}
}

// Limits is what a payer allows.
type Limits struct {
	Budget  uint64 // sat, the highest cumulative amount that it signs in this channel
	Prepay  uint64 // sat, how far it signs ahead of its own ledger
	Consent bool   // it may pay up to the capacity where a rest below dust would be left
	Blocked bool   // duplex: the payee's credit is used up, so a reversal may be of any size
}

// CheckOffer is the payer's rule for an offer: network, time, margin,
// confirmations, deposits, and that amounts are in range. Whether a minimum charge
// is to be believed depends on the going fee rate and is the buyer's to judge.
// Errors: ErrTerms.
func (o Offer) CheckOffer(network string, tip uint32, p Policy) error {
	switch {
	case o.Network != network:
		return refuse(ErrTerms, "the offer is for %q, not %q", o.Network, network)
	case o.Expiry <= tip || o.Expiry-tip > p.MaxDuration:
		return refuse(ErrTerms, "an expiry at %d is not within %d blocks of height %d", o.Expiry, p.MaxDuration, tip)
	case o.Margin >= p.MaxDuration || o.Expiry-tip <= o.Margin:
		return refuse(ErrTerms, "a margin of %d blocks", o.Margin)
	case uint64(tip)+uint64(o.Confirmations)+uint64(o.Margin) >= uint64(o.Expiry):
		return refuse(ErrTerms, "%d confirmations and a margin of %d blocks leave no time before the expiry at %d", o.Confirmations, o.Margin, o.Expiry)
	case o.Step > 0 && o.Step < o.Margin:
		return refuse(ErrTerms, "a step of %d blocks with a margin of %d", o.Step, o.Margin)
	case o.TxVersion != 2 && o.TxVersion != 3:
		return refuse(ErrTerms, "transaction version %d", o.TxVersion)
	case o.Tip > tip+6 || o.Tip+p.MaxDuration < tip:
		return refuse(ErrTerms, "the payee's tip %d and ours %d differ too much", o.Tip, tip)
	case o.MinDeposit > o.MaxDeposit || o.MaxDeposit > MaxSat:
		return refuse(ErrTerms, "deposits from %d to %d sat", o.MinDeposit, o.MaxDeposit)
	case o.MinimumCharge > MaxSat:
		return refuse(ErrTerms, "a minimum charge of %d sat", o.MinimumCharge)
	}
	return nil
}

// Confirmed moves from funding to open when T1 is deep enough for the first time.
func (r PayerRecord) deepen(v View) PayerRecord {
	if r.Phase == Funding && v.Depth() >= r.Terms.Confirmations {
		r.Phase = Open
	}
	return r
}

// Void reports whether nothing of the channel but its refund is to leave any more: it
// was given up and T1 was not seen since, so its coins may be spent elsewhere; it was
// imported, so what was signed in it is not known; or it was stopped.
func (r PayerRecord) Void() bool {
	return r.Phase.Final() || r.GivenUp && !r.FundingSent || r.Imported || r.Stopped != ""
}

// Unpaid is what the payer owes by its own ledger above what it signed, in msat.
func (r PayerRecord) Unpaid() uint64 { return r.Owed - min(r.Owed, r.Signed*1000) }

// Refundable is what comes back if everything stopped now, in sat.
func (r PayerRecord) Refundable() uint64 { return r.Terms.Capacity - r.Signed }

// CanBuy reports whether something of this price (msat) could be paid in this
// channel after all that is owed. Errors: ErrAmountExceeds, ErrFinalized.
func (r PayerRecord) CanBuy(price uint64) error {
	if err := r.Stop(); err != nil {
		return err
	}
	if r.Phase != Funding && r.Phase != Open || r.Void() {
		return refuse(ErrFinalized, "phase %s", r.Phase)
	}
	ledger, err := AddMsat(r.Owed, price)
	if err != nil {
		return err
	}
	return r.Terms.deliverable(ledger, r.Signed)
}

// Verified adds the price (msat) of what was received and verified to the
// payer's ledger. Errors: ErrOverflow.
func (r PayerRecord) Verified(price uint64) (PayerRecord, error) {
	sum, err := AddMsat(r.Owed, price)
	if err != nil {
		return r, err
	}
	r.Owed = sum
	return r, nil
}

// Pay decides the next amount to sign: what is owed by the payer's own ledger
// plus `ahead` msat that the payee wants before it delivers. The record that is
// returned carries the amount without its signature; Signature is added with
// SetSignature, and the record saved, before the update leaves.
// Errors: ErrPrepay, ErrBudget, ErrAmountExceeds, ErrFinalized.
func (r PayerRecord) Pay(ahead uint64, lim Limits) (next PayerRecord, amount uint64, err error) {
	owed := CeilSat(r.Owed)
	ledger, err := AddMsat(r.Owed, ahead)
	if err != nil {
		return r, 0, err
	}
	want := max(r.Signed, CeilSat(ledger))
	if want > r.Signed && want > owed && want-owed > lim.Prepay {
		return r, 0, refuse(ErrPrepay, "%d sat ahead, %d sat are allowed", want-owed, lim.Prepay)
	}
	return r.raise(want, lim)
}

// PayLast decides the last amount of a purchase: what is owed, or the minimum
// charge F where that is more, never above capacity − dust. It is saved in the
// same commit as the last chunk. Errors: as Pay.
func (r PayerRecord) PayLast(lim Limits) (next PayerRecord, amount uint64, err error) {
	floor := min(r.Terms.MinimumCharge, r.Terms.Capacity-min(r.Terms.Capacity, r.Terms.Dust()))
	return r.raise(max(r.Signed, CeilSat(r.Owed), floor), lim)
}

func (r PayerRecord) raise(want uint64, lim Limits) (PayerRecord, uint64, error) {
	if err := r.signs(); err != nil {
		return r, 0, err
	}
	if want == r.Signed {
		return r, want, nil
	}
	if r.Phase != Funding && r.Phase != Open && r.Phase != Settling {
		return r, 0, refuse(ErrFinalized, "phase %s", r.Phase)
	}
	if err := r.Terms.CheckAmount(want); err != nil {
		if want > r.Terms.Capacity || !lim.Consent {
			return r, 0, err
		}
		want = r.Terms.Capacity
	}
	if want > lim.Budget {
		return r, 0, refuse(ErrBudget, "%d sat, %d sat are allowed", want, lim.Budget)
	}
	r.Signed, r.Signature = want, nil
	return r, want, nil
}

// signs refuses to sign anything but the refund in a channel that was imported: the
// export may be old, and what was signed after it is not known. docs/protocol.md,
// section 12. Errors: ErrFinalized.
func (r PayerRecord) signs() error {
	if r.Imported {
		return refuse(ErrFinalized, "an imported channel is only refunded")
	}
	return nil
}

// CanClose refuses the payer's part in a cooperative close of a channel that was
// imported, and of one in which its own ledger is not paid yet.
// Errors: ErrFinalized, ErrOwes.
func (r PayerRecord) CanClose() error {
	if err := r.signs(); err != nil {
		return err
	}
	if r.Duplex == nil && r.Unpaid() > 0 {
		return refuse(ErrOwes, "%d msat", r.Unpaid())
	}
	return nil
}

// Ends is the payer's rule for the phase that a close which the payee answered with
// leads to: closing for an agreed one, settling for a settlement. Once the refund is on
// its way, or the channel over, neither changes anything. Errors: ErrFinalized.
func (r PayerRecord) Ends(as Phase) (PayerRecord, error) {
	if r.Phase != Funding && r.Phase != Open && r.Phase != as {
		return r, refuse(ErrFinalized, "phase %s", r.Phase)
	}
	r.Phase = as
	return r, nil
}

// SetSignature adds the half-signature for the record's amount.
func (r PayerRecord) SetSignature(sig []byte) PayerRecord {
	if r.Duplex != nil {
		return r.with(r.duplex().Signed(sig))
	}
	r.Signature = sig
	return r
}

// Resumed takes the newest update that the payee holds. Where it is above what
// this record knows, the record was lost or is old: the payer checks that it
// signed it and counts it as spent. A duplex channel has ResumedDuplex.
// Errors: ErrSignature, ErrAmountExceeds, ErrUnsupported.
func (r PayerRecord) Resumed(ch *script.Channel, u Update) (PayerRecord, bool, error) {
	if r.Duplex != nil {
		return r, false, refuse(ErrUnsupported, "money flows both ways in this channel")
	}
	if u.Amount <= r.Signed || r.Imported { // of what was imported only the refund is left
		return r, false, nil
	}
	if err := r.Terms.VerifyUpdate(ch, u); err != nil {
		return r, false, err
	}
	r.Signed, r.Signature = u.Amount, u.Signature
	r.Owed = max(r.Owed, u.Amount*1000)
	return r, true, nil
}

// CheckClose is the payer's rule for a cooperative close: one input, the
// channel's, without a relative lock; at most two outputs; the payer gets its
// whole rest, less only what the payee's share lacks for a fee of at most
// feeLimit (sat).
// Errors: ErrTerms.
func (r PayerRecord) CheckClose(tx *wire.MsgTx, feeLimit int64) error {
	if len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != wire.OutPoint(r.Terms.Outpoint) || tx.LockTime != 0 {
		return refuse(ErrTerms, "the close does not spend just this channel, now")
	}
	if tx.TxIn[0].Sequence != wire.MaxTxInSequenceNum-2 || tx.Version != r.Terms.TxVersion {
		return refuse(ErrTerms, "the close has sequence %x and version %d", tx.TxIn[0].Sequence, tx.Version)
	}
	if len(tx.TxOut) == 0 || len(tx.TxOut) > 2 {
		return refuse(ErrTerms, "the close has %d outputs", len(tx.TxOut))
	}
	var mine, total int64
	for _, out := range tx.TxOut {
		if out.Value < 0 || out.Value > int64(r.Terms.Capacity) {
			return refuse(ErrTerms, "the close pays more than there is")
		}
		total += out.Value
		if string(out.PkScript) == string(r.Terms.RestScript) && mine == 0 {
			mine = out.Value
		}
	}
	share := r.Signed
	if r.Duplex != nil {
		share = min(CeilSat(r.Owed), r.Terms.Capacity) // at the ledger
	}
	rest := int64(r.Terms.Capacity - share)
	fee := int64(r.Terms.Capacity) - total
	lack := max(0, min(fee, feeLimit)-int64(share))
	switch {
	case fee < 0:
		return refuse(ErrTerms, "the close pays more than there is")
	case rest-lack < int64(r.Terms.Dust()) && mine == 0:
		return nil // nothing is left that could be paid out
	case mine < rest-lack:
		return refuse(ErrTerms, "the close pays us %d sat of %d sat", mine, rest)
	}
	return nil
}

// Due is the payer's duty for a channel as the chain stands; see PayeeRecord.Due.
func (r PayerRecord) Due(ch *script.Channel, v View, p Policy) (PayerRecord, []Action) {
	if r.Phase.Final() || r.Phase == Prepared {
		return r, nil
	}
	if r.SpentBy = ""; v.Spend != nil {
		r.SpentBy = v.Spend.Txid
	}
	if !v.Funding.Seen && v.Spend == nil {
		if v.Funding.ConflictDepth >= max(p.Burial, 1) {
			r.Phase = Abandoned
		} else if r.FundingSent && !r.Unsigned {
			return r, []Action{{Kind: SendFunding, Tx: r.FundingTx}}
		}
		return r, nil
	}
	r.FundingSent = true
	if v.SpendDepth() >= max(p.Burial, 1) {
		r.Phase = Closed
		return r.ends(v.Spend), nil
	}
	r = r.deepen(v)
	if v.Spend != nil && v.Spend.Height > 0 {
		return r, nil
	}
	if r.Duplex != nil {
		return r.dueDuplex(ch, v, p)
	}
	if v.Spend == nil && r.Close != nil && len(r.Close.Tx) > 0 && v.Tip < r.Terms.Expiry {
		return r, []Action{{Kind: Send, Tx: r.Close.Tx}}
	}
	ours := v.Spend == nil || r.Refund.Is(v.Spend.Txid)
	if v.Tip < r.Terms.Expiry || !ours {
		return r, nil // too early, or the payee's settlement is on its way: an honest payer does not race it
	}
	r.Phase = Refunding
	return r, r.refund(ch, v)
}

// refundClimb is how a refund rises: it races the payee's settlement for what was
// signed. Where nothing was, nobody races it, and it follows the going rate.
func refundClimb(signed uint64, size int64) climb {
	return climb{on: signed > 0, limit: stakeRate(int64(signed), size)}
}

func (r PayerRecord) refund(ch *script.Channel, v View) []Action {
	if v.Funding.Height == 0 && r.Terms.TxVersion == 3 {
		return nil
	}
	size := ch.RefundVSize(r.RefundScript)
	limit := stakeRate(int64(r.Terms.Capacity)-script.Dust(r.RefundScript), size)
	rate, remake := nextRate(r.Refund, 0, v, refundClimb(r.Signed, size), limit)
	switch {
	case !remake && v.Spend != nil && v.Spend.Txid == r.Refund.Txid:
		return nil // it waits in the mempool
	case !remake:
		return []Action{{Kind: Send, Tx: r.Refund.Tx}}
	case rate <= 0:
		return nil
	}
	return []Action{{Kind: MakeRefund, Rate: rate}}
}
