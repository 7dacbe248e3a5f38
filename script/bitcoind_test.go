package script_test

import (
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/bitcoindtest"
	"github.com/spillway/spillway/script"
)

// versions are the transaction versions that a channel may have.
var versions = []int32{2, 3}

// eachKind runs a test for every construction and version, on one node.
func eachKind(t *testing.T, test func(t *testing.T, n *bitcoindtest.Node, kind script.Construction, version int32)) {
	n := bitcoindtest.Start(t)
	for _, kind := range constructions {
		for _, version := range versions {
			t.Run(fmt.Sprintf("%s v%d", kind, version), func(t *testing.T) { test(t, n, kind, version) })
		}
	}
}

// fund opens a channel on the node's chain, with an expiry some blocks ahead.
func fund(t *testing.T, n *bitcoindtest.Node, kind script.Construction, version int32, lifetime uint32) party {
	t.Helper()
	return fundMany(t, n, version, lifetime, kind)[0]
}

// fundMany opens channels in one transaction.
func fundMany(t *testing.T, n *bitcoindtest.Node, version int32, lifetime uint32, kinds ...script.Construction) []party {
	t.Helper()
	expiry := uint32(n.Height()) + 1 + lifetime
	outs := make([]*wire.TxOut, len(kinds))
	name := func(i int) string { return fmt.Sprintf("%s %d", t.Name(), i) }
	for i, kind := range kinds {
		f := funding(kind, name(i))
		pkScript, err := script.OutputScript(kind, f.PayerKey, f.PayeeKey, expiry)
		if err != nil {
			t.Fatal(err)
		}
		outs[i] = &wire.TxOut{Value: f.Capacity, PkScript: pkScript}
	}
	made := n.FundAll(outs...)
	channels := make([]party, len(kinds))
	for i, kind := range kinds {
		channels[i] = open(t, kind, name(i), func(f *script.Funding) {
			f.Expiry, f.TxVersion, f.Outpoint = expiry, version, made[i]
		})
	}
	return channels
}

// mustSend has a transaction accepted, first as a question.
func mustSend(t *testing.T, n *bitcoindtest.Node, tx *wire.MsgTx) {
	t.Helper()
	if ok, reason := n.TestAccept(tx); !ok {
		t.Fatalf("refused: %s", reason)
	}
	if err := n.Send(tx); err != nil {
		t.Fatal(err)
	}
}

// mustMine mines a block, which must hold the transaction.
func mustMine(t *testing.T, n *bitcoindtest.Node, tx *wire.MsgTx) {
	t.Helper()
	n.Mine(1)
	if got, tip := n.MinedAt(tx), n.Height(); got != tip {
		t.Fatalf("mined at %d, the tip is %d", got, tip)
	}
}

// A refund is refused at tip = expiry−1, taken at tip = expiry, and mined in
// expiry+1.
func TestBitcoindRefund(t *testing.T) {
	eachKind(t, func(t *testing.T, n *bitcoindtest.Node, kind script.Construction, version int32) {
		c := fund(t, n, kind, version, 3)
		refund := c.refund(t, script.FeeRatePerVB(2))
		n.MineTo(int64(c.Expiry) - 1)
		if ok, reason := n.TestAccept(refund); ok || reason != "non-final" {
			t.Fatalf("at expiry−1: allowed %v, %q", ok, reason)
		}
		if err := n.Send(refund); err == nil {
			t.Fatal("sent at expiry−1")
		}
		n.MineTo(int64(c.Expiry))
		mustSend(t, n, refund)
		dearer := c.refund(t, script.FeeRatePerVB(9))
		mustSend(t, n, dearer)
		if n.InMempool(refund) {
			t.Fatal("the cheaper refund is still there")
		}
		mustMine(t, n, dearer)
		if got := n.MinedAt(dearer); got != int64(c.Expiry)+1 {
			t.Fatalf("mined at %d, the expiry is %d", got, c.Expiry)
		}
	})
}

// A settlement is relayed long before the expiry, replaced by a dearer one, and
// mined; with a rest and without one.
func TestBitcoindSettlement(t *testing.T) {
	eachKind(t, func(t *testing.T, n *bitcoindtest.Node, kind script.Construction, version int32) {
		channels := fundMany(t, n, version, 500, kind, kind, kind)
		for i, rest := range []int64{600_000, 330, 0} {
			claim := channels[i].claim(t, rest)
			first := settle(t, script.FeeRatePerVB(2), claim)
			second := settle(t, script.FeeRatePerVB(5), claim)
			mustSend(t, n, first)
			mustSend(t, n, second)
			if n.InMempool(first) || !n.InMempool(second) {
				t.Fatalf("rest %d: not replaced", rest)
			}
			mustMine(t, n, second)
		}
	})
}

// A newer update replaces an older one in the mempool, and the settlement of a
// channel past its expiry replaces the refund.
func TestBitcoindNewerUpdateAndFeeRace(t *testing.T) {
	eachKind(t, func(t *testing.T, n *bitcoindtest.Node, kind script.Construction, version int32) {
		c := fund(t, n, kind, version, 2)
		older := settle(t, script.FeeRatePerVB(2), c.claim(t, 900_000))
		mustSend(t, n, older)
		newer := settle(t, script.FeeRatePerVB(5), c.claim(t, 400_000))
		mustSend(t, n, newer)
		if n.InMempool(older) {
			t.Fatal("the older update is still there")
		}
		mustMine(t, n, newer)

		c = fund(t, n, kind, version, 2)
		n.MineTo(int64(c.Expiry))
		refund := c.refund(t, script.FeeRatePerVB(2))
		mustSend(t, n, refund)
		last := settle(t, script.FeeRatePerVB(20), c.claim(t, 400_000))
		mustSend(t, n, last)
		if n.InMempool(refund) {
			t.Fatal("the refund is still there")
		}
		mustMine(t, n, last)
	})
}

