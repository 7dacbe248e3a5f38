package script_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/bitcoindtest"
	"github.com/spillway/spillway/script"
)

// childOf spends an output of a P2TR key of the tests: so many vB with padding outputs,
// at least, and a fee in sat.
func childOf(t testing.TB, parent *wire.MsgTx, index uint32, owner string, version int32, vsize, fee int64) *wire.MsgTx {
	t.Helper()
	spent := parent.TxOut[index]
	tx := wire.NewMsgTx(version)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: parent.TxHash(), Index: index}, Sequence: script.Sequence, Witness: wire.TxWitness{make([]byte, 64)}})
	tx.AddTxOut(&wire.TxOut{PkScript: p2tr(owner)})
	left := spent.Value - fee
	for script.VSize(tx)+34 <= vsize { // so the last bytes go to a null-data output
		tx.AddTxOut(&wire.TxOut{Value: 10_000, PkScript: p2wpkh(owner)})
		left -= 10_000
	}
	tx.TxOut[0].Value = left
	if pad := vsize - script.VSize(tx) - 11; pad > 0 {
		tx.AddTxOut(&wire.TxOut{PkScript: append([]byte{txscript.OP_RETURN, byte(pad)}, make([]byte, pad)...)})
	}
	fetcher := txscript.NewCannedPrevOutputFetcher(spent.PkScript, spent.Value)
	digest, err := txscript.CalcTaprootSignatureHash(txscript.NewTxSigHashes(tx, fetcher), txscript.SigHashDefault, tx, 0, fetcher)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := schnorr.Sign(testKey(owner), digest)
	if err != nil {
		t.Fatal(err)
	}
	tx.TxIn[0].Witness = wire.TxWitness{sig.Serialize()}
	return tx
}

// refusedBy sends a transaction that the node has to refuse, and holds its words.
func refusedBy(t testing.TB, n *bitcoindtest.Node, tx *wire.MsgTx, words string) {
	t.Helper()
	var refusal *bitcoindtest.Error
	if err := n.Send(tx); !errors.As(err, &refusal) || !strings.HasPrefix(refusal.Message, words) {
		t.Fatalf("the node said %v, not %q", err, words)
	}
}

// atFee is a settlement whose fee is so many sat.
func atFee(t testing.TB, c party, rest, fee int64) *wire.MsgTx {
	t.Helper()
	size := c.SettlementVSize(rest, p2tr("payout"))
	tx, got, err := script.Settle([]script.Claim{c.claim(t, rest)}, p2tr("payout"), script.FeeRate((fee*1000+size-1)/size))
	if err != nil || got < fee || got > fee+1 {
		t.Fatalf("a fee of %d sat, not %d: %v", got, fee, err)
	}
	return tx
}

// TestPitfall33_PinningOnBitcoind: what a child of the payer's does to the replacement
// of a version 3 settlement, and that one which pays for it, 1,000 vB at the going rate,
// goes through. The words are the node's.
func TestPitfall33_PinningOnBitcoind(t *testing.T) {
	n := bitcoindtest.Start(t)
	const rest = 900_000
	for _, kind := range constructions {
		t.Run(string(kind), func(t *testing.T) {
			c := fund(t, n, kind, 3, 500)
			owner := t.Name() + " 0 rest"
			size := c.SettlementVSize(rest, p2tr("payout"))
			first := atFee(t, c, rest, 2*size)
			mustSend(t, n, first)
			refusedBy(t, n, childOf(t, first, 0, owner, 3, 1_001, 1_001), "truc-child-toobig, version=3 child tx")
			refusedBy(t, n, childOf(t, first, 0, owner, 2, 200, 200), "truc-spent-by-nontruc, non-version=3 tx")
			pin := childOf(t, first, 0, owner, 3, 1_000, 1_000)
			if got := script.VSize(pin); got != 1_000 {
				t.Fatalf("a child of %d vB", got)
			}
			mustSend(t, n, pin)
			// A step of 1 sat/vB is enough for the settlement alone, and too little now.
			refusedBy(t, n, atFee(t, c, rest, 3*size), "insufficient fee, rejecting replacement")
			// Its own fee, and 1,000 vB at the rate of the child.
			budgeted := atFee(t, c, rest, 2*size+1_000+size)
			mustSend(t, n, budgeted)
			if n.InMempool(pin) || n.InMempool(first) {
				t.Fatal("the pinning child is still there")
			}
			mustMine(t, n, budgeted)
		})
	}
}

