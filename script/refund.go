package script

import (
	"bytes"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// refundFlag is the flag of the payee's signature of a multisig refund: it need
// not care where the refund goes or what fee it pays.
const refundFlag = txscript.SigHashNone | txscript.SigHashAnyOneCanPay

// refund is T2 without signatures, paying everything less a fee to a script.
func (c *Channel) refund(payoutScript []byte, rate FeeRate) (tx *wire.MsgTx, fee int64, err error) {
	if err := checkPayout(payoutScript); err != nil {
		return nil, 0, err
	}
	fee = rate.Fee(c.RefundVSize(payoutScript))
	value := c.Capacity - fee
	if value < Dust(payoutScript) {
		return nil, 0, fmt.Errorf("%w: %d sat less a fee of %d sat", ErrPayoutDust, c.Capacity, fee)
	}
	return c.refundTx(&wire.TxOut{Value: value, PkScript: bytes.Clone(payoutScript)}), fee, nil
}

func (c *Channel) refundTx(out *wire.TxOut) *wire.MsgTx {
	tx := wire.NewMsgTx(c.TxVersion)
	tx.LockTime = c.Expiry
	tx.AddTxIn(c.input())
	tx.AddTxOut(out)
	return tx
}

// RefundVSize is the refund's size in vB with signatures at their longest.
func (c *Channel) RefundVSize(payoutScript []byte) int64 {
	draft := c.refundTx(&wire.TxOut{PkScript: payoutScript})
	if err := c.kind.complete(draft.TxIn[0], refunding, c.kind.longest(ourselves, c.kind.whole()), c.kind.longest(otherSide, refundFlag)); err != nil {
		return maxBatch // cannot be: the pushes are of fixed size
	}
	return VSize(draft)
}

// UnsignedRefund is T2 as it is shown to the payee of a multisig channel.
// Errors: ErrUnsupported, ErrPayoutDust, ErrPayoutScript. docs/protocol.md, section 5.2, step 3.
func (c *Channel) UnsignedRefund(payoutScript []byte, rate FeeRate) (*wire.MsgTx, error) {
	if err := c.needCosigned(); err != nil {
		return nil, err
	}
	tx, _, err := c.refund(payoutScript, rate)
	return tx, err
}

// needCosigned refuses the steps of a refund that both sides sign.
func (c *Channel) needCosigned() error {
	if !c.kind.cosigned() {
		return fmt.Errorf("%w: the refund of %s needs no signature of the payee", ErrUnsupported, c.Construction)
	}
	return nil
}

// CheckRefundRequest is the payee's check of an unsigned refund: exactly one
// input, the channel's outpoint, nSequence 0xfffffffd, nLockTime the expiry.
// Errors: ErrRefund, ErrUnsupported. docs/protocol.md, section 5.2, step 4.
func (c *Channel) CheckRefundRequest(tx *wire.MsgTx) error {
	if err := c.needCosigned(); err != nil {
		return err
	}
	switch {
	case tx == nil:
		return fmt.Errorf("%w: there is none", ErrRefund)
	case len(tx.TxIn) != 1:
		return fmt.Errorf("%w: %d inputs", ErrRefund, len(tx.TxIn))
	case tx.TxIn[0].PreviousOutPoint != c.Outpoint:
		return fmt.Errorf("%w: it spends %s", ErrRefund, tx.TxIn[0].PreviousOutPoint)
	case tx.TxIn[0].Sequence != Sequence:
		return fmt.Errorf("%w: nSequence 0x%08x", ErrRefund, tx.TxIn[0].Sequence)
	case tx.LockTime != c.Expiry:
		return fmt.Errorf("%w: nLockTime %d, not %d", ErrRefund, tx.LockTime, c.Expiry)
	case tx.Version != c.TxVersion:
		return fmt.Errorf("%w: version %d, not %d", ErrRefund, tx.Version, c.TxVersion)
	case len(tx.TxIn[0].SignatureScript) > 0 || len(tx.TxIn[0].Witness) > 0:
		return fmt.Errorf("%w: it is signed already", ErrRefund)
	}
	return nil
}

// refundDigest is what the payee signs: outputs are not part of it.
func (c *Channel) refundDigest() ([]byte, error) {
	if err := c.needCosigned(); err != nil {
		return nil, err
	}
	return c.kind.digest(c.refundTx(&wire.TxOut{}), 0, c.fetcher(), refunding, refundFlag)
}

// SignRefund is the payee's signature of a multisig refund, NONE|ANYONECANPAY.
// It is deterministic: a retry gets the same. Errors: ErrUnsupported, ErrWrongKey.
func (c *Channel) SignRefund(payeeKey *btcec.PrivateKey) ([]byte, error) {
	if err := owns(payeeKey, c.k2); err != nil {
		return nil, err
	}
	digest, err := c.refundDigest()
	if err != nil {
		return nil, err
	}
	return c.signFlagged(payeeKey, Payee, digest, refundFlag)
}

// VerifyRefundSig is the payer's check of the payee's signature of the refund.
// Errors: ErrSignature, ErrSighashFlag, ErrUnsupported.
func (c *Channel) VerifyRefundSig(sig []byte) error {
	digest, err := c.refundDigest()
	if err != nil {
		return err
	}
	return c.verifyFlagged(c.k2, digest, sig, refundFlag)
}

// Refund is T2, complete: on taproot signed by the payer alone (payeeSig is not
// used), on multisig with the payee's signature. It was executed; a block above
// the expiry can hold it. The fee (sat) is for signatures at their longest.
// Errors: ErrPayoutDust, ErrPayoutScript, ErrSignature, ErrSighashFlag,
// ErrWrongKey, ErrExecute. docs/protocol.md, section 4.3.
func (c *Channel) Refund(payerKey *btcec.PrivateKey, payeeSig []byte, payoutScript []byte, rate FeeRate) (tx *wire.MsgTx, fee int64, err error) {
	if err := owns(payerKey, c.k1); err != nil {
		return nil, 0, err
	}
	if c.kind.cosigned() {
		if err := c.VerifyRefundSig(payeeSig); err != nil {
			return nil, 0, err
		}
	}
	tx, fee, err = c.refund(payoutScript, rate)
	if err != nil {
		return nil, 0, err
	}
	digest, err := c.kind.digest(tx, 0, c.fetcher(), refunding, c.kind.whole())
	if err != nil {
		return nil, 0, err
	}
	sig, err := c.signFlagged(payerKey, Payer, digest, c.kind.whole())
	if err != nil {
		return nil, 0, err
	}
	if err := c.kind.complete(tx.TxIn[0], refunding, sig, bytes.Clone(payeeSig)); err != nil {
		return nil, 0, err
	}
	if err := Execute(tx, c.prevouts()); err != nil {
		return nil, 0, err
	}
	return tx, fee, nil
}