// Cooperative closes with two outputs, and with one where the other would be dust.
func TestBitcoindClose(t *testing.T) {
	n := bitcoindtest.Start(t)
	for _, version := range versions {
		shares := []int64{400_000, 329, 1_000_000, 0}
		kinds := make([]script.Construction, len(shares))
		for i := range kinds {
			kinds[i] = script.Taproot
		}
		for i, c := range fundMany(t, n, version, 500, kinds...) {
			tx := c.closeTogether(t, shares[i], c.CloseVSize(shares[i], p2tr("payout"))*2)
			if want := 1 + b2i(shares[i] == 400_000); len(tx.TxOut) != want {
				t.Fatalf("a share of %d sat: %d outputs", shares[i], len(tx.TxOut))
			}
			mustSend(t, n, tx)
			mustMine(t, n, tx)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// One settlement of many channels: rests and zero rests of every construction,
// given in the wrong order; the one P2SH rest ends at index 0.
func TestBitcoindBatch(t *testing.T) {
	n := bitcoindtest.Start(t)
	kinds := []script.Construction{
		script.Taproot, script.Multisig, script.MultisigP2SH, script.MultisigP2SH, script.Taproot, script.Multisig, script.MultisigP2SH,
	}
	rests := []int64{0, 500_000, 0, 700_000, 330, 0, 0}
	for _, version := range versions {
		channels := fundMany(t, n, version, 500, kinds...)
		claims := make([]script.Claim, len(channels))
		for i, c := range channels {
			claims[i] = c.claim(t, rests[i])
		}
		first := settle(t, script.FeeRatePerVB(2), claims...)
		if first.TxIn[0].PreviousOutPoint != channels[3].Outpoint || first.TxOut[0].Value != 700_000 {
			t.Fatalf("index 0 spends %s", first.TxIn[0].PreviousOutPoint)
		}
		mustSend(t, n, first)
		second := settle(t, script.FeeRatePerVB(5), claims...)
		mustSend(t, n, second)
		mustMine(t, n, second)
	}
}

// TestPitfall64_Version3OverUnconfirmedFunding is relayed only once its version
// 2 funding is mined.
func TestPitfall64_Version3OverUnconfirmedFunding(t *testing.T) {
	n := bitcoindtest.Start(t)
	f := funding(script.Taproot, t.Name())
	pkScript, err := script.OutputScript(f.Construction, f.PayerKey, f.PayeeKey, f.Expiry)
	if err != nil {
		t.Fatal(err)
	}
	t1 := n.FundingTx(&wire.TxOut{Value: f.Capacity, PkScript: pkScript})
	mustSend(t, n, t1)
	c := open(t, f.Construction, t.Name(), func(f *script.Funding) { f.Outpoint = wire.OutPoint{Hash: t1.TxHash()} })
	settlement := settle(t, script.FeeRatePerVB(5), c.claim(t, 500_000))
	if ok, reason := n.TestAccept(settlement); ok {
		t.Fatal("a version 3 settlement over an unconfirmed version 2 funding was taken")
	} else if reason == "" {
		t.Fatal("no reason")
	}
	mustMine(t, n, t1)
	mustSend(t, n, settlement)
	mustMine(t, n, settlement)
}

// TestPitfall15_NodeTakesTheConstantOne shows on the chain what VerifyHalf and
// the fixed index guard against: a legacy SINGLE signature without an output of
// its index signs the constant 1, and bitcoind mines it. Nobody here makes one.
func TestPitfall15_NodeTakesTheConstantOne(t *testing.T) {
	n := bitcoindtest.Start(t)
	channels := fundMany(t, n, 2, 500, script.MultisigP2SH, script.MultisigP2SH)
	a, b := channels[0], channels[1]
	one := make([]byte, 32)
	one[0] = 1
	tx := settle(t, script.FeeRatePerVB(5), a.claim(t, 0), b.claim(t, 0))
	if len(tx.TxOut) != 1 {
		t.Fatalf("%d outputs", len(tx.TxOut))
	}
	sign := func(key *btcec.PrivateKey) []byte { return append(der(key, one), 0x03) }
	redeem := lastPush(t, tx.TxIn[1].SignatureScript)
	tx.TxIn[1].SignatureScript = pushes(t, nil, sign(b.payer), sign(b.payee), redeem)
	if ok, reason := n.TestAccept(tx); !ok {
		t.Fatalf("bitcoind does not sign the constant 1 any more: %s", reason)
	}
	for _, rest := range []int64{0, 500_000} {
		if err := b.VerifyHalf(rest, sign(b.payer)); err == nil {
			t.Fatalf("rest %d: a signature of the constant 1 was taken", rest)
		}
		if err := b.VerifyHalf(rest, append(der(b.payer, one), 0x83)); err == nil {
			t.Fatalf("rest %d: a signature of the constant 1 was taken", rest)
		}
	}
}
