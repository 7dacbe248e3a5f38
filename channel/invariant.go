package channel

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/spillway/spillway/script"
)

// ErrInvariant: something that must always hold of a record, of a step from one record
// to the next, or of what is signed, does not. The rules of this package never lead to
// it: it is a defect of this program, or of the disk. docs/protocol.md, section 20.
var ErrInvariant = errors.New("an invariant is violated")

// ViolationError names the invariant, and what broke it.
type ViolationError struct {
	Rule string // short and stable
	What string
}

func (e *ViolationError) Error() string { return e.Rule + ": " + e.What }

// Unwrap makes errors.Is(err, ErrInvariant) true.
func (e *ViolationError) Unwrap() error { return ErrInvariant }

func violated(rule, format string, args ...any) error {
	return &ViolationError{Rule: rule, What: fmt.Sprintf(format, args...)}
}

// Step is what a payee's commit is for. The zero value charges nothing.
type Step struct {
	Charges bool   // something may be charged
	Credit  uint64 // msat, how far charged may exceed paid then
	View    View   // what it was decided in view of
	Pool    Pool   // as it is saved with it
}

var payeeMoves = map[Phase][]Phase{
	Funding:  {Open, Settling, Closing, Closed, Refunded, Abandoned},
	Open:     {Settling, Closing, Closed, Refunded, Abandoned},
	Settling: {Closed, Refunded, Abandoned},
	Closing:  {Closed, Refunded, Abandoned},
}

var payerMoves = map[Phase][]Phase{
	Prepared:  {Funding, Abandoned},
	Funding:   {Open, Settling, Closing, Refunding, Closed, Refunded, Abandoned},
	Open:      {Settling, Closing, Refunding, Closed, Refunded, Abandoned},
	Settling:  {Refunding, Closed, Refunded, Abandoned},
	Closing:   {Settling, Refunding, Closed, Refunded, Abandoned},
	Refunding: {Settling, Closed, Refunded, Abandoned},
}

// moves refuses a phase that does not follow on another.
func moves(table map[Phase][]Phase, old, next Phase) error {
	if old != next && !slices.Contains(table[old], next) {
		return violated("phase", "%s does not follow on %s", next, old)
	}
	return nil
}

// sound is what must hold of terms, whoever holds them.
func (t *Terms) sound() error {
	switch {
	case t.Capacity == 0 || t.Capacity > MaxSat:
		return violated("capacity", "%d sat", t.Capacity)
	case t.Expiry == 0 || t.Expiry >= 500_000_000 || t.Margin >= t.Expiry:
		return violated("time", "an expiry at %d with a margin of %d", t.Expiry, t.Margin)
	case bytes.Equal(t.PayerKey[1:], t.PayeeKey[1:]):
		return violated("keys", "both sides have the key %s", t.PayerKey)
	}
	return nil
}

// same refuses terms that changed.
func (t *Terms) same(old *Terms) error {
	if t.Outpoint != old.Outpoint || t.Capacity != old.Capacity || t.Expiry != old.Expiry || t.Margin != old.Margin ||
		t.PayerKey != old.PayerKey || t.PayeeKey != old.PayeeKey || t.Nonce != old.Nonce ||
		t.Construction != old.Construction || t.TxVersion != old.TxVersion || t.Network != old.Network ||
		t.Confirmations != old.Confirmations || t.ZeroConf != old.ZeroConf || t.Credit != old.Credit ||
		t.MinimumCharge != old.MinimumCharge || t.Step != old.Step ||
		!bytes.Equal(t.RestScript, old.RestScript) || !bytes.Equal(t.PayeeRest, old.PayeeRest) {
		return violated("terms", "they changed")
	}
	return nil
}

