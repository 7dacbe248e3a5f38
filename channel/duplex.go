package channel

import (
	"github.com/spillway/spillway/script"
)

// Duplex channels carry money both ways. Epoch k is one direction: the payer
// sends in odd epochs, the payee in even ones; epoch 0 is the refund. The states
// of epoch k are valid from lock(k) = expiry − k·step on, so that the newer of
// two epochs may always be mined first. docs/protocol.md, "Duplex channels".

// Duplex is what one side of a duplex channel remembers beside what every channel
// has. It is saved in the record of its side; what is not saved here is that
// record's, and set by it.
type Duplex struct {
	Held Update `json:"held"`          // newest in which this side is the receiver
	Sent Update `json:"sent"`          // newest that this side signed: spent, whatever was acknowledged
	Back uint64 `json:"back"`          // msat, cumulative: what the payee said it returns
	Off  uint64 `json:"off,omitempty"` // msat, cumulative: what the payee took off its ledger as withdrawn
	// Recent are the payee's newest charges, oldest first, MaxRecent at most: what is
	// not on offer any more may have never arrived.
	Recent []Charge `json:"recent,omitempty"`

	Terms  Terms       `json:"-"`
	Side   script.Side `json:"-"`
	Phase  Phase       `json:"-"`
	Ledger uint64      `json:"-"` // msat, what the payer owes the payee for all that went both ways, as this side counts it
	// Restored: from before a restore; nothing is reversed.
	Restored bool           `json:"-"`
	Close    *Broadcast     `json:"-"` // the settlement of Held, or the refund
	Reason   SettlingReason `json:"-"`
	SpentBy  string         `json:"-"`
}

// DuplexLimits is what one side allows itself to sign.
type DuplexLimits struct {
	Least   uint64 // sat, what a reversal must be worth; a settlement's cost
	Blocked bool   // the other side's credit is used up: a reversal of any size
	Budget  uint64 // sat, the most that may go to the other side in all
	Ahead   uint64 // msat, what the payer signs beyond the ledger: what is due before it comes
}

const msatPerSat = 1000

// SenderOf is who sends in an epoch.
func SenderOf(epoch uint32) script.Side {
	if epoch%2 == 1 {
		return script.Payer
	}
	return script.Payee
}

// Lock is the height from which on the states of an epoch may be broadcast;
// lock(0) is the expiry. ok is false where the channel has no such epoch.
func (t Terms) Lock(epoch uint32) (height uint32, ok bool) {
	down := uint64(epoch) * uint64(t.Step)
	if down >= uint64(t.Expiry) {
		return 0, false
	}
	return t.Expiry - uint32(down), true
}

// Epochs is how many epochs can still be begun at a tip: the k with
// tip < lock(k−1) − margin. The last of them is odd: it runs from the payer.
func (t Terms) Epochs(tip uint32) uint32 {
	if t.Step == 0 || uint64(tip)+uint64(t.Margin) >= uint64(t.Expiry) {
		return 0
	}
	left := t.Expiry - tip - t.Margin // > 0
	n := (left-1)/t.Step + 1
	return n - (n+1)%2
}

// CheckStep refuses a step below the margin: a newer state must be able to
// confirm before an older one is valid, also after a reorg and under censorship.
// Errors: ErrTerms.
func (t Terms) CheckStep() error {
	if t.Construction != script.Duplex {
		return nil
	}
	if t.Step < t.Margin || t.Step >= t.Expiry {
		return refuse(ErrTerms, "a step of %d blocks with a margin of %d", t.Step, t.Margin)
	}
	return nil
}

// open reports whether states of an epoch may still be made and taken at a tip.
func (t Terms) takes(epoch, tip uint32) bool {
	if epoch == 0 {
		return false
	}
	before, ok := t.Lock(epoch - 1)
	_, itself := t.Lock(epoch)
	return ok && itself && uint64(tip)+uint64(t.Margin) < uint64(before)
}

// State is what a half-signature of an epoch and an amount says.
func (t Terms) State(epoch uint32, amount uint64) (script.State, error) {
	lock, ok := t.Lock(epoch)
	if !ok || epoch == 0 {
		return script.State{}, refuse(ErrTerms, "there is no epoch %d", epoch)
	}
	if amount > t.Capacity {
		return script.State{}, refuse(ErrAmountExceeds, "%d sat of a capacity of %d sat", amount, t.Capacity)
	}
	by := SenderOf(epoch)
	rest := t.Capacity - amount
	if least := t.dustOf(by); rest > 0 && rest < least {
		return script.State{}, refuse(ErrAmountExceeds, "%d sat leave the %s %d sat, below the dust limit of %d sat", amount, by, rest, least)
	}
	return script.State{Sender: by, Lock: lock, Rest: int64(rest)}, nil
}

// dustOf is the least rest of a side, in sat.
func (t Terms) dustOf(by script.Side) uint64 {
	if by == script.Payee {
		return uint64(script.Dust(t.PayeeRest))
	}
	return t.Dust()
}

