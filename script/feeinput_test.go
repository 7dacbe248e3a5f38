package script_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/bitcoindtest"
	"github.com/spillway/spillway/script"
)

// feeInputs are n coins of 10,000 sat that pay to a P2TR key of the tests, and how they
// are signed.
func feeInputs(ops ...wire.OutPoint) script.Extra {
	e := script.Extra{Prevouts: map[wire.OutPoint]*wire.TxOut{}}
	for _, op := range ops {
		e.Prevouts[op] = &wire.TxOut{Value: 10_000, PkScript: p2tr("coin")}
	}
	e.Sign = func(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) error {
		fetcher := txscript.NewMultiPrevOutFetcher(prevouts)
		hashes := txscript.NewTxSigHashes(tx, fetcher)
		for i, in := range tx.TxIn {
			if e.Prevouts[in.PreviousOutPoint] == nil {
				continue
			}
			digest, err := txscript.CalcTaprootSignatureHash(hashes, txscript.SigHashDefault, tx, i, fetcher)
			if err != nil {
				return err
			}
			sig, err := schnorr.Sign(testKey("coin"), digest)
			if err != nil {
				return err
			}
			in.Witness = wire.TxWitness{sig.Serialize()}
		}
		return nil
	}
	return e
}

func coinAt(i int) wire.OutPoint {
	return wire.OutPoint{Hash: funding(script.Taproot, fmt.Sprint("coin ", i)).Outpoint.Hash}
}

// Fee inputs of the payee's own: their size as in the table, alone and in a batch of 10;
// rests stay at the indices of their inputs; what the coins hold goes to the payout, less
// the fee; every input is executed.
func TestFeeInputs(t *testing.T) {
	rate := script.FeeRatePerVB(3)
	for _, c := range []struct {
		kind     script.Construction
		channels int
		each     float64 // vB that a fee input adds
	}{
		{script.Taproot, 1, 57.5}, {script.Multisig, 1, 57.5}, {script.MultisigP2SH, 1, 58.25}, {script.Taproot, 10, 57.5}, {script.Multisig, 10, 57.5},
	} {
		channels, claims := make([]party, c.channels), make([]script.Claim, c.channels)
		for i := range channels {
			channels[i] = open(t, c.kind, fmt.Sprint("with coins ", i))
			claims[i] = channels[i].claim(t, 500_000)
		}
		plain := settle(t, rate, claims...)
		for n := 1; n <= 3; n++ {
			var ops []wire.OutPoint
			for i := range n {
				ops = append(ops, coinAt(i))
			}
			tx, fee, err := script.SettleWith(claims, p2tr("payout"), rate, feeInputs(ops...))
			if err != nil {
				t.Fatalf("%s: %v", c.kind, err)
			}
			grown := vbytes(longest(t, tx, channels...)) - vbytes(longest(t, plain, channels...))
			want := float64(n) * c.each
			if c.kind == script.MultisigP2SH { // the marker and the first input's empty witness come once
				want = float64(n)*57.5 + 0.75
			}
			if grown != want {
				t.Errorf("%s, %d channels: %d fee inputs take %.2f vB, want %.2f", c.kind, c.channels, n, grown, want)
			}
			size, err := script.BatchVSize(claims, p2tr("payout"), n)
			if err != nil || size < script.VSize(tx) || size > script.VSize(tx)+int64(c.channels) || fee != rate.Fee(size) {
				t.Errorf("%s, %d channels: estimated at %d vB with a fee of %d sat, is %d vB: %v", c.kind, c.channels, size, fee, script.VSize(tx), err)
			}
			if got, in := paid(tx)+fee, int64(c.channels)*1_000_000+int64(n)*10_000; got != in || tx.TxOut[len(tx.TxOut)-1].Value != int64(c.channels)*500_000+int64(n)*10_000-fee {
				t.Errorf("%s: %d sat of %d sat", c.kind, got, in)
			}
			for i := range channels {
				if tx.TxOut[i].Value != 500_000 || tx.TxIn[i].PreviousOutPoint == coinAt(0) {
					t.Errorf("%s: output %d is no rest", c.kind, i)
				}
			}
		}
	}
}

// A batch of 10 whose channels have no rests, and one whose outputs are P2WPKH.
func TestSizesOfBatches(t *testing.T) {
	for kind, want := range map[script.Construction][2]float64{script.Taproot: {111.9, 142.9}, script.Multisig: {99.65, 130.65}} {
		measure := func(rest int64, change ...func(*script.Funding)) float64 {
			channels, claims := make([]party, 10), make([]script.Claim, 10)
			for i := range channels {
				channels[i] = open(t, kind, fmt.Sprint("of ten ", i), change...)
				claims[i] = channels[i].claim(t, rest)
			}
			tx, _, err := script.Settle(claims, p2wpkh("payout"), script.FeeRatePerVB(1))
			if err != nil {
				t.Fatal(err)
			}
			return vbytes(longest(t, tx, channels...)) / 10
		}
		got := [2]float64{measure(0), measure(500_000, func(f *script.Funding) { f.RestScript = p2wpkh("rest") })}
		if got != want {
			t.Errorf("%s: %.2f without rests, %.2f with P2WPKH, want %v", kind, got[0], got[1], want)
		}
	}
}

// Bad fee inputs are refused.
func TestBadFeeInputs(t *testing.T) {
	c := open(t, script.Taproot, "bad coins")
	for name, e := range map[string]script.Extra{
		"another script": {Prevouts: map[wire.OutPoint]*wire.TxOut{coinAt(0): {Value: 10_000, PkScript: p2wpkh("coin")}}},
		"negative":       {Prevouts: map[wire.OutPoint]*wire.TxOut{coinAt(0): {Value: -1, PkScript: p2tr("coin")}}},
		"nothing known":  {Prevouts: map[wire.OutPoint]*wire.TxOut{coinAt(0): nil}},
	} {
		if _, _, err := script.SettleWith([]script.Claim{c.claim(t, 500_000)}, p2tr("payout"), 1000, e); !errors.Is(err, script.ErrAmount) {
			t.Errorf("%s: %v", name, err)
		}
	}
	unsigned := feeInputs(coinAt(0))
	unsigned.Sign = func(*wire.MsgTx, map[wire.OutPoint]*wire.TxOut) error { return nil }
	if _, _, err := script.SettleWith([]script.Claim{c.claim(t, 500_000)}, p2tr("payout"), 1000, unsigned); !errors.Is(err, script.ErrExecute) {
		t.Errorf("without a signature: %v", err)
	}
}

// A settlement whose output would be below dust is relayed and mined with a coin, in
// every construction and version.
func TestBitcoindFeeInput(t *testing.T) {
	eachKind(t, func(t *testing.T, n *bitcoindtest.Node, kind script.Construction, version int32) {
		c := fund(t, n, kind, version, 500)
		coin := n.Fund(p2tr("coin"), 10_000)
		claim := []script.Claim{c.claim(t, 1_000_000-500)}
		if _, _, err := script.Settle(claim, p2tr("payout"), 1000); !errors.Is(err, script.ErrPayoutDust) {
			t.Fatalf("without a coin: %v", err)
		}
		tx, fee, err := script.SettleWith(claim, p2tr("payout"), 1000, feeInputs(coin))
		if err != nil || tx.TxOut[1].Value != 10_500-fee || fee > 500 {
			t.Fatalf("%d sat with a fee of %d sat: %v", tx.TxOut[1].Value, fee, err)
		}
		mustSend(t, n, tx)
		mustMine(t, n, tx)
	})
}
