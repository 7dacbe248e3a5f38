package script

import (
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// halfFlag is the one flag that a half-signature for this rest must have.
func halfFlag(rest int64) txscript.SigHashType {
	if rest == 0 {
		return txscript.SigHashNone | txscript.SigHashAnyOneCanPay
	}
	return txscript.SigHashSingle | txscript.SigHashAnyOneCanPay
}

// checkRest refuses a rest above the capacity or from 1 to dust−1.
func (c *Channel) checkRest(rest int64) error {
	if rest < 0 || rest > c.Capacity {
		return fmt.Errorf("%w: a rest of %d sat of %d sat", ErrAmount, rest, c.Capacity)
	}
	if rest > 0 && rest < Dust(c.RestScript) {
		return fmt.Errorf("%w: a rest of %d sat", ErrDust, rest)
	}
	return nil
}

// commitment is T3 with nothing but what the payer signs.
func (c *Channel) commitment(rest int64) *wire.MsgTx {
	tx := wire.NewMsgTx(c.TxVersion)
	tx.AddTxIn(c.input())
	if rest > 0 {
		tx.AddTxOut(c.restOutput(rest))
	}
	return tx
}

// HalfSighash is the digest that the payer signs for a rest (sat).
// Errors: ErrAmount, ErrDust.
func (c *Channel) HalfSighash(rest int64) ([]byte, error) {
	if err := c.checkRest(rest); err != nil {
		return nil, err
	}
	return c.kind.digest(c.commitment(rest), 0, c.fetcher(), settling, halfFlag(rest))
}

// SignHalf is the payer's half-signature over its own rest (sat), with its
// flag at the end. It is deterministic.
// Errors: ErrAmount, ErrDust, ErrWrongKey. docs/protocol.md, section 4.1.
func (c *Channel) SignHalf(payerKey *btcec.PrivateKey, rest int64) ([]byte, error) {
	if err := owns(payerKey, c.k1); err != nil {
		return nil, err
	}
	digest, err := c.HalfSighash(rest)
	if err != nil {
		return nil, err
	}
	return c.signFlagged(payerKey, digest, halfFlag(rest))
}

// VerifyHalf checks a half-signature for a rest (sat): exactly the expected
// flag, canonical, by K1. Errors: ErrAmount, ErrDust, ErrSighashFlag,
// ErrSignature. docs/protocol.md, section 4.1.
func (c *Channel) VerifyHalf(rest int64, sig []byte) error {
	digest, err := c.HalfSighash(rest)
	if err != nil {
		return err
	}
	return c.verifyFlagged(c.k1, digest, sig, halfFlag(rest))
}

// signFlagged is a signature in wire form.
func (c *Channel) signFlagged(key *btcec.PrivateKey, digest []byte, flag txscript.SigHashType) ([]byte, error) {
	sig, err := c.kind.sign(key, digest)
	if err != nil {
		return nil, err
	}
	return flagged(sig, flag), nil
}

// flagged appends a sighash flag; DEFAULT has none. BIP341.
func flagged(sig []byte, flag txscript.SigHashType) []byte {
	if flag == txscript.SigHashDefault {
		return sig
	}
	return append(sig, byte(flag))
}

// verifyFlagged checks a signature whose last byte must be this flag.
func (c *Channel) verifyFlagged(key *btcec.PublicKey, digest, sig []byte, flag txscript.SigHashType) error {
	if len(sig) < 2 {
		return fmt.Errorf("%w: %d bytes", ErrSignature, len(sig))
	}
	if got := txscript.SigHashType(sig[len(sig)-1]); got != flag {
		return fmt.Errorf("%w: 0x%02x, not 0x%02x", ErrSighashFlag, uint32(got), uint32(flag))
	}
	return c.kind.verify(key, digest, sig[:len(sig)-1])
}