// Newest is the newest state of either side. Its amount is its receiver's.
func (r Duplex) Newest() Update {
	if r.Sent.Newer(r.Held) {
		return r.Sent
	}
	return r.Held
}

// Share is what the payee holds under the newest state, in sat.
func (r Duplex) Share() uint64 {
	s := r.Newest()
	if s.Epoch == 0 {
		return 0
	}
	if SenderOf(s.Epoch) == script.Payee {
		return r.Terms.Capacity - s.Amount
	}
	return s.Amount
}

// Target is the payee's share (sat) at which nobody owes anything: the ledger,
// rounded up once.
func (r Duplex) Target() uint64 { return CeilSat(r.Ledger) }

// Owes is what a side owes the other, in sat; one of the two is always 0.
func (r Duplex) Owes(by script.Side) uint64 {
	share, target := r.Share(), r.Target()
	if by == script.Payer {
		return target - min(target, share)
	}
	return share - min(share, target)
}

// owesWith is what this side owes, in sat, once so much more (msat) is in the ledger.
func (r Duplex) owesWith(ahead uint64) (uint64, error) {
	if ahead > 0 && r.Side == script.Payer {
		sum, err := AddMsat(r.Ledger, ahead)
		if err != nil {
			return 0, err
		}
		r.Ledger = sum
	}
	return r.Owes(r.Side), nil
}

// Take is the receiver's rule for an update that Terms.VerifyUpdate accepted. One
// that is not newer than the newest in which this side is the receiver, or that
// belongs to an epoch that this side has reversed since, is a success without
// effect. Errors: ErrFinalized, ErrTerms (an epoch out of turn), ErrExpiring,
// ErrAmountExceeds (a reversal that takes money back).
func (r Duplex) Take(s Update, tip uint32) (next Duplex, changed bool, err error) {
	newest := r.Newest().Epoch
	switch {
	case r.Phase == Closing || r.Phase.Final():
		return r, false, refuse(ErrFinalized, "phase %s", r.Phase)
	case s.Epoch == 0 || SenderOf(s.Epoch) == r.Side:
		return r, false, refuse(ErrTerms, "the %s sends nothing in epoch %d", r.Side.Other(), s.Epoch)
	case s.Epoch < newest || !s.Newer(r.Held):
		return r, false, nil
	case r.Restored: // what was signed since is not known: whatever is newer is taken, as it is resent
	case s.Epoch > newest+1:
		return r, false, refuse(ErrTerms, "epoch %d follows on epoch %d", s.Epoch, newest)
	case !r.Terms.takes(s.Epoch, tip):
		return r, false, refuse(ErrExpiring, "epoch %d takes nothing at height %d", s.Epoch, tip)
	case s.Epoch == newest+1 && s.Amount < r.own():
		return r, false, refuse(ErrAmountExceeds, "a reversal to %d sat of the %d sat that are the %s's already", s.Amount, r.own(), r.Side)
	}
	r.Held = s
	return r, true, nil
}

// own is what this side holds under the newest state, in sat.
func (r Duplex) own() uint64 {
	if r.Side == script.Payee {
		return r.Share()
	}
	return r.Terms.Capacity - r.Share()
}

// Pay decides the next state by which this side pays what it owes: more in its
// own epoch, or a reversal. The record carries the state without its signature;
// it is saved, signature and all, before the state leaves, and from then on
// states of older epochs count for nothing. due is false where nothing is owed,
// or a reversal would not be worth it yet.
// Errors: ErrFinalized, ErrExpiring, ErrBudget, ErrAmountExceeds.
func (r Duplex) Pay(tip uint32, lim DuplexLimits) (next Duplex, due bool, err error) {
	owed, err := r.owesWith(lim.Ahead)
	if err != nil {
		return r, false, err
	}
	if owed == 0 {
		return r, false, nil
	}
	if r.Phase != Open && r.Phase != Funding {
		return r, false, refuse(ErrFinalized, "phase %s", r.Phase)
	}
	newest := r.Newest()
	s := Update{Epoch: newest.Epoch, Amount: r.Terms.Capacity - r.own() + owed}
	if newest.Epoch == 0 || SenderOf(newest.Epoch) != r.Side {
		if owed < lim.Least && !lim.Blocked && newest.Epoch > 0 {
			return r, false, nil
		}
		s.Epoch++
	}
	switch {
	case SenderOf(s.Epoch) != r.Side:
		return r, false, refuse(ErrTerms, "the first payments go from the payer to the payee")
	case r.Restored && s.Epoch > newest.Epoch:
		return r, false, refuse(ErrExpiring, "this channel is from before a restore, it is not reversed")
	case !r.Terms.takes(s.Epoch, tip):
		return r, false, refuse(ErrExpiring, "epoch %d takes nothing at height %d", s.Epoch, tip)
	case s.Epoch > newest.Epoch && s.Epoch%2 == 0 && !r.Terms.takes(s.Epoch+1, tip):
		return r, false, refuse(ErrExpiring, "epoch %d would be the last, and the last one runs from the payer to the payee", s.Epoch)
	case s.Amount > lim.Budget:
		return r, false, refuse(ErrBudget, "%d sat, %d sat are allowed", s.Amount, lim.Budget)
	}
	if _, err := r.Terms.State(s.Epoch, s.Amount); err != nil {
		return r, false, err
	}
	r.Sent = s
	return r, true, nil
}

