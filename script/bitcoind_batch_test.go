package script_test

import (
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/bitcoindtest"
	"github.com/spillway/spillway/script"
)

// TestPitfall48_EvictionOnBitcoind: a refund throws a batch out of a real node's mempool
// from the expiry on, when it pays for all of it; the others are settled alone at once,
// and the one that was taken back replaces the refund.
func TestPitfall48_EvictionOnBitcoind(t *testing.T) {
	n := bitcoindtest.Start(t)
	for _, version := range versions {
		channels := fundMany(t, n, version, 3, script.Taproot, script.Multisig, script.MultisigP2SH)
		var claims []script.Claim
		for _, c := range channels {
			claims = append(claims, c.claim(t, 900_000))
		}
		batch := settle(t, script.FeeRatePerVB(5), claims...)
		mustSend(t, n, batch)
		refund := func(rate int64) *wire.MsgTx { return channels[0].refund(t, script.FeeRatePerVB(rate)) }
		refusedBy(t, n, refund(200), "non-final")
		for n.Height() < int64(channels[0].Expiry) { // miners leave the batch out
			mineWithout(t, n)
		}
		if !n.InMempool(batch) {
			t.Fatal("the batch was mined")
		}
		refusedBy(t, n, refund(10), "insufficient fee, rejecting replacement")
		evicting := refund(30)
		mustSend(t, n, evicting)
		if n.InMempool(batch) {
			t.Fatal("the batch is still there")
		}
		refusedBy(t, n, batch, "insufficient fee, rejecting replacement")
		var alone []*wire.MsgTx
		for i, c := range channels {
			rate := script.FeeRatePerVB(5)
			if i == 0 {
				rate = script.FeeRatePerVB(31)
			}
			tx := settle(t, rate, c.claim(t, 900_000))
			mustSend(t, n, tx)
			alone = append(alone, tx)
		}
		if n.InMempool(evicting) {
			t.Fatal("the refund is still there")
		}
		n.Mine(1)
		for i, tx := range alone {
			if n.MinedAt(tx) != n.Height() {
				t.Errorf("channel %d was not settled", i)
			}
		}
	}
}

// mineWithout mines a block with no transaction of the mempool.
func mineWithout(t testing.TB, n *bitcoindtest.Node) {
	t.Helper()
	if err := n.RPC(nil, "generateblock", "raw(51)", []string{}); err != nil {
		t.Fatal(err)
	}
}
