package channel

import (
	"errors"

	"github.com/spillway/spillway/script"
)

// A duplex channel lives in the same records as any other: there "paid" and
// "signed" are the payee's share in the newest state (sat), "charged" and "owed"
// the ledger (msat), and either may fall.

// duplex is the record's duplex part with what the record knows.
func (r PayeeRecord) duplex() Duplex {
	d := *r.Duplex
	d.Terms, d.Side, d.Phase, d.Ledger = r.Terms, script.Payee, r.Phase, r.Charged
	d.Restored, d.Close, d.Reason, d.SpentBy = r.Restored, r.Settlement, r.Reason, r.SpentBy
	return d
}

// with puts a duplex part back into the record.
func (r PayeeRecord) with(d Duplex) PayeeRecord {
	r.Phase, r.Reason, r.SpentBy = d.Phase, d.Reason, d.SpentBy
	r.Paid, r.Charged, r.Signature = d.Share(), d.Ledger, d.Held.Signature
	r.Duplex = &d
	return r
}

func (r PayerRecord) duplex() Duplex {
	d := *r.Duplex
	d.Terms, d.Side, d.Phase, d.Ledger, d.Close, d.SpentBy = r.Terms, script.Payer, r.Phase, r.Owed, r.Refund, r.SpentBy
	return d
}

func (r PayerRecord) with(d Duplex) PayerRecord {
	r.Phase, r.SpentBy = d.Phase, d.SpentBy
	r.Signed, r.Owed, r.Signature = d.Share(), d.Ledger, d.Sent.Signature
	r.Duplex = &d
	return r
}

// payDuplex is Pay for a duplex channel: a state of the payer's, and a charge.
func (r PayeeRecord) payDuplex(p Payment, v View, pool Pool) Outcome {
	out := Outcome{Record: r, Pool: pool}
	if p.Update != nil {
		d, raised, err := r.duplex().Take(*p.Update, v.Tip)
		if err != nil {
			out.Refusal = err
			return out
		}
		if raised {
			out.Record, out.Raised, out.RecordChanged = r.with(d), true, true
		}
	}
	out = out.settlePool(v)
	if !p.Deliver {
		return out
	}
	credit := max(r.Terms.Credit, p.Credit)
	d, err := out.Record.deepen(v).duplex().Charge(script.Payee, p.Price, credit, v)
	if err != nil {
		out.Refusal = err
		return out
	}
	if out = out.admit(p, d.Ledger-min(d.Ledger, out.Record.Paid*1000), v); out.Refusal != nil {
		return out
	}
	out.RecordChanged = out.RecordChanged || p.Price > 0 || d.Phase != out.Record.Phase
	d.Recent = recent(d.Recent, p.Charges)
	out.Record = out.Record.with(d)
	out.Record.MaxPrice = max(r.MaxPrice, p.Dearest)
	return out
}

// PayBack is the payee's rule for money that flows back: msat are returned (0:
// none), and what the payee owes is paid by a state of its own, where that is
// due. The state is signed, saved with the record, and then sent. Where no state can
// say it, because it is too late for a reversal or the rest would be dust, the payer
// owes so much less, and a cooperative close returns it.
// Errors: ErrUnsupported, and those of Duplex.PayBack and Duplex.Pay.
func (r PayeeRecord) PayBack(msat uint64, tip uint32, lim DuplexLimits) (next PayeeRecord, due bool, err error) {
	if r.Duplex == nil {
		return r, false, refuse(ErrUnsupported, "money flows one way in a %s channel", r.Terms.Construction)
	}
	d, err := r.duplex().PayBack(msat)
	if err != nil {
		return r, false, err
	}
	lim.Budget = r.Terms.Capacity
	paid, due, err := d.Pay(tip, lim)
	switch {
	case err == nil:
		return r.with(paid), due, nil
	case !r.Restored && tip < r.Terms.deadline() && (errors.Is(err, ErrExpiring) || errors.Is(err, ErrAmountExceeds)):
		return r.with(d), false, nil // no state can say it; a close is at the ledger
	}
	return r, false, err
}

// Bought is the payee's rule for goods that it got from the payer and verified
// (msat): it owes so much more. Errors: ErrUnsupported, ErrAmountExceeds.
func (r PayeeRecord) Bought(msat uint64) (PayeeRecord, error) {
	if r.Duplex == nil {
		return r, refuse(ErrUnsupported, "money flows one way in a %s channel", r.Terms.Construction)
	}
	d := r.duplex()
	if msat > d.Ledger {
		return r, refuse(ErrAmountExceeds, "%d msat of a ledger of %d msat", msat, d.Ledger)
	}
	d.Ledger -= msat
	return r.with(d), nil
}

// SentSigned puts the half-signature of what PayBack decided into the record.
func (r PayeeRecord) SentSigned(sig []byte) PayeeRecord {
	return r.with(r.duplex().Signed(sig))
}

