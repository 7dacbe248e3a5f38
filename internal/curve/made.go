package curve

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// note remembers an answer, in a bounded map of a memory.
func note[K comparable, V any](m *memory, in map[K]V, name K, answer V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(in) >= limit {
		clear(in)
	}
	in[name] = answer
}

func recall[K comparable, V any](m *memory, in map[K]V, name K) (answer V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	answer, ok = in[name]
	return answer, ok
}

// Output is the output key of an internal key and a tree of scripts. BIP341.
func Output(internal *btcec.PublicKey, root [32]byte) *btcec.PublicKey {
	m := known.Load()
	if m == nil {
		return txscript.ComputeTaprootOutputKey(internal, root[:])
	}
	point := compressed(internal)
	if _, sum := recall(m, m.sums, point); !sum {
		return txscript.ComputeTaprootOutputKey(internal, root[:])
	}
	var name [65]byte
	copy(name[:], point[:])
	copy(name[33:], root[:])
	out, ok := recall(m, m.outs, name)
	if !ok {
		out = txscript.ComputeTaprootOutputKey(internal, root[:])
		note(m, m.outs, name, out)
	}
	same := *out
	return &same
}

// sign is the library's signature of a digest, for a key whose public key is known
// already, and not checked. ok is false where the library's own function must say
// what is wrong. BIP340, with the library's nonces of RFC 6979.
func sign(key *btcec.PrivateKey, pub *btcec.PublicKey, digest []byte) (_ *schnorr.Signature, ok bool) {
	d := key.Key
	defer d.Zero()
	if len(digest) != chainhash.HashSize || d.IsZero() {
		return nil, false
	}
	if pub.SerializeCompressed()[0] == 3 {
		d.Negate()
	}
	secret, extra := d.Bytes(), sha256.Sum256([]byte("BIP-340"))
	defer clear(secret[:])
	k := btcec.NonceRFC6979(secret[:], digest, extra[:], nil, 0)
	defer k.Zero()
	var sum jacobian
	sum.addBase(k)
	point := sum.affine()
	if point.y.odd() {
		k.Negate()
	}
	var e btcec.ModNScalar
	var r btcec.FieldVal
	x := point.x.bytes()
	r.SetBytes(&x)
	challenge := chainhash.TaggedHash(chainhash.TagBIP0340Challenge, x[:], schnorr.SerializePubKey(pub), digest)
	if e.SetBytes((*[32]byte)(challenge)) != 0 {
		return nil, false
	}
	var s btcec.ModNScalar
	s.Mul2(&e, &d).Add(k)
	return schnorr.NewSignature(&r, &s), true
}

// Execution names a transaction with all that it spends; nil where nothing is
// remembered.
func Execution(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) *[32]byte {
	if known.Load() == nil {
		return nil
	}
	var b bytes.Buffer
	if tx.Serialize(&b) != nil {
		return nil
	}
	var n [8]byte
	for _, in := range tx.TxIn {
		prev := prevouts[in.PreviousOutPoint]
		if prev == nil {
			return nil
		}
		binary.BigEndian.PutUint64(n[:], uint64(prev.Value))
		b.Write(n[:])
		binary.BigEndian.PutUint64(n[:], uint64(len(prev.PkScript)))
		b.Write(n[:])
		b.Write(prev.PkScript)
	}
	name := sha256.Sum256(b.Bytes())
	return &name
}

// Executed reports whether such a transaction was executed without an error before.
func Executed(name *[32]byte) bool {
	m := known.Load()
	if m == nil || name == nil {
		return false
	}
	_, ok := recall(m, m.ran, *name)
	return ok
}

// Ran tells that a transaction was executed without an error.
func Ran(name *[32]byte) {
	if m := known.Load(); m != nil && name != nil {
		note(m, m.ran, *name, struct{}{})
	}
}
