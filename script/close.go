package script

import (
	"bytes"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// CloseTx is the cooperative close, unsigned: the payer's rest and the payee's
// share (sat, before the fee). The fee (sat) comes from the share, what the
// share lacks from the rest; outputs below dust are left out and go to the fee.
// Errors: ErrUnsupported, ErrAmount, ErrPayoutScript, ErrPayoutDust when nothing
// is left to pay. docs/protocol.md, section 4.4.
func (c *Channel) CloseTx(payeeShare int64, payeeScript []byte, fee int64) (*wire.MsgTx, error) {
	if _, err := c.kind.treeRoot(); err != nil {
		return nil, err
	}
	if payeeShare < 0 || payeeShare > c.Capacity || fee < 0 || fee > c.Capacity {
		return nil, fmt.Errorf("%w: a share of %d sat and a fee of %d sat of %d sat", ErrAmount, payeeShare, fee, c.Capacity)
	}
	rest, share := c.Capacity-payeeShare, payeeShare-fee
	if share < 0 {
		rest, share = rest+share, 0
	}
	if share > 0 {
		if err := checkPayout(payeeScript); err != nil {
			return nil, err
		}
	}
	tx := wire.NewMsgTx(c.TxVersion)
	tx.AddTxIn(c.input())
	if rest >= Dust(c.RestScript) {
		tx.AddTxOut(c.restOutput(rest))
	}
	if share >= Dust(payeeScript) {
		tx.AddTxOut(&wire.TxOut{Value: share, PkScript: bytes.Clone(payeeScript)})
	}
	if len(tx.TxOut) == 0 {
		return nil, fmt.Errorf("%w: %d sat less a fee of %d sat", ErrPayoutDust, c.Capacity, fee)
	}
	return tx, nil
}

// CloseVSize is the size in vB of the cooperative close at this share (sat),
// before the fee.
func (c *Channel) CloseVSize(payeeShare int64, payeeScript []byte) int64 {
	tx := wire.NewMsgTx(c.TxVersion)
	tx.AddTxIn(c.input())
	if c.Capacity-payeeShare >= Dust(c.RestScript) {
		tx.AddTxOut(c.restOutput(0))
	}
	if payeeShare >= Dust(payeeScript) || len(tx.TxOut) == 0 {
		tx.AddTxOut(&wire.TxOut{PkScript: payeeScript})
	}
	tx.TxIn[0].Witness = wire.TxWitness{make([]byte, schnorr.SignatureSize)}
	return VSize(tx)
}

// keys is a fresh slice each time: the library sorts it in place.
func (c *Channel) keys() []*btcec.PublicKey { return []*btcec.PublicKey{c.k1, c.k2} }

// closeDigest is the digest of a cooperative close for the key path, always
// with DEFAULT, and the tree root that the key is tweaked with. BIP341.
func (c *Channel) closeDigest(tx *wire.MsgTx) (root []byte, digest [32]byte, err error) {
	if root, err = c.kind.treeRoot(); err != nil {
		return nil, digest, err
	}
	if err := c.checkClose(tx); err != nil {
		return nil, digest, err
	}
	prev := c.fetcher()
	raw, err := txscript.CalcTaprootSignatureHash(txscript.NewTxSigHashes(tx, prev), txscript.SigHashDefault, tx, 0, prev)
	if err != nil {
		return nil, digest, fmt.Errorf("%w: %v", ErrClose, err)
	}
	return root, [32]byte(raw), nil
}

// checkClose refuses everything that CloseTx would never build, so that no
// partial signature is ever made for it.
func (c *Channel) checkClose(tx *wire.MsgTx) error {
	switch {
	case tx == nil:
		return fmt.Errorf("%w: there is none", ErrClose)
	case len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != c.Outpoint:
		return fmt.Errorf("%w: it spends something else", ErrClose)
	case tx.TxIn[0].Sequence != Sequence:
		return fmt.Errorf("%w: nSequence 0x%08x", ErrClose, tx.TxIn[0].Sequence)
	case tx.LockTime != 0:
		return fmt.Errorf("%w: nLockTime %d", ErrClose, tx.LockTime)
	case tx.Version != c.TxVersion:
		return fmt.Errorf("%w: version %d, not %d", ErrClose, tx.Version, c.TxVersion)
	case len(tx.TxOut) == 0 || len(tx.TxOut) > 2:
		return fmt.Errorf("%w: %d outputs", ErrClose, len(tx.TxOut))
	}
	for i, out := range tx.TxOut {
		if out.Value < Dust(out.PkScript) {
			return fmt.Errorf("%w: %d sat in output %d", ErrClose, out.Value, i)
		}
	}
	if err := checkAmounts(tx, c.prevouts()); err != nil {
		return fmt.Errorf("%w: %w", ErrClose, err)
	}
	return nil
}
