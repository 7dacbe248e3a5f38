package channel

import (
	"bytes"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// graduation is how many of its dearest chunks, above F, a newcomer has paid
// (in confirmed money) when it stops being one.
const graduation = 10

// PayeeRecord is all that a payee remembers of one channel.
type PayeeRecord struct {
	Terms         Terms          `json:"terms"`
	Phase         Phase          `json:"phase"`
	Paid          uint64         `json:"paid"`           // sat, newest cumulative amount held
	Signature     Hex            `json:"signature"`      // its half-signature
	Charged       uint64         `json:"charged"`        // msat, price of what was released
	MaxPrice      uint64         `json:"max_price"`      // msat, dearest chunk on credit
	Place         bool           `json:"place"`          // may hold a place in the newcomers' pool
	NewcomerAbove uint64         `json:"newcomer_above"` // msat; chunks up to this price need no place
	FundingTx     Hex            `json:"funding_tx,omitempty"`
	Digest        Hex            `json:"digest"` // of the opening; a repeat must have the same
	Close         *PayeeClose    `json:"close,omitempty"`
	Settlement    *Broadcast     `json:"settlement,omitempty"`
	Made          []Made         `json:"made,omitempty"` // settlements before the newest one
	Reason        SettlingReason `json:"reason,omitempty"`
	Restored      bool           `json:"restored,omitempty"` // from before a restore: only updates and settlement
	SpentBy       string         `json:"spent_by,omitempty"` // txid of what spends the output, as last seen
	Got           *uint64        `json:"got,omitempty"`      // sat, what the buried transaction left to the payee before its fee; nil: not known
	Duplex        *Duplex        `json:"duplex,omitempty"`   // duplex channels only
	Stopped       string         `json:"stopped,omitempty"`  // why: an invariant was violated; see Stop
}

// SettlingReason says why a payee settles.
type SettlingReason string

// Why a payee settles.
const (
	AtMargin    SettlingReason = "margin"    // the expiry is a margin away
	WhenAsked   SettlingReason = "asked"     // its operator, or the payer of a multisig channel
	SpendSeen   SettlingReason = "spend"     // a refund or an older state was seen
	CloseUnseen SettlingReason = "unseen"    // a cooperative close was signed and does not appear
	Misbehaved  SettlingReason = "misbehave" // the payer broke a rule
)

// PayeeClose is the cooperative close that the payee agreed to. It is saved
// before the partial signature leaves, and then final.
type PayeeClose struct {
	Amount     uint64 `json:"amount"` // sat, the payee's share before the fee
	Fee        int64  `json:"fee"`    // sat
	Tx         Hex    `json:"tx"`     // unsigned
	Txid       string `json:"txid"`
	Height     uint32 `json:"height"` // tip when it was agreed
	PayerNonce Hex    `json:"payer_nonce"`
	PayeeNonce Hex    `json:"payee_nonce"`
	Partial    Hex    `json:"partial"`
	FinalTx    Hex    `json:"final_tx,omitempty"`
}

// Open is the payee's rule for an `open`: the terms, the time left, the first
// update, and T1 as the chain shows it (out is the output at the opening's
// outpoint, nil when T1 is not seen). Nothing is to be stored on an error.
// Errors: ErrTerms, ErrAmountExceeds, ErrSignature, ErrUnconfirmed.
func (o Offer) Open(op Opening, p Policy, v View, out *wire.TxOut) (PayeeRecord, error) {
	t, _, err := o.Terms(op, p)
	if err != nil {
		return PayeeRecord{}, err
	}
	if err := t.TimeLeft(v.Tip, p); err != nil {
		return PayeeRecord{}, err
	}
	return o.open(op, p, v, out)
}

// OpenRestored is the payee's rule for an `open` on an offer from before a restore: the
// channel may have been forgotten, and what was delivered on it with it. It is taken
// for updates and settlement only, as long as a settlement can confirm before the
// refund. Errors: as Open. docs/protocol.md, section 12.
func (o Offer) OpenRestored(op Opening, p Policy, v View, out *wire.TxOut) (PayeeRecord, error) {
	if v.Tip >= o.Expiry {
		return PayeeRecord{}, refuse(ErrTerms, "at height %d it is too late to settle what expires at %d", v.Tip, o.Expiry)
	}
	r, err := o.open(op, p, v, out)
	if err != nil {
		return r, err
	}
	r.Restored, r.Charged = true, r.Paid*1000
	return r, nil
}

// open is what is the same in both.
func (o Offer) open(op Opening, p Policy, v View, out *wire.TxOut) (PayeeRecord, error) {
	t, ch, err := o.Terms(op, p)
	if err != nil {
		return PayeeRecord{}, err
	}
	if first := t.First(nil).Epoch; op.Update.Epoch != first {
		return PayeeRecord{}, refuse(ErrTerms, "the first update is of epoch %d, not %d", op.Update.Epoch, first)
	}
	if err := t.VerifyUpdate(ch, op.Update); err != nil {
		return PayeeRecord{}, err
	}
	if !v.Funding.Seen || out == nil {
		return PayeeRecord{}, &UnconfirmedError{Want: t.Confirmations}
	}
	switch {
	case v.Spend != nil:
		return PayeeRecord{}, refuse(ErrTerms, "the output %s is spent already", t.Outpoint)
	case out.Value != int64(t.Capacity):
		return PayeeRecord{}, refuse(ErrTerms, "the output %s holds %d sat, not %d sat", t.Outpoint, out.Value, t.Capacity)
	case !bytes.Equal(out.PkScript, ch.OutputScript()):
		return PayeeRecord{}, refuse(ErrTerms, "the output %s has another script than these terms", t.Outpoint)
	}
	r := PayeeRecord{
		Terms: t, Phase: Funding, Paid: op.Update.Amount, Signature: op.Update.Signature,
		FundingTx: op.FundingTx,
	}
	if t.Construction == script.Duplex {
		r.Duplex = &Duplex{Held: op.Update}
	}
	return r.deepen(v), nil
}

// confirmed reports whether the funding is as deep as the terms want it, now.
func (r PayeeRecord) confirmed(v View) bool { return v.Depth() >= r.Terms.Confirmations }

// deepen moves from funding to open when T1 is deep enough for the first time.
func (r PayeeRecord) deepen(v View) PayeeRecord {
	if r.Phase == Funding && r.confirmed(v) {
		r.Phase = Open
	}
	return r
}

// Owed is what was charged above what was paid, in msat.
func (r PayeeRecord) Owed() uint64 {
	return r.Charged - min(r.Charged, r.Paid*1000)
}

// Update is the rule for an update that Terms.VerifyUpdate accepted. A lower or
// an equal amount is a success without effect. It is taken in every phase but
// the final ones, also within the margin. Errors: ErrFinalized.
func (r PayeeRecord) Update(u Update) (next PayeeRecord, changed bool, err error) {
	if r.Phase == Closing || r.Phase.Final() {
		return r, false, refuse(ErrFinalized, "phase %s", r.Phase)
	}
	if u.Amount <= r.Paid {
		return r, false, nil
	}
	r.Paid, r.Signature = u.Amount, u.Signature
	return r, true, nil
}

// Payment is a request that pays, is to be charged, or both.
type Payment struct {
	Update  *Update  // verified with Terms.VerifyUpdate; nil: none came
	Price   uint64   // msat of all chunks in the request that were not charged yet
	Dearest uint64   // msat of the dearest single one of them
	Credit  uint64   // msat, the credit that the payee's policy gives for this resource
	Charges []Charge // what Price is made of; duplex channels remember it
	Deliver bool     // false: the payment alone, nothing is to be released
	Now     int64    // unix seconds
}

// Outcome is what a payment leads to. Record and Pool are to be saved in one
// commit where they changed, also when there is a refusal: an update that came
// with a request that is refused is money all the same.
type Outcome struct {
	Record        PayeeRecord
	Pool          Pool
	RecordChanged bool
	PoolChanged   bool
	Raised        bool  // the update raised what is paid
	Refusal       error // nil: what was asked may be released once all is saved
}

// Pay is the one rule under which anything is released: the update, the credit,
// the capacity and the pool are checked, and the new charge made, in one step.
// Refusals: ErrFinalized, ErrExpiring, ErrUnconfirmed, ErrInsufficient,
// ErrAmountExceeds, ErrOverflow. docs/protocol.md, "Paying".
func (r PayeeRecord) Pay(p Payment, v View, pool Pool) Outcome {
	if r.Duplex != nil {
		return r.payDuplex(p, v, pool)
	}
	out := Outcome{Record: r, Pool: pool}
	if p.Update != nil {
		next, raised, err := r.Update(*p.Update)
		if err != nil {
			out.Refusal = err
			return out
		}
		out.Record, out.Raised, out.RecordChanged = next, raised, raised
	}
	out = out.settlePool(v)
	if !p.Deliver {
		return out
	}
	return out.charge(p, v)
}

// settlePool gives back to the pool what a confirmed payment covered and takes
// a channel out that has graduated.
func (out Outcome) settlePool(v View) Outcome {
	r, id := out.Record, out.Record.Terms.ID()
	place, has := out.Pool.Places[id]
	if !has || !r.confirmed(v) {
		return out
	}
	if place.Owed > r.Owed() {
		out.Pool, out.PoolChanged = out.Pool.Paid(id, r.Owed()), true
	}
	if r.graduated(0, v) {
		out.Pool, out.PoolChanged = out.Pool.Leave(id, false), true
		out.Record.Place, out.RecordChanged = false, true
	}
	return out
}

// graduated reports whether the channel has paid so much confirmed money that a
// chunk of this price needs no place: F and ten times its dearest chunk. It is
// asked anew for each price, so that small change buys no large credit.
func (r PayeeRecord) graduated(price uint64, v View) bool {
	dearest := min(max(price, r.MaxPrice), MaxSat*100)
	return r.confirmed(v) && r.Paid >= r.Terms.MinimumCharge &&
		(r.Paid-r.Terms.MinimumCharge)*1000 >= graduation*dearest
}

// UsesPool reports whether a payment has to be decided together with the newcomers'
// pool.
func (r PayeeRecord) UsesPool(p Payment, v View) bool {
	return r.Place || !r.confirmed(v) || r.newcomer(p.Dearest, v) ||
		r.Owed()+min(p.Price, MaxSat*1000) > r.NewcomerAbove && !r.graduated(p.Dearest, v)
}

// charge releases p.Price or refuses.
func (out Outcome) charge(p Payment, v View) Outcome {
	r := out.Record
	if err := r.mayDeliver(v); err != nil {
		out.Refusal = err
		return out
	}
	ledger, err := AddMsat(r.Charged, p.Price)
	if err != nil {
		out.Refusal = err
		return out
	}
	if err := r.Terms.deliverable(ledger, r.Paid); err != nil {
		out.Refusal = err
		return out
	}
	counted := r.Paid
	if !r.confirmed(v) {
		counted = 0
		if ledger > r.Terms.ZeroConf {
			out.Refusal = &UnconfirmedError{Have: v.Depth(), Want: r.Terms.Confirmations}
			return out
		}
	}
	credit := max(r.Terms.Credit, p.Credit)
	owed := ledger - min(ledger, counted*1000)
	if p.Price > 0 && owed > credit {
		out.Refusal = r.insufficient(ledger, credit)
		return out
	}
	if out = out.admit(p, owed, v); out.Refusal != nil {
		return out
	}
	opened := out.Record.deepen(v)
	out.RecordChanged = out.RecordChanged || p.Price > 0 || opened.Phase != out.Record.Phase
	opened.Charged, opened.MaxPrice = ledger, max(r.MaxPrice, p.Dearest)
	out.Record = opened
	return out
}

// admit has a newcomer's charge covered by its place in the pool, where it needs
// one: for a chunk that is worth more than a fresh channel, or for so many cheaper
// ones that what is owed then (msat) is.
func (out Outcome) admit(p Payment, owed uint64, v View) Outcome {
	r := out.Record
	switch {
	case p.Price == 0:
		return out
	case r.newcomer(p.Dearest, v) || !r.confirmed(v):
		return out.place(p, p.Dearest, owed, v)
	case owed > r.NewcomerAbove && !r.graduated(p.Dearest, v):
		if out = out.place(p, owed, owed, v); out.Refusal != nil {
			out.Refusal = r.insufficient(r.Charged+p.Price, r.NewcomerAbove)
		}
	}
	return out
}

// newcomer reports whether a chunk of this price needs a place in the pool.
func (r PayeeRecord) newcomer(price uint64, v View) bool {
	return max(price, r.MaxPrice) > r.NewcomerAbove && !r.graduated(price, v)
}

// place charges the pool: what a newcomer owes stays within its place (msat).
func (out Outcome) place(p Payment, size, owed uint64, v View) Outcome {
	id := out.Record.Terms.ID()
	pool := out.Pool.At(v.Tip, p.Now)
	if owed > 0 {
		pool, _ = pool.Reserve(id, size, p.Now)
	}
	pool, ok := pool.Owe(id, owed, p.Now)
	if !ok {
		e := out.Record.insufficient(out.Record.Charged+p.Price, 0)
		e.Ahead = true
		out.Refusal = e
		return out
	}
	_, has := pool.Places[id]
	out.Pool, out.PoolChanged, out.Record.Place = pool, true, has
	return out
}

func (r PayeeRecord) insufficient(ledger, credit uint64) *InsufficientError {
	return &InsufficientError{
		Required: max(r.Paid, CeilSat(ledger-min(ledger, credit))),
		Paid:     r.Paid, Charged: r.Charged, Ahead: credit == 0,
	}
}

// mayDeliver refuses a delivery for every reason but money.
func (r PayeeRecord) mayDeliver(v View) error {
	switch {
	case r.Phase == Closing || r.Phase.Final():
		return refuse(ErrFinalized, "phase %s", r.Phase)
	case r.Phase == Settling || r.Restored || v.Tip >= r.Terms.deadline():
		return refuse(ErrExpiring, "delivery ended at height %d", r.Terms.deadline())
	case v.Spend != nil:
		return refuse(ErrExpiring, "the funding output is being spent by %s", v.Spend.Txid)
	case !v.Funding.Seen:
		return &UnconfirmedError{Want: r.Terms.Confirmations}
	case !r.confirmed(v) && r.Terms.ZeroConf == 0:
		return &UnconfirmedError{Have: v.Depth(), Want: r.Terms.Confirmations}
	}
	return nil
}
