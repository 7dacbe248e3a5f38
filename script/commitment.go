package script

import (
	"bytes"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/curve"
)

// halfFlag is the one flag that a half-signature for this rest must have.
func halfFlag(rest int64) txscript.SigHashType {
	if rest == 0 {
		return txscript.SigHashNone | txscript.SigHashAnyOneCanPay
	}
	return txscript.SigHashSingle | txscript.SigHashAnyOneCanPay
}

// Side is one end of a channel. In a one-way channel only the payer sends.
type Side uint8

// The two sides.
const (
	Payer Side = iota
	Payee
)

// Other is the other side.
func (s Side) Other() Side { return Payee - s }

// String is the side's word.
func (s Side) String() string {
	if s == Payee {
		return "payee"
	}
	return "payer"
}

// State is what a commitment says: whose half-signature it carries, what it
// leaves for that side, and from when on it may be mined. docs/protocol.md,
// section 4.1; for senders and locks "Duplex channels".
type State struct {
	Sender Side
	Lock   uint32 // nLockTime, a height; 0: at once, the only one in a one-way channel
	Rest   int64  // sat, the sender's own output
}

// restScript is where a sender's rest goes; none for a payee without one.
func (c *Channel) restScript(by Side) []byte {
	if by == Payee {
		return c.PayeeRestScript
	}
	return c.RestScript
}

// senderKey is the key that makes a sender's half-signatures.
func (c *Channel) senderKey(by Side) *btcec.PublicKey {
	if by == Payee {
		return c.k2
	}
	return c.k1
}

// checkState refuses what this channel knows no commitment of, a rest above the
// capacity, or one from 1 to dust−1.
func (c *Channel) checkState(s State) error {
	duplex := c.Construction == Duplex
	switch {
	case !duplex && (s.Sender != Payer || s.Lock != 0):
		return fmt.Errorf("%w: %s channels go one way, at once", ErrUnsupported, c.Construction)
	case s.Sender > Payee || s.Lock >= c.Expiry:
		return fmt.Errorf("%w: a commitment at height %d with an expiry at %d", ErrExpiry, s.Lock, c.Expiry)
	case s.Rest < 0 || s.Rest > c.Capacity:
		return fmt.Errorf("%w: a rest of %d sat of %d sat", ErrAmount, s.Rest, c.Capacity)
	case s.Rest > 0 && s.Rest < Dust(c.restScript(s.Sender)):
		return fmt.Errorf("%w: a rest of %d sat", ErrDust, s.Rest)
	}
	return nil
}

// commitment is T3 with nothing but what the sender signs.
func (c *Channel) commitment(s State) *wire.MsgTx {
	tx := wire.NewMsgTx(c.TxVersion)
	tx.LockTime = s.Lock
	tx.AddTxIn(c.input())
	if s.Rest > 0 {
		tx.AddTxOut(&wire.TxOut{Value: s.Rest, PkScript: bytes.Clone(c.restScript(s.Sender))})
	}
	return tx
}

// StateSighash is the digest that a state's sender signs.
// Errors: ErrAmount, ErrDust, ErrExpiry, ErrUnsupported.
func (c *Channel) StateSighash(s State) ([]byte, error) {
	if err := c.checkState(s); err != nil {
		return nil, err
	}
	return c.kind.digest(c.commitment(s), 0, c.fetcher(), settling, halfFlag(s.Rest))
}

// SignState is the sender's half-signature of a state, with its flag at the end.
// It is deterministic. Errors: as StateSighash; ErrWrongKey.
func (c *Channel) SignState(key *btcec.PrivateKey, s State) ([]byte, error) {
	digest, err := c.StateSighash(s)
	if err != nil {
		return nil, err
	}
	if err := c.owns(key, s.Sender); err != nil {
		return nil, err
	}
	return c.signFlagged(key, s.Sender, digest, halfFlag(s.Rest))
}

// VerifyState checks a half-signature of a state: exactly the expected flag,
// canonical, by the sender's key. Errors: as StateSighash; ErrSighashFlag,
// ErrSignature.
func (c *Channel) VerifyState(s State, sig []byte) error {
	digest, err := c.StateSighash(s)
	if err != nil {
		return err
	}
	return c.verifyFlagged(c.senderKey(s.Sender), digest, sig, halfFlag(s.Rest))
}

// HalfSighash is the digest that the payer signs for a rest (sat).
// Errors: ErrAmount, ErrDust.
func (c *Channel) HalfSighash(rest int64) ([]byte, error) { return c.StateSighash(State{Rest: rest}) }

// SignHalf is the payer's half-signature over its own rest (sat), with its
// flag at the end. It is deterministic.
// Errors: ErrAmount, ErrDust, ErrWrongKey. docs/protocol.md, section 4.1.
func (c *Channel) SignHalf(payerKey *btcec.PrivateKey, rest int64) ([]byte, error) {
	return c.SignState(payerKey, State{Rest: rest})
}

// VerifyHalf checks a half-signature for a rest (sat): exactly the expected
// flag, canonical, by K1. Errors: ErrAmount, ErrDust, ErrSighashFlag,
// ErrSignature. docs/protocol.md, section 4.1.
func (c *Channel) VerifyHalf(rest int64, sig []byte) error {
	return c.VerifyState(State{Rest: rest}, sig)
}

// signFlagged is a side's signature in wire form.
func (c *Channel) signFlagged(key *btcec.PrivateKey, by Side, digest []byte, flag txscript.SigHashType) ([]byte, error) {
	sig, err := c.kind.sign(key, c.senderKey(by), digest)
	if err != nil {
		return nil, err
	}
	curve.Signed(key, digest, sig, byte(flag), c.kind.cosigned())
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
