package curve

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"
)

// A known key's signature is the library's, byte by byte, made anew or remembered.
func TestSameSignatures(t *testing.T) {
	forget(t)
	Know(keyOf("one"))
	rapid.Check(t, func(t *rapid.T) {
		key := keyOf(rapid.StringN(0, 3, -1).Draw(t, "key"))
		digest := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "digest")
		if rapid.Bool().Draw(t, "whole") {
			sum := sha256.Sum256(digest)
			digest = sum[:]
		}
		Know(key)
		want, wantErr := schnorr.Sign(key, digest)
		for range 2 {
			got, err := SignSchnorr(key, key.PubKey(), digest)
			if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got.Serialize(), want.Serialize()) {
				t.Fatalf("%v, %v: want %v, %v", got, err, want, wantErr)
			}
		}
	})
}

// An output's key is the library's, and remembered for aggregates of known keys alone.
func TestSameOutputs(t *testing.T) {
	forget(t)
	one, two := keyOf("one"), keyOf("two")
	Know(one)
	Know(two)
	sum, err := Aggregate(one.PubKey(), two.PubKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, internal := range []*btcec.PublicKey{sum, one.PubKey()} {
		for _, root := range [][32]byte{{1}, {2}, {1}} {
			if want := txscript.ComputeTaprootOutputKey(internal, root[:]); !Output(internal, root).IsEqual(want) {
				t.Errorf("another output of %x and %x", internal.SerializeCompressed(), root)
			}
		}
	}
	if n := len(known.Load().outs); n != 2 {
		t.Errorf("%d outputs are remembered", n)
	}
}

// A signature is found again for its key and digest alone.
func TestMadeECDSA(t *testing.T) {
	forget(t)
	one, digest := keyOf("one"), sha256.Sum256([]byte("digest"))
	sig := ecdsa.Sign(one, digest[:])
	if SignedECDSA(one, digest[:], sig); MadeECDSA(one, digest[:]) != nil {
		t.Error("a signature is remembered of a key that is not known")
	}
	Know(one)
	SignedECDSA(one, digest[:], sig)
	other := sha256.Sum256(nil)
	if got := MadeECDSA(one, digest[:]); got == nil || !got.IsEqual(sig) || MadeECDSA(one, other[:]) != nil || MadeECDSA(keyOf("two"), digest[:]) != nil {
		t.Error("another signature is found, or none")
	}
}

// A transaction is another one where anything of it, or of what it spends, is.
func TestExecutions(t *testing.T) {
	forget(t)
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{Witness: wire.TxWitness{{1}}})
	tx.AddTxOut(wire.NewTxOut(5, []byte{6}))
	spent := func(value int64, script ...byte) map[wire.OutPoint]*wire.TxOut {
		return map[wire.OutPoint]*wire.TxOut{{}: wire.NewTxOut(value, script)}
	}
	if Execution(tx, spent(1)) != nil || Executed(nil) {
		t.Error("something is named without a memory")
	}
	Know(keyOf("one"))
	name := Execution(tx, spent(1, 2, 3))
	if Executed(name) {
		t.Error("it was not executed")
	}
	Ran(name)
	if !Executed(Execution(tx, spent(1, 2, 3))) {
		t.Error("it was executed")
	}
	witness := tx.Copy()
	witness.TxIn[0].Witness[0][0] = 2
	for _, other := range []*[32]byte{
		Execution(tx, spent(2, 2, 3)), Execution(tx, spent(1, 2)), Execution(tx, nil), Execution(witness, spent(1, 2, 3)),
	} {
		if Executed(other) {
			t.Error("another one counts as executed")
		}
	}
}