// Signed puts the half-signature of the state that Pay decided into the record.
func (r Duplex) Signed(sig []byte) Duplex {
	r.Sent.Signature = sig
	return r
}

// Charge is the rule under which the seller releases something of a price
// (msat): what the buyer then owes stays within the credit (msat), can be paid
// under the dust rule, and the buyer's next payment would still be taken.
// Errors: ErrFinalized, ErrExpiring, ErrUnconfirmed, ErrInsufficient,
// ErrAmountExceeds, ErrOverflow.
func (r Duplex) Charge(seller script.Side, price, credit uint64, v View) (Duplex, error) {
	if err := r.mayDeliver(seller.Other(), v); err != nil {
		return r, err
	}
	ledger := r.Ledger
	if seller == script.Payee {
		sum, err := AddMsat(ledger, price)
		if err != nil {
			return r, err
		}
		ledger = sum
	} else if ledger < price {
		return r, refuse(ErrAmountExceeds, "the payee has %d msat in this channel", ledger)
	} else {
		ledger -= price
	}
	next := r
	next.Ledger = ledger
	if next.Target() > r.Terms.Capacity {
		return r, refuse(ErrAmountExceeds, "%d msat of a capacity of %d sat", ledger, r.Terms.Capacity)
	}
	paid := r.Share() * 1000
	owed := ledger - min(ledger, paid)
	if seller == script.Payer {
		owed = paid - min(paid, ledger+msatPerSat-1) // less than a satoshi cannot be paid, and is not owed
	}
	if price > 0 && owed > credit {
		return r, next.insufficient(seller, credit)
	}
	return next, next.payable(seller.Other())
}

// insufficient says what a buyer has to have paid before a charge is accepted: the
// seller's total in sat. r has the charge in its ledger already.
func (r Duplex) insufficient(seller script.Side, credit uint64) *InsufficientError {
	e := &InsufficientError{Paid: r.Share(), Charged: r.Ledger, Ahead: credit == 0}
	if seller == script.Payee {
		e.Required = max(e.Paid, CeilSat(r.Ledger-min(r.Ledger, credit)))
		return e
	}
	e.Paid = r.Terms.Capacity - e.Paid
	e.Required = max(e.Paid, r.Terms.Capacity-min(r.Terms.Capacity, (r.Ledger+min(credit, MaxSat*1000)+msatPerSat-1)/msatPerSat))
	return e
}

// payable refuses what the buyer could not pay because of dust.
func (r Duplex) payable(buyer script.Side) error {
	owes := r.Owes(buyer)
	if owes == 0 {
		return nil
	}
	amount := r.Target()
	if buyer == script.Payee {
		amount = r.Terms.Capacity - amount
	}
	epoch := uint32(1)
	if buyer == script.Payee {
		epoch = 2
	}
	_, err := r.Terms.State(epoch, amount)
	return err
}

// mayDeliver refuses a delivery for every reason but money.
func (r Duplex) mayDeliver(buyer script.Side, v View) error {
	epoch := r.Newest().Epoch
	if epoch == 0 || SenderOf(epoch) != buyer {
		epoch++
	}
	switch {
	case r.Phase == Closing || r.Phase.Final():
		return refuse(ErrFinalized, "phase %s", r.Phase)
	case r.Phase == Settling || r.Restored:
		return refuse(ErrExpiring, "phase %s", r.Phase)
	case v.Spend != nil:
		return refuse(ErrExpiring, "the funding output is being spent by %s", v.Spend.Txid)
	case !v.Funding.Seen || v.Depth() < r.Terms.Confirmations:
		return &UnconfirmedError{Have: v.Depth(), Want: r.Terms.Confirmations}
	case SenderOf(epoch) != buyer:
		return refuse(ErrTerms, "the first payments go from the payer to the payee")
	case !r.Terms.takes(epoch, v.Tip):
		return refuse(ErrExpiring, "epoch %d takes no payment at height %d", epoch, v.Tip)
	}
	return nil
}

// PayBack lowers the payee's ledger by what it returns for chunks that were
// over-charged or withdrawn (msat). Errors: ErrAmountExceeds.
func (r Duplex) PayBack(msat uint64) (Duplex, error) {
	if msat > r.Ledger {
		return r, refuse(ErrAmountExceeds, "%d msat of a ledger of %d msat", msat, r.Ledger)
	}
	r.Ledger -= msat
	r.Back += msat
	return r, nil
}

// TakeBack is the payer's rule for what the payee says it returns, in all (msat,
// cumulative): the payer owes so much less. A repeat has no effect, but for what was
// more than the ledger, because something that was charged has not arrived here yet:
// that is taken when it has.
func (r Duplex) TakeBack(back uint64) Duplex {
	if back > r.Back {
		less := min(r.Ledger, back-r.Back)
		r.Ledger -= less
		r.Back += less
	}
	return r
}
