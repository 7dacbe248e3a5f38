package channel

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// A coin of the payee's own is taken where the settlement's own output is too small for the
// fee that it needs, and only up to what was paid.
func TestWhenACoinHelps(t *testing.T) {
	ch := terms().built(t)
	size := func(r PayeeRecord) int64 { return ch.SettlementVSize(int64(capacity-r.Paid), payout) }
	fees := policy()
	fees.FeeInputs = true
	had := func(coins int64) func(*PayeeRecord) {
		return func(r *PayeeRecord) { r.Settlement = &Broadcast{Txid: "x", Rate: 1000, Amount: r.Paid, Coins: coins} }
	}
	for _, c := range []struct {
		name  string
		r     PayeeRecord
		rate  script.FeeRate
		p     Policy
		helps bool
	}{
		{"too small for any fee", record(paid(450)), 1000, fees, true},
		{"nobody lends", record(paid(450)), 1000, policy(), false},
		{"duplex", record(paid(450), func(r *PayeeRecord) { r.Duplex = &Duplex{} }), 1000, fees, false},
		{"not worth what is relayed", record(paid(260)), 1000, fees, false},
		{"worth just that", record(paid(uint64(size(record(paid(264)))) + feeInput + 1)), 1000, fees, true},
		{"a satoshi less", record(paid(uint64(size(record(paid(264)))) + feeInput)), 1000, fees, false},
		{"enough for the going rate", record(paid(1000)), 3000, fees, false},
		{"too little for the going rate", record(paid(1000)), 3500, fees, true},
		{"enough by now, and it has one", record(paid(1000), had(10_000)), 1000, fees, true},
		{"enough, and it had none", record(paid(1000), had(0)), 1000, fees, false},
		{"so much that a coin costs more than it brings", record(paid(50_000)), 900_000, fees, false},
		{"a going rate below what is relayed", record(paid(500)), 100, fees, true},
	} {
		limit := stakeRate(int64(c.r.Paid)-script.Dust(payout), size(c.r))
		got := c.r.topUp(size(c.r), limit, at(200, rate(c.rate)), c.p)
		if (got > 0) != c.helps || got > 0 && (got <= limit || got.Fee(size(c.r)+feeInput) >= int64(c.r.Paid)) {
			t.Errorf("%s: %d, alone %d", c.name, got, limit)
		}
	}
}

// TopUpSound refuses each change of a settlement with a fee input.
func TestTopUpSound(t *testing.T) {
	r := record(paid(450))
	coin := wire.OutPoint{Hash: chainhash.Hash{5}}
	coins := map[wire.OutPoint]*wire.TxOut{coin: wire.NewTxOut(10_000, payout)}
	made := func(change func(*wire.MsgTx)) *wire.MsgTx {
		tx := wire.NewMsgTx(3)
		for _, op := range []wire.OutPoint{wire.OutPoint(r.Terms.Outpoint), coin} {
			tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: script.Sequence})
		}
		tx.AddTxOut(wire.NewTxOut(int64(capacity-450), r.Terms.RestScript))
		tx.AddTxOut(wire.NewTxOut(10_000+450-300, payout))
		change(tx)
		return tx
	}
	for _, c := range []struct {
		name   string
		change func(*wire.MsgTx)
		fee    int64
		sound  bool
	}{
		{"as it is made", func(*wire.MsgTx) {}, 300, true},
		{"a foreign input more", func(tx *wire.MsgTx) { tx.AddTxIn(&wire.TxIn{Sequence: script.Sequence}) }, 300, false},
		{"another coin", func(tx *wire.MsgTx) { tx.TxIn[1].PreviousOutPoint.Index = 7 }, 300, false},
		{"the coin first", func(tx *wire.MsgTx) { tx.TxIn[0], tx.TxIn[1] = tx.TxIn[1], tx.TxIn[0] }, 300, false},
		{"another channel", func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Index++ }, 300, false},
		{"a final sequence", func(tx *wire.MsgTx) { tx.TxIn[1].Sequence = wire.MaxTxInSequenceNum }, 300, false},
		{"locked", func(tx *wire.MsgTx) { tx.LockTime = 1 }, 300, false},
		{"an output more", func(tx *wire.MsgTx) { tx.AddTxOut(wire.NewTxOut(0, payout)) }, 300, false},
		{"no rest", func(tx *wire.MsgTx) { tx.TxOut = tx.TxOut[1:] }, 300, false},
		{"another rest", func(tx *wire.MsgTx) { tx.TxOut[0].Value-- }, 300, false},
		{"the rest to somebody else", func(tx *wire.MsgTx) { tx.TxOut[0].PkScript = payout }, 300, false},
		{"a smaller payout", func(tx *wire.MsgTx) { tx.TxOut[1].Value-- }, 300, false},
		{"the payout to somebody else", func(tx *wire.MsgTx) { tx.TxOut[1].PkScript = r.Terms.RestScript }, 300, false},
		{"more given than was paid", func(tx *wire.MsgTx) { tx.TxOut[1].Value = 10_000 - 1 }, 451, false},
		{"all that was paid", func(tx *wire.MsgTx) { tx.TxOut[1].Value = 10_000 }, 450, true},
		{"a fee that is not relayed", func(tx *wire.MsgTx) { tx.TxOut[1].Value = 10_450 - 100 }, 100, false},
	} {
		err := r.TopUpSound(made(c.change), c.fee, payout, coins)
		if (err == nil) != c.sound || err != nil && !errors.Is(err, ErrInvariant) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	all := record(paid(capacity)) // nothing is left to the payer
	tx := made(func(tx *wire.MsgTx) {
		tx.TxOut = tx.TxOut[1:]
		tx.TxOut[0].Value = 10_000 + int64(capacity) - 300
	})
	if err := all.TopUpSound(tx, 300, payout, coins); err != nil {
		t.Errorf("without a rest: %v", err)
	}
	small := map[wire.OutPoint]*wire.TxOut{coin: wire.NewTxOut(100, payout)}
	if err := r.TopUpSound(made(func(tx *wire.MsgTx) { tx.TxOut[1].Value = 250 }), 300, payout, small); err == nil {
		t.Error("a payout below dust")
	}
}

