package neutrino

import (
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// TestFeesOf: what a block's reward takes beyond the subsidy is what its transactions paid.
func TestFeesOf(t *testing.T) {
	const subsidy = 50 * 100_000_000
	reward := wire.NewMsgTx(2)
	reward.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: wire.MaxPrevOutIndex}, []byte{1, 2}, nil))
	reward.AddTxOut(wire.NewTxOut(subsidy+1_000, []byte{0x51}))
	reward.AddTxOut(wire.NewTxOut(234, []byte{0x6a}))
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 7}, nil, [][]byte{make([]byte, 64)}))
	tx.AddTxOut(wire.NewTxOut(5, make([]byte, 34)))
	for _, c := range []struct {
		what   string
		txs    []*wire.MsgTx
		height uint32
		want   blockFees
	}{
		{"empty", []*wire.MsgTx{reward}, 1, blockFees{}},
		{"one transaction", []*wire.MsgTx{reward, tx}, 1, blockFees{1_234, 111}},
		{"two", []*wire.MsgTx{reward, tx, tx}, 1, blockFees{1_234, 222}},
		{"after a halving", []*wire.MsgTx{reward, tx}, 150, blockFees{1_234 + subsidy/2, 111}},
		{"less than allowed", []*wire.MsgTx{tx, tx}, 1, blockFees{0, 111}},
	} {
		if got := feesOf(&wire.MsgBlock{Transactions: c.txs}, c.height, &chaincfg.RegressionNetParams); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
}

// TestJudge: one peer that takes a transaction is enough; it is refused when all that had a say refuse it.
func TestJudge(t *testing.T) {
	took, silent := verdict{asked: true}, verdict{}
	known := verdict{asked: true, refused: "already have transaction", known: true}
	low := verdict{asked: true, refused: "insufficient fee\n\x00"}
	for _, c := range []struct {
		all []verdict
		ok  bool
	}{
		{nil, true}, {[]verdict{silent}, true}, {[]verdict{took}, true}, {[]verdict{known}, true}, {[]verdict{low}, false},
		{[]verdict{low, low}, false}, {[]verdict{low, silent}, false}, {[]verdict{low, took}, true}, {[]verdict{low, known}, true},
	} {
		if err := judge(c.all); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.all, err)
		}
	}
}

// TestPaidLast: a dear transaction in an empty block says nothing of what has to be paid, a full block does.
func TestPaidLast(t *testing.T) {
	for _, c := range []struct {
		what string
		all  []blockFees
		want int64 // sat per 1000 vB
	}{
		{"nothing", nil, 1_000},
		{"empty blocks", []blockFees{{}, {}}, 1_000},
		{"one dear transaction", []blockFees{{10_000, 125}}, 1_000},
		{"full blocks", []blockFees{{20_000_000, 1_000_000}, {10_000_000, 1_000_000}}, 15_000},
		{"an empty one among them", []blockFees{{20_000_000, 1_000_000}, {}}, 20_000},
		{"half a block", []blockFees{{18_000_000, 450_000}}, 20_000},
		{"absurd", []blockFees{{1 << 60, 1_000_000}}, 2_000_000},
	} {
		if got := average(c.all); int64(got) != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}