// Sound is what must hold of a payee's record by itself, whenever it is read, saved or
// signed for. Errors: ErrInvariant.
func (r *PayeeRecord) Sound() error {
	if err := r.Terms.sound(); err != nil {
		return err
	}
	switch {
	case !slices.Contains(payeePhases, r.Phase):
		return violated("phase", "%q", r.Phase)
	case r.Paid > r.Terms.Capacity:
		return violated("capacity", "paid %d sat of %d sat", r.Paid, r.Terms.Capacity)
	case r.Charged > MaxSat*1000 || CeilSat(r.Charged) > max(r.Paid, r.Terms.Capacity):
		return violated("payable", "charged %d msat of %d sat", r.Charged, r.Terms.Capacity)
	case r.Paid > 0 && len(r.Signature) == 0:
		return violated("signature", "paid %d sat without a half-signature", r.Paid)
	case (r.Phase == Closing) && r.Close == nil:
		return violated("close", "closing, but no close is agreed")
	case r.Close != nil && (r.Close.Amount > r.Terms.Capacity || r.Close.Fee < 0 || r.Close.Fee > int64(r.Terms.Capacity)):
		return violated("close", "agreed at %d sat with a fee of %d sat", r.Close.Amount, r.Close.Fee)
	case r.Close != nil && (r.Phase == Funding || r.Phase == Open):
		return violated("close", "agreed, but the phase is %s", r.Phase)
	case r.Settlement != nil && !r.Settlement.sound(&r.Terms):
		return violated("settlement", "of %d sat with a fee of %d sat at %d", r.Settlement.Amount, r.Settlement.Fee, r.Settlement.Rate)
	}
	if r.Duplex != nil || r.Terms.Construction == script.Duplex {
		return r.soundDuplex()
	}
	switch {
	case r.Terms.CheckAmount(max(r.Paid, CeilSat(r.Charged))) != nil:
		return violated("payable", "charged %d msat, paid %d sat leave a rest below dust", r.Charged, r.Paid)
	case r.Close != nil && (r.Close.Amount != r.Paid || r.Owed() > 0):
		return violated("close", "agreed at %d sat, paid %d sat, owed %d msat", r.Close.Amount, r.Paid, r.Owed())
	case r.Settlement != nil && r.Settlement.Amount > r.Paid:
		return violated("settlement", "of %d sat, paid are %d sat", r.Settlement.Amount, r.Paid)
	}
	return nil
}

// sound: a broadcast is of some amount, leaves a fee, and has a transaction.
func (b *Broadcast) sound(t *Terms) bool {
	return b.Amount <= t.Capacity && b.Fee >= 0 && b.Fee <= MaxSat && b.Rate > 0 && len(b.Tx) > 0 && b.Txid != ""
}

// lock is a broadcast's nLockTime; 0 where it cannot be read.
func (b *Broadcast) lock() uint32 {
	tx, err := DecodeTx(b.Tx)
	if err != nil {
		return 0
	}
	return tx.LockTime
}

// Follows is what must hold between a payee's record and the one before, at each
// commit; s is what the commit is for. Errors: ErrInvariant.
func (r *PayeeRecord) Follows(old *PayeeRecord, s *Step) error {
	if err := r.Terms.same(&old.Terms); err != nil {
		return err
	}
	if err := moves(payeeMoves, old.Phase, r.Phase); err != nil {
		return err
	}
	switch {
	case old.Stopped != "" || r.Stopped != "":
		return r.frozen(old)
	case r.MaxPrice < old.MaxPrice || r.NewcomerAbove != old.NewcomerAbove || !bytes.Equal(r.Digest, old.Digest):
		return violated("record", "what is kept of the opening or of the dearest chunk changed")
	case old.Restored && !r.Restored:
		return violated("restored", "the mark of a restore is gone")
	case len(old.FundingTx) > 0 && !bytes.Equal(r.FundingTx, old.FundingTx):
		return violated("funding", "the funding transaction changed")
	}
	if err := r.followsMoney(old); err != nil {
		return err
	}
	if err := r.followsEnd(old); err != nil {
		return err
	}
	if r.Charged > old.Charged {
		return r.charged(old, s)
	}
	return nil
}

// followsMoney: no amount falls, and none changes that is over.
func (r *PayeeRecord) followsMoney(old *PayeeRecord) error {
	if r.Duplex != nil || old.Duplex != nil {
		return followDuplex(r.Duplex, old.Duplex)
	}
	same := bytes.Equal(r.Signature, old.Signature)
	switch {
	case r.Paid < old.Paid:
		return violated("paid-fell", "from %d to %d sat", old.Paid, r.Paid)
	case r.Charged < old.Charged:
		return violated("charged-fell", "from %d to %d msat", old.Charged, r.Charged)
	case r.Paid == old.Paid && !same:
		return violated("signature", "another half-signature for the same %d sat", r.Paid)
	case r.Paid > old.Paid && same:
		return violated("signature", "paid rose to %d sat without a half-signature", r.Paid)
	case r.Paid > old.Paid && (old.Phase == Closing || old.Phase.Final()):
		return violated("final", "paid rose to %d sat in phase %s", r.Paid, old.Phase)
	}
	return nil
}

// followsEnd: what was agreed or broadcast stands, and no rate falls, but of a channel
// that is settled alone after a batch.
func (r *PayeeRecord) followsEnd(old *PayeeRecord) error {
	was, now := old.Settlement, r.Settlement
	switch {
	case old.Close != nil && (r.Close == nil || r.Close.Txid != old.Close.Txid || r.Close.Amount != old.Close.Amount || !bytes.Equal(r.Close.Tx, old.Close.Tx)):
		return violated("close", "what was agreed changed")
	case old.Close != nil && len(old.Close.FinalTx) > 0 && len(r.Close.FinalTx) == 0:
		return violated("close", "the completed close is gone")
	case old.Close == nil && r.Close != nil && (r.Phase != Closing || r.Restored):
		return violated("close", "agreed in phase %s, restored: %t", r.Phase, r.Restored)
	case was != nil && now == nil:
		return violated("settlement", "it is gone")
	case now == nil || was != nil && now.Txid == was.Txid:
		return nil
	case r.Phase != Settling && r.Phase != Closing:
		return violated("settlement", "made in phase %s", r.Phase)
	case r.Duplex != nil && was != nil && now.lock() != was.lock():
		return nil // of another epoch, which may be worth less
	case was != nil && len(was.Batch) > 1 && len(now.Batch) < 2 && now.Amount >= was.Amount:
		return nil
	case was != nil && (now.Rate < was.Rate || now.Amount < was.Amount):
		return violated("rate-fell", "from %d at %d to %d at %d", was.Amount, was.Rate, now.Amount, now.Rate)
	}
	return nil
}

