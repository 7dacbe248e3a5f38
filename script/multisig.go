package script

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// maxECDSA is a DER signature with low S at its longest, with its flag, in bytes.
const maxECDSA = 72

// multisig is the classic construction, in P2WSH or P2SH. The script, 71 bytes:
//
//	OP_2 <K1> <K2> OP_2 OP_CHECKMULTISIG
//
// P2WSH witness: an empty item, payer's signature (72), payee's (72), the
// script: 220 weight with lengths and count. P2SH: the same in the input's
// script, 219 bytes, each of weight 4.
type multisig struct {
	script []byte // the output's
	redeem []byte
	legacy bool
}

func newMultisig(k1, k2 *btcec.PublicKey, legacy bool) (*multisig, error) {
	redeem, err := txscript.NewScriptBuilder().AddOp(txscript.OP_2).
		AddData(k1.SerializeCompressed()).AddData(k2.SerializeCompressed()).
		AddOp(txscript.OP_2).AddOp(txscript.OP_CHECKMULTISIG).Script()
	if err != nil {
		return nil, err
	}
	m := &multisig{redeem: redeem, legacy: legacy}
	b := txscript.NewScriptBuilder()
	if legacy {
		b.AddOp(txscript.OP_HASH160).AddData(address.Hash160(redeem)).AddOp(txscript.OP_EQUAL)
	} else {
		sum := sha256.Sum256(redeem)
		b.AddOp(txscript.OP_0).AddData(sum[:])
	}
	m.script, err = b.Script()
	return m, err
}

func (m *multisig) outputScript() []byte { return m.script }

func (m *multisig) sighash(c *Channel, tx *wire.MsgTx, i int, prev txscript.PrevOutputFetcher, flag txscript.SigHashType) ([]byte, error) {
	if m.legacy {
		if flag&0x1f == txscript.SigHashSingle && i >= len(tx.TxOut) {
			return nil, fmt.Errorf("%w: no output at input %d", ErrAmount, i) // would sign the constant 1
		}
		return txscript.CalcSignatureHash(m.redeem, flag, tx, i)
	}
	return txscript.CalcWitnessSigHash(m.redeem, txscript.NewTxSigHashes(tx, prev), flag, tx, i, c.Capacity)
}

func (m *multisig) sign(key *btcec.PrivateKey, digest []byte) ([]byte, error) {
	return ecdsa.Sign(key, digest).Serialize(), nil
}

func (m *multisig) verify(key *btcec.PublicKey, digest, raw []byte) error {
	sig, err := ecdsa.ParseDERSignature(raw)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrSignature, err)
	}
	if !bytes.Equal(sig.Serialize(), raw) {
		return fmt.Errorf("%w: not in its one canonical form with a low S", ErrSignature)
	}
	if !sig.Verify(digest, key) {
		return ErrSignature
	}
	return nil
}

func (m *multisig) complete(in *wire.TxIn, payerSig, payeeSig []byte) (err error) {
	if !m.legacy {
		in.Witness = wire.TxWitness{nil, payerSig, payeeSig, m.redeem}
		return nil
	}
	in.SignatureScript, err = txscript.NewScriptBuilder().AddOp(txscript.OP_0).
		AddData(payerSig).AddData(payeeSig).AddData(m.redeem).Script()
	return err
}

func (m *multisig) placeholder(txscript.SigHashType) []byte { return make([]byte, maxECDSA) }

func (m *multisig) closing() txscript.SigHashType { return txscript.SigHashAll }