// Under version 2 the child may be as large as any transaction: 1,000 vB are not enough
// there, which is why version 3 is the default.
func TestPinningUnderVersion2(t *testing.T) {
	n := bitcoindtest.Start(t)
	c := fund(t, n, script.Taproot, 2, 500)
	const rest = 900_000
	size := c.SettlementVSize(rest, p2tr("payout"))
	first := atFee(t, c, rest, 2*size)
	mustSend(t, n, first)
	pin := childOf(t, first, 0, t.Name()+" 0 rest", 2, 2_000, 2_000)
	mustSend(t, n, pin)
	refusedBy(t, n, atFee(t, c, rest, 3*size+1_000), "insufficient fee, rejecting replacement")
	mustSend(t, n, atFee(t, c, rest, 3*size+2_000))
}

// A version 3 transaction has one unconfirmed child: another one takes its place where
// it pays more (sibling eviction), so that the payer's child keeps nobody else's out.
func TestSiblingEviction(t *testing.T) {
	n := bitcoindtest.Start(t)
	c := fund(t, n, script.Taproot, 3, 500)
	const rest = 900_000
	settlement := atFee(t, c, rest, 400)
	mustSend(t, n, settlement)
	payers := childOf(t, settlement, 0, t.Name()+" 0 rest", 3, 500, 1_000)
	mustSend(t, n, payers)
	payees := func(fee int64) *wire.MsgTx { return childOf(t, settlement, 1, "payout", 3, 150, fee) }
	refusedBy(t, n, payees(900), "insufficient fee (including sibling eviction), rejecting replacement")
	dear := payees(3_000)
	mustSend(t, n, dear)
	if n.InMempool(payers) {
		t.Fatal("both children are there")
	}
	mustMine(t, n, settlement)
	if got := n.MinedAt(dear); got != n.Height() {
		t.Fatalf("the child was mined at %d", got)
	}
	// Grandchildren there are none.
	c = fund(t, n, script.Taproot, 3, 500)
	settlement = atFee(t, c, rest, 400)
	mustSend(t, n, settlement)
	child := childOf(t, settlement, 0, t.Name()+" 0 rest", 3, 200, 1_000)
	mustSend(t, n, child)
	refusedBy(t, n, childOf(t, child, 0, t.Name()+" 0 rest", 3, 200, 1_000), "truc-ancestors-toomany, tx")
}

// A version 3 settlement below what the node relays at all is taken with a child that
// pays for both, as a package of two, and not by itself; it is mined with it. Version 2
// has to pay what is relayed by itself, also in a package.
func TestPackageOfSettlementAndChild(t *testing.T) {
	n := bitcoindtest.Start(t)
	for _, version := range versions {
		c := fund(t, n, script.Taproot, version, 500)
		const rest = 900_000
		size := c.SettlementVSize(rest, p2tr("payout"))
		settlement := atFee(t, c, rest, size/20) // 0.05 sat/vB
		refusedBy(t, n, settlement, "min relay fee not met")
		child := childOf(t, settlement, 0, t.Name()+" 0 rest", version, 200, 2_000)
		var got struct {
			Message string                            `json:"package_msg"`
			Results map[string]struct{ Error string } `json:"tx-results"`
		}
		if err := n.RPC(&got, "submitpackage", []string{hexOf(t, settlement), hexOf(t, child)}); err != nil {
			t.Fatal(err)
		}
		if version == 2 {
			if why := got.Results[settlement.WitnessHash().String()].Error; got.Message != "transaction failed" || !strings.HasPrefix(why, "min relay fee not met") {
				t.Fatalf("version 2: %+v", got)
			}
			continue
		}
		if got.Message != "success" || !n.InMempool(settlement) || !n.InMempool(child) {
			t.Fatalf("version %d: %+v", version, got)
		}
		mustMine(t, n, settlement)
	}
}

func hexOf(t testing.TB, tx *wire.MsgTx) string { return hex.EncodeToString(rawTx(t, tx)) }
