package script_test

import (
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// longest makes every ECDSA signature of a multisig input as long as this
// package makes them, 71 bytes with their flag; taproot's never differ.
func longest(t testing.TB, tx *wire.MsgTx, channels ...party) *wire.MsgTx {
	t.Helper()
	kinds := map[wire.OutPoint]script.Construction{}
	for _, c := range channels {
		kinds[c.Outpoint] = c.Construction
	}
	tx = tx.Copy()
	sig := make([]byte, 71)
	for _, in := range tx.TxIn {
		switch kinds[in.PreviousOutPoint] {
		case script.Multisig:
			if len(in.Witness[1]) > 71 || len(in.Witness[2]) > 71 {
				t.Fatal("an ECDSA signature of more than 71 bytes")
			}
			in.Witness[1], in.Witness[2] = sig, sig
		case script.MultisigP2SH:
			in.SignatureScript = pushes(t, nil, sig, sig, lastPush(t, in.SignatureScript))
		}
	}
	return tx
}

// vbytes is a size in vB, not rounded.
func vbytes(tx *wire.MsgTx) float64 { return float64(script.Weight(tx)) / 4 }

// opening is a funding transaction with one P2TR input and P2TR change.
func opening(c party) *wire.MsgTx {
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{Witness: wire.TxWitness{make([]byte, 64)}})
	tx.AddTxOut(c.Prevout())
	tx.AddTxOut(&wire.TxOut{PkScript: p2tr("change")})
	return tx
}

// batch is a settlement of n channels with rests.
func batch(t testing.TB, kind script.Construction, n int) float64 {
	t.Helper()
	channels, claims := make([]party, n), make([]script.Claim, n)
	for i := range channels {
		channels[i] = open(t, kind, fmt.Sprintf("batch %d", i))
		claims[i] = channels[i].claim(t, 500_000)
	}
	tx := settle(t, script.FeeRatePerVB(1), claims...)
	return vbytes(longest(t, tx, channels...)) / float64(n)
}

// near checks that an estimate is enough, and at most one byte of a foreign
// signature too much.
func near(t testing.TB, kind script.Construction, estimate int64, longest, tx *wire.MsgTx) {
	t.Helper()
	if estimate < script.VSize(longest) || estimate > script.VSize(longest)+1 || script.VSize(tx) > estimate {
		t.Errorf("%s: estimated at %d vB, is %.2f, at its longest %.2f", kind, estimate, vbytes(tx), vbytes(longest))
	}
}

// TestSizes measures the table of docs/protocol.md, section 15.
func TestSizes(t *testing.T) {
	const rest, none = 500_000, -1
	fee := script.FeeRatePerVB(1)
	claimed := func(c party, rest int64, payout []byte) *wire.MsgTx {
		tx, _, err := script.Settle([]script.Claim{c.claim(t, rest)}, payout, fee)
		if err != nil {
			t.Fatal(err)
		}
		estimate, exact := c.SettlementVSize(rest, payout), longest(t, tx, c)
		near(t, c.Construction, estimate, exact, tx)
		return exact
	}
	refund := func(c party) *wire.MsgTx {
		tx := longest(t, c.refund(t, fee), c)
		near(t, c.Construction, c.RefundVSize(p2tr("refund")), tx, tx)
		return tx
	}
	small := func(f *script.Funding) { f.RestScript = p2wpkh("rest") }
	rows := []struct {
		name    string
		measure func(kind script.Construction) float64
		want    [3]float64 // taproot, P2WSH, P2SH
		table   [3]float64 // no size may be above this one
	}{
		{"open", func(k script.Construction) float64 { return vbytes(opening(open(t, k, "open"))) }, [3]float64{154, 154, 143}, [3]float64{154, 154, 143}},
		{"settlement", func(k script.Construction) float64 {
			return vbytes(claimed(open(t, k, "settle"), rest, p2tr("payout")))
		}, [3]float64{204.25, 192, 354}, [3]float64{204.25, 192.5, 356}},
		{"settlement, two P2WPKH outputs", func(k script.Construction) float64 {
			return vbytes(claimed(open(t, k, "small", small), rest, p2wpkh("payout")))
		}, [3]float64{180.25, 168, 330}, [3]float64{180.25, 168, 332}},
		{"settlement with rest zero", func(k script.Construction) float64 {
			return vbytes(claimed(open(t, k, "all"), 0, p2tr("payout")))
		}, [3]float64{161.25, 149, 311}, [3]float64{161.25, 149.5, 312}},
		{"refund", func(k script.Construction) float64 { return vbytes(refund(open(t, k, "refund"))) }, [3]float64{137.5, 149, 311}, [3]float64{137.5, 149.5, 313}},
		{"a P2TR fee input", func(k script.Construction) float64 {
			tx := claimed(open(t, k, "fee input"), rest, p2tr("payout"))
			with := tx.Copy()
			with.AddTxIn(&wire.TxIn{Witness: wire.TxWitness{make([]byte, 64)}})
			return vbytes(with) - vbytes(tx)
		}, [3]float64{57.5, 57.5, 58.25}, [3]float64{57.5, 57.5, 58.25}},
		{"per channel in a batch of 10", func(k script.Construction) float64 {
			if k == script.MultisigP2SH {
				return none // one rest only: TestPitfall49
			}
			return batch(t, k, 10)
		}, [3]float64{156.1, 143.85, none}, [3]float64{156.1, 144.1, none}},
		{"per channel in a batch of 50", func(k script.Construction) float64 {
			if k == script.MultisigP2SH {
				return none
			}
			return batch(t, k, 50)
		}, [3]float64{151.82, 139.57, none}, [3]float64{151.82, 139.8, none}},
	}
	for _, row := range rows {
		for i, kind := range constructions {
			if got := row.measure(kind); got != row.want[i] || got > row.table[i] {
				t.Errorf("%s, %s: %.2f vB, want %.2f and at most %.2f", row.name, kind, got, row.want[i], row.table[i])
			}
		}
	}
}

// The cooperative close: 154 vB with two outputs, 111 with one.
func TestSizesOfClose(t *testing.T) {
	c := open(t, script.Taproot, "close")
	for share, want := range map[int64]float64{400_000: 154, 0: 111, 1_000_000: 111} {
		tx := c.closeTogether(t, share, 200)
		if got := vbytes(tx); got != want {
			t.Errorf("a share of %d sat: %.2f vB, want %.2f", share, got, want)
		}
		if got := c.CloseVSize(share, p2tr("payout")); float64(got) != want {
			t.Errorf("a share of %d sat: estimated at %d vB, want %.2f", share, got, want)
		}
	}
}
