package script

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// maxBatch is the largest settlement, in vB: the limit for version 3.
const maxBatch = 10_000

// Claim is one channel's part of a settlement.
type Claim struct {
	Channel  *Channel
	Rest     int64  // sat, what goes to the payer
	HalfSig  []byte // the payer's, for this rest
	PayeeKey *btcec.PrivateKey
}

// Settle completes commitments into one transaction that pays the payers' rests
// and the payee's payout, at a fee rate. Input and rest share an index, channels
// with rest zero follow, the payout is last. The result was executed.
// Errors: ErrBatch, ErrPayoutDust, ErrSignature, ErrWrongKey, ErrExecute.
// docs/protocol.md, section 4.2.
func Settle(claims []Claim, payoutScript []byte, rate FeeRate) (*wire.MsgTx, int64, error) {
	ordered, err := order(claims)
	if err != nil {
		return nil, 0, err
	}
	tx, total, err := layout(ordered, payoutScript)
	if err != nil {
		return nil, 0, err
	}
	size := estimate(tx, ordered)
	if size > maxBatch {
		return nil, 0, fmt.Errorf("%w: %d vB are more than %d", ErrBatch, size, maxBatch)
	}
	fee := rate.Fee(size)
	payout := tx.TxOut[len(tx.TxOut)-1]
	if payout.Value = total - fee; payout.Value < Dust(payoutScript) {
		return nil, 0, fmt.Errorf("%w: %d sat less a fee of %d sat", ErrPayoutDust, total, fee)
	}
	if err := sign(tx, ordered); err != nil {
		return nil, 0, err
	}
	return tx, fee, nil
}

// order puts P2SH with a rest first, other rests next, rest zero last, and
// refuses what one transaction cannot hold.
func order(claims []Claim) ([]Claim, error) {
	if len(claims) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrBatch)
	}
	legacy := func(c Claim) bool { return c.Channel.Construction == MultisigP2SH && c.Rest > 0 }
	rank := func(c Claim) int {
		switch {
		case legacy(c):
			return 0
		case c.Rest > 0:
			return 1
		default:
			return 2
		}
	}
	ordered := slices.Clone(claims)
	slices.SortStableFunc(ordered, func(a, b Claim) int { return rank(a) - rank(b) })
	seen := map[wire.OutPoint]bool{}
	for i, c := range ordered {
		if err := c.Channel.VerifyHalf(c.Rest, c.HalfSig); err != nil {
			return nil, err
		}
		if err := owns(c.PayeeKey, c.Channel.k2); err != nil {
			return nil, err
		}
		switch {
		case i > 0 && legacy(c):
			return nil, fmt.Errorf("%w: only one P2SH channel with a rest", ErrBatch)
		case c.Channel.TxVersion != ordered[0].Channel.TxVersion:
			return nil, fmt.Errorf("%w: versions %d and %d", ErrBatch, c.Channel.TxVersion, ordered[0].Channel.TxVersion)
		case seen[c.Channel.Outpoint]:
			return nil, fmt.Errorf("%w: %s twice", ErrBatch, c.Channel.Outpoint)
		}
		seen[c.Channel.Outpoint] = true
	}
	return ordered, nil
}

// layout builds the unsigned settlement with an empty payout; total is what
// the payout and the fee share.
func layout(claims []Claim, payoutScript []byte) (tx *wire.MsgTx, total int64, err error) {
	tx = wire.NewMsgTx(claims[0].Channel.TxVersion)
	for _, c := range claims {
		tx.AddTxIn(c.Channel.input())
		if c.Rest > 0 {
			tx.AddTxOut(&wire.TxOut{Value: c.Rest, PkScript: c.Channel.RestScript})
		}
		if total += c.Channel.Capacity - c.Rest; total > maxCapacity {
			return nil, 0, fmt.Errorf("%w: %d sat", ErrAmount, total)
		}
	}
	tx.AddTxOut(&wire.TxOut{PkScript: payoutScript})
	return tx, total, nil
}

// estimate is the settlement's size in vB with signatures at their longest.
func estimate(tx *wire.MsgTx, claims []Claim) int64 {
	draft := tx.Copy()
	for i, c := range claims {
		s := c.Channel.spender
		if err := s.complete(draft.TxIn[i], s.placeholder(halfFlag(c.Rest)), s.placeholder(s.closing())); err != nil {
			return maxBatch + 1 // cannot be: the pushes are of fixed size
		}
	}
	return VSize(draft)
}

// sign adds the payee's signatures and executes the result.
func sign(tx *wire.MsgTx, claims []Claim) error {
	prevouts := map[wire.OutPoint]*wire.TxOut{}
	for _, c := range claims {
		prevouts[c.Channel.Outpoint] = c.Channel.Prevout()
	}
	fetcher := txscript.NewMultiPrevOutFetcher(prevouts)
	for i, c := range claims {
		s := c.Channel.spender
		digest, err := s.sighash(c.Channel, tx, i, fetcher, s.closing())
		if err != nil {
			return err
		}
		sig, err := s.sign(c.PayeeKey, digest)
		if err != nil {
			return err
		}
		if err := s.complete(tx.TxIn[i], c.HalfSig, flagged(sig, s.closing())); err != nil {
			return err
		}
	}
	return Execute(tx, prevouts)
}

// flagged appends a sighash flag; DEFAULT has none.
func flagged(sig []byte, flag txscript.SigHashType) []byte {
	if flag == txscript.SigHashDefault {
		return sig
	}
	return append(sig, byte(flag))
}

// SettlementVSize is the size in vB of this channel's settlement alone, with
// signatures at their longest.
func (c *Channel) SettlementVSize(rest int64, payoutScript []byte) int64 {
	claims := []Claim{{Channel: c, Rest: rest}}
	tx := wire.NewMsgTx(c.TxVersion)
	tx.AddTxIn(c.input())
	if rest > 0 {
		tx.AddTxOut(&wire.TxOut{Value: rest, PkScript: c.RestScript})
	}
	tx.AddTxOut(&wire.TxOut{PkScript: payoutScript})
	return estimate(tx, claims)
}
