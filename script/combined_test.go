package script_test

import (
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// Whoever holds half-signatures of several channels of one payer, with one rest script, and
// all of the other keys, can put them together in one way only: every input with its own
// rest at its own index, at its own lock. Each of these tries to leave the payer less.
func TestHalfSignaturesPutTogetherByAThief(t *testing.T) {
	const restA, restB = 700_000, 400_000
	same := func(f *script.Funding) { f.RestScript = p2tr("one payer's rest") }
	a, b := open(t, script.Taproot, "a", same), open(t, script.Taproot, "b", same)
	both := open(t, script.Duplex, "both", duplex)
	states := [2]script.State{{Sender: script.Payer, Lock: 800_000, Rest: restA}, {Sender: script.Payee, Lock: 700_000, Rest: restB}}
	honest := settle(t, script.FeeRatePerVB(2), a.claim(t, restA), b.claim(t, restB))
	older, newer := both.complete(t, states[0], script.FeeRatePerVB(2)), both.complete(t, states[1], script.FeeRatePerVB(2))
	coin := wire.OutPoint{Index: 7}
	known := prevouts(a, b, both)
	known[coin] = wire.NewTxOut(50_000, p2tr("the thief's coin"))
	// thief completes the inputs of a transaction anew with K2 of each channel.
	thief := func(tx *wire.MsgTx) []error {
		fetcher := txscript.NewMultiPrevOutFetcher(known)
		hashes := txscript.NewTxSigHashes(tx, fetcher)
		var errs []error
		for i, in := range tx.TxIn {
			var key *btcec.PrivateKey
			switch in.PreviousOutPoint {
			case a.Outpoint:
				key = a.payee
			case b.Outpoint:
				key = b.payee
			default:
				continue
			}
			leaf := txscript.NewBaseTapLeaf(in.Witness[2])
			prev := known[in.PreviousOutPoint]
			raw, err := txscript.RawTxInTapscriptSignature(tx, hashes, i, prev.Value, prev.PkScript, leaf, txscript.SigHashDefault, key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := schnorr.ParseSignature(raw); err != nil {
				t.Fatal(err)
			}
			in.Witness = wire.TxWitness{raw, in.Witness[1], in.Witness[2], in.Witness[3]}
			errs = append(errs, script.ExecuteInput(tx, i, known))
		}
		return errs
	}
	if errs := thief(honest.Copy()); len(errs) != 2 || errs[0] != nil || errs[1] != nil {
		t.Fatalf("as it should be: %v", errs)
	}
	for _, c := range []struct {
		name   string
		attack func(*wire.MsgTx)
	}{
		{"the inputs change places", func(tx *wire.MsgTx) { slices.Reverse(tx.TxIn) }},
		{"the rests change places", func(tx *wire.MsgTx) { tx.TxOut[0], tx.TxOut[1] = tx.TxOut[1], tx.TxOut[0] }},
		{"one rest for both", func(tx *wire.MsgTx) { tx.TxOut[1] = tx.TxOut[2]; tx.TxOut = tx.TxOut[:2] }},
		{"the larger rest is left out", func(tx *wire.MsgTx) { tx.TxOut = tx.TxOut[1:] }},
		{"a coin in front", func(tx *wire.MsgTx) {
			tx.TxIn = append([]*wire.TxIn{{PreviousOutPoint: coin, Sequence: script.Sequence}}, tx.TxIn...)
		}},
		{"a coin between", func(tx *wire.MsgTx) {
			tx.TxIn = slices.Insert(tx.TxIn, 1, &wire.TxIn{PreviousOutPoint: coin, Sequence: script.Sequence})
		}},
		{"a lock", func(tx *wire.MsgTx) { tx.LockTime = 1 }},
		{"the half-signatures change places", func(tx *wire.MsgTx) {
			tx.TxIn[0].Witness[1], tx.TxIn[1].Witness[1] = tx.TxIn[1].Witness[1], tx.TxIn[0].Witness[1]
		}},
	} {
		tx := honest.Copy()
		c.attack(tx)
		broken := false
		for _, err := range thief(tx) {
			broken = broken || err != nil
		}
		if !broken {
			t.Errorf("%s: the payer's signatures are good for it", c.name)
		}
	}
	withCoin := honest.Copy() // behind them all a coin harms nobody: that is how fee inputs go
	withCoin.AddTxIn(&wire.TxIn{PreviousOutPoint: coin, Sequence: script.Sequence})
	if errs := thief(withCoin); errs[0] != nil || errs[1] != nil {
		t.Errorf("a coin behind: %v", errs)
	}
	for name, tx := range map[string]*wire.MsgTx{"older": older.Copy(), "newer": newer.Copy()} { // both halves of two epochs
		w := tx.TxIn[0].Witness
		k2, k1 := newer.TxIn[0].Witness[0], older.TxIn[0].Witness[1]
		tx.TxIn[0].Witness = wire.TxWitness{k2, k1, w[2], w[3]}
		if script.ExecuteInput(tx, 0, known) == nil {
			t.Errorf("two half-signatures of two epochs complete the %s", name)
		}
	}
}