// charged is what must hold where something is charged.
func (r *PayeeRecord) charged(old *PayeeRecord, s *Step) error {
	if !old.Restored && r.Restored && r.Charged == r.Paid*1000 {
		return nil // raised to paid: nothing is delivered on it any more
	}
	v := &s.View
	counted := r.Paid * 1000
	if v.Depth() < r.Terms.Confirmations {
		counted = 0
	}
	owed := r.Charged - min(r.Charged, counted)
	switch {
	case !s.Charges:
		return violated("charge", "charged rose from %d to %d msat by a step that charges nothing", old.Charged, r.Charged)
	case old.Phase != Funding && old.Phase != Open || r.Restored:
		return violated("charge", "in phase %s, restored: %t", old.Phase, r.Restored)
	case v.Spend != nil || !v.Funding.Seen:
		return violated("charge", "while the funding is spent, or not seen")
	case v.Depth() < r.Terms.Confirmations && r.Charged > r.Terms.ZeroConf:
		return violated("charge", "%d msat over a funding with %d of %d confirmations", r.Charged, v.Depth(), r.Terms.Confirmations)
	case r.Duplex == nil && v.Tip >= r.Terms.deadline():
		return violated("charge", "at height %d, within the margin before %d", v.Tip, r.Terms.Expiry)
	case owed > max(r.Terms.Credit, s.Credit):
		return violated("credit", "%d msat are owed, the credit is %d msat", owed, max(r.Terms.Credit, s.Credit))
	case owed > 0 && r.needsPlace(owed, *v) && s.Pool.Places[r.Terms.ID()].Owed < owed:
		return violated("pool", "a newcomer owes %d msat without a place for it", owed)
	}
	return nil
}

// needsPlace reports whether what a channel owes has to be covered by the pool (msat).
func (r *PayeeRecord) needsPlace(owed uint64, v View) bool {
	return !r.confirmed(v) || max(r.MaxPrice, owed) > r.NewcomerAbove && !r.graduated(0, v)
}

// frozen: in a stopped channel nothing moves but the phase, by what the chain shows,
// the settlement of what is held, and T1 where it was seen for the first time.
func (r *PayeeRecord) frozen(old *PayeeRecord) error {
	switch {
	case r.Stopped == "" || old.Stopped != "" && r.Stopped != old.Stopped:
		return violated("stopped", "the mark of a stop is gone")
	case r.Paid != old.Paid || r.Charged != old.Charged || !bytes.Equal(r.Signature, old.Signature) ||
		(r.Close == nil) != (old.Close == nil) || !sameDuplex(r.Duplex, old.Duplex):
		return violated("stopped", "something of a stopped channel changed")
	case r.Close != nil && (r.Close.Txid != old.Close.Txid || !bytes.Equal(r.Close.PayeeNonce, old.Close.PayeeNonce)):
		return violated("stopped", "the close of a stopped channel changed")
	}
	return nil
}

// Begins is what must hold of a payee's record that is saved for the first time.
// Errors: ErrInvariant.
func (r *PayeeRecord) Begins() error {
	switch {
	case r.Phase != Funding && r.Phase != Open:
		return violated("phase", "a channel begins as %s", r.Phase)
	case r.Charged > 0 && !r.Restored || r.Close != nil || r.Settlement != nil || r.Stopped != "":
		return violated("record", "a channel begins with something charged or closed")
	case len(r.Signature) == 0:
		return violated("signature", "a channel begins without a half-signature")
	}
	return r.Sound()
}

// Sound is what must hold of the newcomers' pool whenever it is saved; old is what it
// was made from. All newcomers together never take more than the pool, nor any one more
// than its place (unless less is on sale than there was). Errors: ErrInvariant.
func (p Pool) Sound(old Pool) error {
	if taken := p.Taken(); taken > p.Size {
		if was := old.Taken(); taken > was {
			return violated("pool", "%d msat are taken of %d msat", taken, p.Size)
		}
	}
	for id, place := range p.Places {
		if place.Owed > place.Reserved && place.Owed > old.Places[id].Owed {
			return violated("pool", "%s owes %d msat on a place of %d msat", id, place.Owed, place.Reserved)
		}
	}
	return nil
}