// What waits in the mempool is shared only where it is a settlement of ours, of several.
func TestShared(t *testing.T) {
	of := func(txids ...string) PayeeRecord {
		return record(paid(5000), func(r *PayeeRecord) { r.Settlement = &Broadcast{Txid: "batch", Rate: 1000, Amount: 5000, Batch: txids} })
	}
	spend := func(txid string, height uint32) View { return at(200, spentBy(txid, height)) }
	for _, c := range []struct {
		name string
		r    PayeeRecord
		v    View
		want bool
	}{
		{"it waits", of("a", "b"), spend("batch", 0), true},
		{"of one", of("a"), spend("batch", 0), false},
		{"mined", of("a", "b"), spend("batch", 200), false},
		{"somebody else's", of("a", "b"), spend("refund", 0), false},
		{"nothing", of("a", "b"), at(200), false},
		{"none was made", record(paid(5000)), spend("batch", 0), false},
	} {
		if c.r.Shared(c.v) != c.want {
			t.Errorf("%s: %t", c.name, !c.want)
		}
	}
}

// A rung of the tower's is left alone while it pays enough, and one that leaves more than is
// known here until the last need.
func TestCoveredBySomebodyElses(t *testing.T) {
	limit := script.FeeRate(20_000)
	for _, c := range []struct {
		name   string
		tip    uint32
		spend  *SpendView
		rate   script.FeeRate
		spared bool
	}{
		{"as much, at the going rate", 200, &SpendView{Txid: "x", Fee: 400, VSize: 200, Leaves: 5000}, 2000, true},
		{"as much, below it", 200, &SpendView{Txid: "x", Fee: 399, VSize: 200, Leaves: 5000}, 2000, false},
		{"as much, too low for the block", expiry - 9, &SpendView{Txid: "x", Fee: 400, VSize: 200, Leaves: 5000}, 2000, false},
		{"less", 200, &SpendView{Txid: "x", Fee: 400, VSize: 200, Leaves: 4999}, 2000, false},
		{"a refund", 200, &SpendView{Txid: "x", Fee: 400, VSize: 200, Leaves: 5000, Lock: expiry}, 2000, false},
		{"more, below the going rate", expiry - lastBlocks - 1, &SpendView{Txid: "x", Fee: 399, VSize: 200, Leaves: 5001}, 2000, true},
		{"more, in the last need", expiry - lastBlocks, &SpendView{Txid: "x", Fee: 399, VSize: 200, Leaves: 5001}, 2000, false},
		{"more, in the last need, at the going rate", expiry - lastBlocks, &SpendView{Txid: "x", Fee: 400, VSize: 200, Leaves: 5001}, 2000, true},
		{"nothing", 200, nil, 2000, false},
	} {
		r := record(paid(5000))
		v := at(c.tip, rate(c.rate), func(v *View) { v.Spend = c.spend })
		if got := r.covered(v, r.Terms.climb(expiry, c.tip, limit)); got != c.spared {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// Without a coin a settlement is made at what its own output pays, where a node relays that
// and it is more than the last one.
func TestWithoutACoin(t *testing.T) {
	r := record(paid(800))
	size := terms().built(t).SettlementVSize(int64(capacity-800), payout)
	most := stakeRate(800-script.Dust(payout), size) // 2,301
	last := func(rate script.FeeRate) func(*PayeeRecord) {
		return func(r *PayeeRecord) { r.Settlement = &Broadcast{Txid: "x", Rate: int64(rate)} }
	}
	for _, c := range []struct {
		name       string
		r          PayeeRecord
		rate, want script.FeeRate
	}{
		{"what was wanted", r, 2000, 2000},
		{"what it can pay", r, 9000, most},
		{"what is relayed", r, 1000, 1000},
		{"less than that", r, 999, 0},
		{"too little for anything", record(paid(400)), 2000, 0},
		{"dearer than the last", record(paid(800), last(1999)), 2000, 2000},
		{"not dearer", record(paid(800), last(2000)), 2000, 0},
		{"the last paid all it can", record(paid(800), last(most)), 9000, 0},
	} {
		if got := (Seat{Record: c.r, Script: terms().built(t)}).Without(payout, c.rate); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
