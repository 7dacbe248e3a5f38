package script

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// maxBatch is the largest settlement, in vB: the limit of version 3. BIP431.
const maxBatch = 10_000

// Claim is one channel's part of a settlement.
type Claim struct {
	Channel  *Channel
	Rest     int64             // sat, what goes to the sender
	HalfSig  []byte            // the sender's, for this rest
	PayeeKey *btcec.PrivateKey // the receiver's: K2; K1 where the payee is the sender
	Sender   Side              // duplex only
	Lock     uint32            // nLockTime, duplex only
}

func (c Claim) state() State { return State{Sender: c.Sender, Lock: c.Lock, Rest: c.Rest} }

// receiverKey is who completes a claim.
func (c Claim) receiverKey() *btcec.PublicKey { return c.Channel.senderKey(c.Sender.Other()) }

// Settle completes commitments into one transaction that pays the payers' rests
// and the payee's payout, at a fee rate. Input and rest share an index, channels
// with rest zero follow, the payout is last. The result was executed. The fee
// (sat) is for signatures at their longest, so the rate is never missed.
// Errors: ErrBatch, ErrPayoutDust, ErrPayoutScript, ErrSignature, ErrSighashFlag,
// ErrAmount, ErrDust, ErrWrongKey, ErrExecute. docs/protocol.md, section 4.2.
func Settle(claims []Claim, payoutScript []byte, rate FeeRate) (tx *wire.MsgTx, fee int64, err error) {
	return SettleWith(claims, payoutScript, rate, Extra{})
}

// Extra are inputs of the payee's own, which help a settlement to pay its fee: P2TR
// outputs that are spent by their key. They come behind the channels' inputs; what they
// hold goes to the payout. Sign adds their witnesses. docs/protocol.md, section 4.2.
type Extra struct {
	Prevouts map[wire.OutPoint]*wire.TxOut
	Sign     func(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) error
}

// add puts the inputs behind those that are there, in the order of their outpoints, each
// with a stand-in for its signature; sum is what they hold, in sat.
func (e Extra) add(tx *wire.MsgTx) (sum int64, err error) {
	ops := make([]wire.OutPoint, 0, len(e.Prevouts))
	for op, out := range e.Prevouts {
		if out == nil || !txscript.IsPayToTaproot(out.PkScript) || !addMoney(&sum, out.Value) {
			return 0, fmt.Errorf("%w: the fee input %s", ErrAmount, op)
		}
		ops = append(ops, op)
	}
	slices.SortFunc(ops, func(a, b wire.OutPoint) int { return strings.Compare(a.String(), b.String()) })
	for _, op := range ops {
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: Sequence, Witness: wire.TxWitness{make([]byte, 64)}})
	}
	return sum, nil
}

// SettleWith is Settle with fee inputs. Errors: as Settle, and those of Extra.Sign.
func SettleWith(claims []Claim, payoutScript []byte, rate FeeRate, extra Extra) (tx *wire.MsgTx, fee int64, err error) {
	if err := checkPayout(payoutScript); err != nil {
		return nil, 0, err
	}
	ordered, err := order(claims)
	if err != nil {
		return nil, 0, err
	}
	if err := check(ordered); err != nil {
		return nil, 0, err
	}
	tx, total, err := layout(ordered, payoutScript)
	if err != nil {
		return nil, 0, err
	}
	own, err := extra.add(tx)
	if err != nil || !addMoney(&total, own) {
		return nil, 0, fmt.Errorf("%w: fee inputs of %d sat: %v", ErrAmount, own, err)
	}
	size := estimate(tx, ordered)
	if size > maxBatch {
		return nil, 0, fmt.Errorf("%w: %d vB are more than %d", ErrBatch, size, maxBatch)
	}
	fee = rate.Fee(size)
	payout := tx.TxOut[len(tx.TxOut)-1]
	if payout.Value = total - fee; payout.Value < Dust(payoutScript) {
		return nil, 0, fmt.Errorf("%w: %d sat less a fee of %d sat", ErrPayoutDust, total, fee)
	}
	if err := sign(tx, ordered, extra); err != nil {
		return nil, 0, err
	}
	return tx, fee, nil
}

// order puts P2SH with a rest first, other rests next, rest zero last. Claims
// that are alike keep their order.
func order(claims []Claim) ([]Claim, error) {
	if len(claims) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrBatch)
	}
	for i, c := range claims {
		if c.Channel == nil {
			return nil, fmt.Errorf("%w: claim %d has no channel", ErrBatch, i)
		}
	}
	rank := func(c Claim) int {
		switch {
		case c.bound():
			return 0
		case c.Rest > 0:
			return 1
		default:
			return 2
		}
	}
	ordered := slices.Clone(claims)
	slices.SortStableFunc(ordered, func(a, b Claim) int { return rank(a) - rank(b) })
	return ordered, nil
}

// bound reports whether the half-signature is good for index 0 only: the legacy
// digest of SINGLE covers how many outputs come before its own.
func (c Claim) bound() bool {
	return c.Channel.Construction == MultisigP2SH && c.Rest > 0
}

// check refuses what one transaction cannot hold, and wrong keys and signatures.
func check(ordered []Claim) error {
	if err := together(ordered); err != nil {
		return err
	}
	for _, c := range ordered {
		if err := owns(c.PayeeKey, c.receiverKey()); err != nil {
			return fmt.Errorf("%s: %w", c.Channel.Outpoint, err)
		}
		if err := c.Channel.VerifyState(c.state(), c.HalfSig); err != nil {
			return fmt.Errorf("%s: %w", c.Channel.Outpoint, err)
		}
	}
	return nil
}

