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

	"github.com/spillway/spillway/internal/curve"
)

// multisig is what P2WSH and P2SH share: the script and the signatures.
type multisig struct {
	output []byte
	redeem []byte
}

// multisigScript is the classic script, 71 bytes:
//
//	OP_2 <K1> <K2> OP_2 OP_CHECKMULTISIG
func multisigScript(k1, k2 *btcec.PublicKey) ([]byte, error) {
	return txscript.NewScriptBuilder().AddOp(txscript.OP_2).
		AddData(k1.SerializeCompressed()).AddData(k2.SerializeCompressed()).
		AddOp(txscript.OP_2).AddOp(txscript.OP_CHECKMULTISIG).Script()
}

func (m *multisig) outputScript() []byte { return m.output }

func (m *multisig) sign(key *btcec.PrivateKey, _ *btcec.PublicKey, digest []byte) ([]byte, error) {
	return signLowR(key, digest), nil
}

func (m *multisig) verify(key *btcec.PublicKey, digest, raw []byte) error {
	sig, err := ecdsa.ParseDERSignature(raw)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrSignature, err)
	}
	if !bytes.Equal(sig.Serialize(), raw) {
		return fmt.Errorf("%w: not in its one canonical form with a low S", ErrSignature)
	}
	if !curve.VerifyECDSA(sig, digest, key) {
		return ErrSignature
	}
	return nil
}

func (m *multisig) longest(by signer, _ txscript.SigHashType) []byte {
	if by == ourselves {
		return make([]byte, longestLowRECDSA)
	}
	return make([]byte, longestECDSA)
}

func (m *multisig) whole() txscript.SigHashType { return txscript.SigHashAll }

func (m *multisig) cosigned() bool { return true }

func (m *multisig) treeRoot() ([]byte, error) {
	return nil, fmt.Errorf("%w: a multisig channel has no key of both sides", ErrUnsupported)
}

// p2wsh is the multisig in a witness script.
//
//	output:  OP_0 <sha256 of the script>
//
// Witness of a settlement or refund: the empty item that CHECKMULTISIG takes
// off, K1's signature (71), K2's (71), the script (71): 218 weight with lengths
// and count. A signature made elsewhere may have 72 bytes.
type p2wsh struct{ multisig }

func newP2WSH(k1, k2 *btcec.PublicKey) (*p2wsh, error) {
	redeem, err := multisigScript(k1, k2)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(redeem)
	output, err := txscript.NewScriptBuilder().AddOp(txscript.OP_0).AddData(hash[:]).Script()
	if err != nil {
		return nil, err
	}
	return &p2wsh{multisig{output, redeem}}, nil
}

// digest is that of BIP143: it covers the amount that is spent.
func (w *p2wsh) digest(tx *wire.MsgTx, i int, prev txscript.PrevOutputFetcher, _ path, flag txscript.SigHashType) ([]byte, error) {
	spent := prev.FetchPrevOutput(tx.TxIn[i].PreviousOutPoint)
	if spent == nil {
		return nil, fmt.Errorf("%w: the output %s is not known", ErrExecute, tx.TxIn[i].PreviousOutPoint)
	}
	return txscript.CalcWitnessSigHash(w.redeem, txscript.NewTxSigHashes(tx, prev), flag, tx, i, spent.Value)
}

func (w *p2wsh) complete(in *wire.TxIn, _ path, payerSig, payeeSig []byte) error {
	in.Witness = wire.TxWitness{nil, payerSig, payeeSig, bytes.Clone(w.redeem)}
	return nil
}

// p2sh is the multisig in a legacy script, without any witness.
//
//	output:  OP_HASH160 <hash160 of the script> OP_EQUAL
//
// Input script of a settlement or refund: OP_0 (1), pushes of K1's signature
// (72), K2's (72) and the script (72): 217 bytes, each of weight 4. A signature
// made elsewhere may be a byte longer.
type p2sh struct{ multisig }

func newP2SH(k1, k2 *btcec.PublicKey) (*p2sh, error) {
	redeem, err := multisigScript(k1, k2)
	if err != nil {
		return nil, err
	}
	output, err := txscript.NewScriptBuilder().AddOp(txscript.OP_HASH160).
		AddData(address.Hash160(redeem)).AddOp(txscript.OP_EQUAL).Script()
	if err != nil {
		return nil, err
	}
	return &p2sh{multisig{output, redeem}}, nil
}

// digest refuses SINGLE without an output of the same index: its digest would
// be the constant 1, and the signature good for anything. BIP143, motivation.
func (s *p2sh) digest(tx *wire.MsgTx, i int, _ txscript.PrevOutputFetcher, _ path, flag txscript.SigHashType) ([]byte, error) {
	if flag&^txscript.SigHashAnyOneCanPay == txscript.SigHashSingle && i >= len(tx.TxOut) {
		return nil, fmt.Errorf("%w: no output at input %d", ErrAmount, i)
	}
	return txscript.CalcSignatureHash(s.redeem, flag, tx, i)
}

func (s *p2sh) complete(in *wire.TxIn, _ path, payerSig, payeeSig []byte) (err error) {
	in.SignatureScript, err = txscript.NewScriptBuilder().AddOp(txscript.OP_0).
		AddData(payerSig).AddData(payeeSig).AddData(s.redeem).Script()
	return err
}
