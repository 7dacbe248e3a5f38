package script

import (
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// The legacy digest of SINGLE without an output of the input's index would be
// the constant 1: none is given out, whatever the other flags are. NONE and ALL
// need no output.
func TestPitfall15_NoDigestOfTheConstantOne(t *testing.T) {
	k1, k2 := mustKey(sha256.Sum256([]byte("one"))).PubKey(), mustKey(sha256.Sum256([]byte("two"))).PubKey()
	kind, err := newP2SH(k1, k2)
	if err != nil {
		t.Fatal(err)
	}
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{})
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Index: 1}})
	tx.AddTxOut(&wire.TxOut{Value: 1000})
	const single, acp = txscript.SigHashSingle, txscript.SigHashAnyOneCanPay
	for i, want := range []error{nil, ErrAmount} {
		for _, flag := range []txscript.SigHashType{single, single | acp} {
			if digest, err := kind.digest(tx, i, nil, settling, flag); !errors.Is(err, want) || (digest == nil) != (want != nil) {
				t.Errorf("input %d, flag %#x: %x, %v, want %v", i, uint32(flag), digest, err, want)
			}
		}
		for _, flag := range []txscript.SigHashType{txscript.SigHashAll, txscript.SigHashNone | acp} {
			if _, err := kind.digest(tx, i, nil, settling, flag); err != nil {
				t.Errorf("input %d, flag %#x: %v", i, uint32(flag), err)
			}
		}
	}
}