// together refuses what one transaction cannot hold.
func together(ordered []Claim) error {
	seen := make(map[wire.OutPoint]bool, len(ordered))
	for i, c := range ordered {
		switch {
		case i > 0 && c.bound():
			return fmt.Errorf("%w: only one P2SH channel with a rest", ErrBatch)
		case c.Channel.TxVersion != ordered[0].Channel.TxVersion:
			return fmt.Errorf("%w: versions %d and %d", ErrBatch, ordered[0].Channel.TxVersion, c.Channel.TxVersion)
		case c.Lock != ordered[0].Lock:
			return fmt.Errorf("%w: locks at %d and %d", ErrBatch, ordered[0].Lock, c.Lock)
		case c.Sender > Payee:
			return fmt.Errorf("%w: sender %d", ErrUnsupported, c.Sender)
		case seen[c.Channel.Outpoint]:
			return fmt.Errorf("%w: %s twice", ErrBatch, c.Channel.Outpoint)
		}
		seen[c.Channel.Outpoint] = true
	}
	return nil
}

// BatchVSize is the size in vB of one settlement of these claims with so many P2TR fee
// inputs, with signatures at their longest. Keys and half-signatures may be missing.
// Errors: ErrBatch where they cannot be settled together, ErrAmount, ErrUnsupported.
func BatchVSize(claims []Claim, payoutScript []byte, feeInputs int) (int64, error) {
	ordered, err := order(claims)
	if err != nil {
		return 0, err
	}
	if err := together(ordered); err != nil {
		return 0, err
	}
	tx, _, err := layout(ordered, payoutScript)
	if err != nil {
		return 0, err
	}
	for range feeInputs {
		tx.AddTxIn(&wire.TxIn{Sequence: Sequence, Witness: wire.TxWitness{make([]byte, 64)}})
	}
	size := estimate(tx, ordered)
	if size > maxBatch {
		return 0, fmt.Errorf("%w: %d vB are more than %d", ErrBatch, size, maxBatch)
	}
	return size, nil
}

// layout builds the unsigned settlement with an empty payout; total is what
// the payout and the fee share, in satoshi.
func layout(ordered []Claim, payoutScript []byte) (tx *wire.MsgTx, total int64, err error) {
	tx = wire.NewMsgTx(ordered[0].Channel.TxVersion)
	tx.LockTime = ordered[0].Lock
	for _, c := range ordered {
		part := c.Channel.commitment(c.state())
		tx.TxIn, tx.TxOut = append(tx.TxIn, part.TxIn...), append(tx.TxOut, part.TxOut...)
		if !addMoney(&total, c.Channel.Capacity-c.Rest) {
			return nil, 0, fmt.Errorf("%w: more than there is", ErrAmount)
		}
	}
	tx.AddTxOut(&wire.TxOut{PkScript: bytes.Clone(payoutScript)})
	return tx, total, nil
}

// estimate is the settlement's size in vB with signatures at their longest.
func estimate(tx *wire.MsgTx, ordered []Claim) int64 {
	draft := tx.Copy()
	for i, c := range ordered {
		kind := c.Channel.kind
		if err := c.complete(draft.TxIn[i], kind.longest(otherSide, halfFlag(c.Rest)), kind.longest(ourselves, kind.whole())); err != nil {
			return maxBatch + 1 // cannot be: the pushes are of fixed size
		}
	}
	return VSize(draft)
}

// sign adds the payee's signatures, each over the whole transaction, and
// executes the result.
func sign(tx *wire.MsgTx, ordered []Claim, extra Extra) error {
	prevouts := make(map[wire.OutPoint]*wire.TxOut, len(ordered)+len(extra.Prevouts))
	for op, out := range extra.Prevouts {
		prevouts[op] = out
	}
	for _, c := range ordered {
		prevouts[c.Channel.Outpoint] = c.Channel.Prevout()
	}
	fetcher := txscript.NewMultiPrevOutFetcher(prevouts)
	for i, c := range ordered {
		kind := c.Channel.kind
		digest, err := kind.digest(tx, i, fetcher, settling, kind.whole())
		if err != nil {
			return err
		}
		sig, err := c.Channel.signFlagged(c.PayeeKey, c.Sender.Other(), digest, kind.whole())
		if err != nil {
			return err
		}
		if err := c.complete(tx.TxIn[i], bytes.Clone(c.HalfSig), sig); err != nil {
			return err
		}
	}
	if len(extra.Prevouts) > 0 {
		if err := extra.Sign(tx, prevouts); err != nil {
			return err
		}
	}
	return Execute(tx, prevouts)
}

// complete puts the sender's half-signature and the receiver's signature into an input.
func (c Claim) complete(in *wire.TxIn, half, whole []byte) error {
	if c.Sender == Payee {
		half, whole = whole, half
	}
	return c.Channel.kind.complete(in, settling, half, whole)
}

// SettlementVSize is the size in vB of this channel's settlement alone, with
// signatures at their longest.
func (c *Channel) SettlementVSize(rest int64, payoutScript []byte) int64 {
	return c.StateVSize(State{Rest: rest}, payoutScript)
}

// StateVSize is the size in vB of a state's settlement alone, with signatures at
// their longest.
func (c *Channel) StateVSize(s State, payoutScript []byte) int64 {
	tx := c.commitment(s)
	tx.AddTxOut(&wire.TxOut{PkScript: payoutScript})
	return estimate(tx, []Claim{{Channel: c, Rest: s.Rest, Sender: s.Sender, Lock: s.Lock}})
}