// TakeBack is the payer's rule for money that flows back: what the payee says it
// returns in all (msat, cumulative), and its newest state, verified with
// Terms.VerifyUpdate; a state without a signature is none.
// Errors: ErrUnsupported, and those of Duplex.Take.
func (r PayerRecord) TakeBack(back uint64, u Update, tip uint32) (next PayerRecord, changed bool, err error) {
	if r.Duplex == nil {
		return r, false, refuse(ErrUnsupported, "money flows one way in a %s channel", r.Terms.Construction)
	}
	d := r.duplex()
	told := d.TakeBack(back)
	changed = told.Back != d.Back
	if len(u.Signature) > 0 {
		took, raised, err := told.Take(u, tip)
		if err != nil {
			return r, false, err
		}
		told, changed = took, changed || raised
	}
	return r.with(told), changed, nil
}

// Sell is the payer's rule for goods of its own that the payee asks for on
// credit; see Duplex.Charge. Errors: ErrUnsupported, and those of Duplex.Charge.
func (r PayerRecord) Sell(price, credit uint64, v View) (PayerRecord, error) {
	if r.Duplex == nil {
		return r, refuse(ErrUnsupported, "money flows one way in a %s channel", r.Terms.Construction)
	}
	if err := r.signs(); err != nil {
		return r, err
	}
	d, err := r.deepen(v).duplex().Charge(script.Payer, price, credit, v)
	if err != nil {
		return r, err
	}
	return r.with(d), nil
}

// PayState decides the state by which a duplex channel's payer pays its ledger, and
// so much (msat) ahead of it. Where it is a new one it has no signature yet
// (SetSignature). A reversal may be of any size once what is owed uses up the
// payee's credit, which is one chunk or more.
// Errors: those of Duplex.Pay, ErrPrepay.
func (r PayerRecord) PayState(ahead uint64, tip uint32, lim Limits) (PayerRecord, error) {
	if err := r.signs(); err != nil {
		return r, err
	}
	d := r.duplex()
	sum, err := AddMsat(r.Owed, ahead)
	if err != nil {
		return r, err
	}
	if want := CeilSat(sum); want > max(r.Signed, CeilSat(r.Owed)) && want-max(r.Signed, CeilSat(r.Owed)) > lim.Prepay {
		return r, refuse(ErrPrepay, "%d sat ahead, %d sat are allowed", want-max(r.Signed, CeilSat(r.Owed)), lim.Prepay)
	}
	blocked := lim.Blocked || ahead > 0 || r.Unpaid() >= r.Terms.Credit
	d, _, err = d.Pay(tip, DuplexLimits{Budget: lim.Budget, Least: r.Terms.MinimumCharge, Blocked: blocked, Ahead: ahead})
	if err != nil {
		return r, err
	}
	return r.with(d), nil
}

// Resumed is what a payee tells of a duplex channel that is gone on with.
type Resumed struct {
	Held Update // the payer's newest, as the payee holds it
	Back uint64 // msat, cumulative: what the payee returns
	Sent Update // the payee's newest; no signature: none
}

// ResumedDuplex is Resumed for a duplex channel. A state of the payer's own that this
// record has forgotten is verified and counts as signed; what was verified since
// is not known then, so the ledger is what the newest state says, and nobody owes
// anything. Then what the payee returns is taken, as in TakeBack; a state of its
// that comes too late to be taken is left, and the older one stays.
// Errors: ErrSignature, ErrAmountExceeds, ErrTerms, ErrUnsupported.
func (r PayerRecord) ResumedDuplex(ch *script.Channel, q Resumed, tip uint32) (next PayerRecord, changed bool, err error) {
	if r.Duplex == nil {
		return r, false, refuse(ErrUnsupported, "money flows one way in a %s channel", r.Terms.Construction)
	}
	if err := r.signs(); err != nil {
		return r, false, err
	}
	d := r.duplex()
	if len(q.Sent.Signature) > 0 {
		if SenderOf(q.Sent.Epoch) != script.Payee {
			return r, false, refuse(ErrTerms, "the payee sends nothing in epoch %d", q.Sent.Epoch)
		}
		if err := r.Terms.VerifyUpdate(ch, q.Sent); err != nil {
			return r, false, err
		}
	}
	forgot := q.Held.Newer(d.Sent)
	if forgot {
		if SenderOf(q.Held.Epoch) != script.Payer {
			return r, false, refuse(ErrTerms, "the payer sends nothing in epoch %d", q.Held.Epoch)
		}
		if err := r.Terms.VerifyUpdate(ch, q.Held); err != nil {
			return r, false, err
		}
		d.Sent, changed = q.Held, true
	}
	if len(q.Sent.Signature) > 0 && r.Phase != Closing && !r.Phase.Final() {
		took, raised, err := d.Take(q.Sent, tip)
		if err != nil && !errors.Is(err, ErrExpiring) {
			return r, false, err
		}
		if err == nil {
			d, changed = took, changed || raised
		}
	}
	if forgot {
		d.Ledger, d.Back = d.Share()*1000, max(d.Back, q.Back)
		return r.with(d), true, nil
	}
	told := d.TakeBack(q.Back)
	return r.with(told), changed || told.Back != d.Back, nil
}

// CheckLock refuses an update whose epoch does not have the lock that came with it.
// Errors: ErrSignature.
func (t Terms) CheckLock(epoch, lock uint32) error {
	want, ok := t.Lock(epoch)
	if t.Construction != script.Duplex {
		want, ok = 0, epoch == 0
	}
	if !ok || lock != want {
		return refuse(ErrSignature, "epoch %d with a lock at height %d", epoch, lock)
	}
	return nil
}
