package script

import (
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/curve"
)

// taproot is the default construction.
//
//	output:  OP_1 <Q>   Q = P tweaked with the tree of U and R
//	P:       MuSig2 aggregate of K1 and K2, sorted as 33-byte keys (BIP327)
type taproot struct {
	k1, k2   *btcec.PublicKey
	expiry   uint32
	odd      bool // whether Q's y is
	script   [34]byte
	internal [32]byte // P, x only
	root     [32]byte
}

// newTaproot computes what takes long; the leaves and their control blocks are written
// anew when they are asked for, so that a channel that is kept takes little.
func newTaproot(k1, k2 *btcec.PublicKey, expiry uint32) (*taproot, error) {
	agg, err := curve.Aggregate(k1, k2)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBadKey, err)
	}
	t := &taproot{k1: k1, k2: k2, expiry: expiry}
	u, r, err := t.leaves()
	if err != nil {
		return nil, err
	}
	out, err := newTree(agg, u, r)
	if err != nil {
		return nil, err
	}
	t.root, t.odd = out.root, out.controls[0][0]&1 == 1
	copy(t.script[:], out.script)
	copy(t.internal[:], schnorr.SerializePubKey(agg))
	return t, nil
}

// leaves are U and R.
func (t *taproot) leaves() (u, r txscript.TapLeaf, err error) {
	update, err := updateScript(t.k1, t.k2)
	if err != nil {
		return u, r, err
	}
	refund, err := refundScript(t.k1, t.expiry)
	return txscript.NewBaseTapLeaf(update), txscript.NewBaseTapLeaf(refund), err
}

// tree is a taproot output with scripts. BIP341.
type tree struct {
	script   []byte
	root     [32]byte
	controls [][]byte // control blocks, in the order of the leaves
}

// newTree builds an output of an internal key and one or two leaves.
func newTree(internal *btcec.PublicKey, leaves ...txscript.TapLeaf) (out tree, err error) {
	assembled := txscript.AssembleTaprootScriptTree(leaves...)
	out.root = assembled.RootNode.TapHash()
	key := curve.Output(internal, out.root)
	odd := key.SerializeCompressed()[0] == 3
	for _, leaf := range leaves {
		proof := assembled.LeafMerkleProofs[assembled.LeafProofIndex[leaf.TapHash()]]
		block := txscript.ControlBlock{
			InternalKey: internal, OutputKeyYIsOdd: odd, LeafVersion: leaf.LeafVersion, InclusionProof: proof.InclusionProof,
		}
		raw, err := block.ToBytes()
		if err != nil {
			return tree{}, err
		}
		out.controls = append(out.controls, raw)
	}
	out.script, err = txscript.PayToTaprootScript(key)
	return out, err
}

// updateScript is leaf U, 68 bytes:
//
//	<K1> OP_CHECKSIGVERIFY <K2> OP_CHECKSIG
//
// Witness of a settlement: payee's signature (64, DEFAULT), payer's
// half-signature (65), U (68), control block (65): 267 weight with lengths
// and count.
func updateScript(k1, k2 *btcec.PublicKey) ([]byte, error) {
	return txscript.NewScriptBuilder().
		AddData(schnorr.SerializePubKey(k1)).AddOp(txscript.OP_CHECKSIGVERIFY).
		AddData(schnorr.SerializePubKey(k2)).AddOp(txscript.OP_CHECKSIG).Script()
}

// refundScript is leaf R, 36 to 39 bytes. The expiry stays on the stack and is
// the true value that the script ends with:
//
//	<K1> OP_CHECKSIGVERIFY <expiry> OP_CHECKLOCKTIMEVERIFY
//
// Witness: payer's signature (64), R (39 with an expiry of three bytes),
// control block (65): 172 weight with lengths and count.
func refundScript(k1 *btcec.PublicKey, expiry uint32) ([]byte, error) {
	return txscript.NewScriptBuilder().
		AddData(schnorr.SerializePubKey(k1)).AddOp(txscript.OP_CHECKSIGVERIFY).
		AddInt64(int64(expiry)).AddOp(txscript.OP_CHECKLOCKTIMEVERIFY).Script()
}

func (t *taproot) outputScript() []byte { return t.script[:] }

// leaf is the script of a path and its control block, 65 bytes.
func (t *taproot) leaf(p path) (leaf txscript.TapLeaf, control []byte, err error) {
	leaf, other, err := t.leaves()
	if err != nil {
		return leaf, nil, err
	}
	if p == refunding {
		leaf, other = other, leaf
	}
	head := byte(txscript.BaseLeafVersion)
	if t.odd {
		head |= 1
	}
	sibling := other.TapHash()
	return leaf, append(append([]byte{head}, t.internal[:]...), sibling[:]...), nil
}

func (t *taproot) digest(tx *wire.MsgTx, i int, prev txscript.PrevOutputFetcher, p path, flag txscript.SigHashType) ([]byte, error) {
	u, r, err := t.leaves()
	if err != nil {
		return nil, err
	}
	if p == refunding {
		u = r
	}
	return txscript.CalcTapscriptSignaturehash(txscript.NewTxSigHashes(tx, prev), flag, tx, i, prev, u)
}

func (t *taproot) sign(key *btcec.PrivateKey, pub *btcec.PublicKey, digest []byte) ([]byte, error) {
	sig, err := curve.SignSchnorr(key, pub, digest)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	return sig.Serialize(), nil
}

func (t *taproot) verify(key *btcec.PublicKey, digest, raw []byte) error {
	sig, err := schnorr.ParseSignature(raw)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrSignature, err)
	}
	if !curve.VerifySchnorr(sig, digest, key) {
		return ErrSignature
	}
	return nil
}

// complete leaves the payee's signature out where the payer spends alone.
func (t *taproot) complete(in *wire.TxIn, p path, payerSig, payeeSig []byte) error {
	leaf, control, err := t.leaf(p)
	if err != nil {
		return err
	}
	if p == refunding {
		in.Witness = wire.TxWitness{payerSig, leaf.Script, control}
	} else {
		in.Witness = wire.TxWitness{payeeSig, payerSig, leaf.Script, control}
	}
	return nil
}

func (t *taproot) longest(_ signer, flag txscript.SigHashType) []byte {
	return flagged(make([]byte, schnorr.SignatureSize), flag)
}

func (t *taproot) whole() txscript.SigHashType { return txscript.SigHashDefault }

func (t *taproot) cosigned() bool { return false }

func (t *taproot) treeRoot() ([]byte, error) { return t.root[:], nil }
