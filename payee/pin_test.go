package payee_test

import (
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// pinned is a child of a settlement's rest, of a payer's who wants no replacement: so
// many vB, at 1 sat/vB.
func pinned(t *testing.T, p *pairtest.Pair, parent *wire.MsgTx, vsize int64) *wire.MsgTx {
	t.Helper()
	rest := parent.TxOut[0]
	tx := wire.NewMsgTx(parent.Version)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: parent.TxHash()}, Sequence: script.Sequence, Witness: wire.TxWitness{make([]byte, 64)}})
	left := rest.Value - vsize
	tx.AddTxOut(&wire.TxOut{PkScript: rest.PkScript})
	for script.VSize(tx)+43 <= vsize {
		tx.AddTxOut(&wire.TxOut{Value: 400, PkScript: rest.PkScript})
		left -= 400
	}
	tx.TxOut[0].Value = left
	prev := map[wire.OutPoint]*wire.TxOut{tx.TxIn[0].PreviousOutPoint: rest}
	if n, err := p.Wallet.Sign(t.Context(), tx, prev); err != nil || n != 1 {
		t.Fatalf("%d inputs signed: %v", n, err)
	}
	return tx
}

// TestPitfall33_PinnedSettlement: the payer hangs 1,000 vB at 1 sat/vB on its rest. What
// was paid since, and a going rate that rises, still replace the settlement at once:
// the payee's fee pays for the child as well, and no more than 1,000 vB of it.
func TestPitfall33_PinnedSettlement(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			p := pairtest.New(t)
			ids := due(t, p, 9_000, kind)
			wantNil(t, p.StepPayee())
			first, was := spender(t, p, ids[0]), recordOf(t, p, ids[0]).Settlement
			child := pinned(t, p, first, 1_000)
			wantNil(t, p.Chain.Broadcast(t.Context(), child))
			p.Chain.SetFeeRate(script.FeeRatePerVB(2))
			wantNil(t, p.StepPayee())
			second := spender(t, p, ids[0])
			now := recordOf(t, p, ids[0]).Settlement
			if second.TxID() != now.Txid || now.Txid == was.Txid {
				t.Fatalf("the settlement is pinned: %s, saved is %s", second.TxID(), now.Txid)
			}
			fees := was.Fee + childFee(child, first)
			if own := 2 * script.VSize(second); now.Fee < fees || now.Fee > own+1_000+script.VSize(second)+20 {
				t.Fatalf("a fee of %d sat, %d sat were evicted", now.Fee, fees)
			}
			// Pinned once more, and then more is paid.
			wantNil(t, p.Chain.Broadcast(t.Context(), pinned(t, p, second, 1_000)))
			u := p.Update(ids[0], 20_000)
			_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: ids[0], Update: &u})
			wantNil(t, err)
			wantNil(t, p.StepPayee())
			if third := spender(t, p, ids[0]); third.TxOut[0].Value != pairtest.Capacity-20_000 {
				t.Fatalf("the older amount stays: a rest of %d sat", third.TxOut[0].Value)
			}
		})
	}
}

// childFee is what a child of a settlement's rest pays, in sat.
func childFee(child, parent *wire.MsgTx) int64 {
	fee := parent.TxOut[0].Value
	for _, out := range child.TxOut {
		fee -= out.Value
	}
	return fee
}
