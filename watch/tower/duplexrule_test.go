package tower

import (
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/channel"
)

// a duplex entry of epoch 3: expiry 1,000, step 50, so lock 850, until 900; margin 36: its
// deadline is 864.
func duplexSample() Entry {
	e := sample()
	e.Step, e.Lock = 50, 850
	return e
}

func TestDecideDuplex(t *testing.T) {
	spend := func(txid string, lock uint32, fee int64) *channel.SpendView {
		return &channel.SpendView{Txid: txid, Lock: lock, Fee: fee, VSize: 200}
	}
	for _, c := range []struct {
		name   string
		tip    uint32
		spend  *channel.SpendView
		leaves int64
		want   Decision
	}{
		{"before the lock", 849, nil, 0, Decision{Do: Wait}},
		{"before the lock, after a reorg", 849, spend("x", 850, 100), 4000, Decision{Do: Wait}},
		{"at the lock", 850, nil, 0, Decision{Do: Wait}},
		{"before the deadline", 863, nil, 0, Decision{Do: Wait}},
		{"at the deadline", 864, nil, 0, Decision{Climb, 0, AtMargin}},
		{"before the others are needed", 891, nil, 0, Decision{Climb, 0, AtMargin}},
		{"at the top, six blocks before the older lock", 894, nil, 0, Decision{Climb, 3, AtMargin}},
		{"less of the same epoch", 850, spend("x", 850, 100), 4999, Decision{Climb, 1, OlderState}},
		{"as much of the same epoch", 863, spend("x", 850, 100), 5000, Decision{Do: Wait}},
		{"the provider's own, at the deadline", 864, spend("x", 850, 100), 5000, Decision{Do: Wait}},
		{"the provider's own, too low by now", 894, spend("x", 850, 200), 5000, Decision{Climb, 3, Stuck}},
		{"an older epoch", 900, spend("x", 900, 100), 0, Decision{Climb, 3, OlderState}},
		{"the refund", 1000, spend("x", 1000, 100), 0, Decision{Climb, 3, RefundSeen}},
		{"a newer epoch, before the deadline", 863, spend("x", 800, 100), 50_000, Decision{Do: Wait}},
		{"a newer epoch that pays what is due", 864, spend("x", 800, 200), 50_000, Decision{Do: Wait}},
		{"a newer epoch that does not", 864, spend("x", 800, 199), 50_000, Decision{Climb, 1, Stuck}},
		{"a close, before the deadline", 863, spend("x", 0, 100), 50_000, Decision{Do: Wait}},
		{"a close that pays what is due", 864, spend("x", 0, 200), 50_000, Decision{Do: Wait}},
		{"a close that does not", 864, spend("x", 0, 199), 50_000, Decision{Climb, 1, Stuck}},
		{"a rung", 891, spend("a", 850, 200), 5000, Decision{Do: Wait}},
		{"a mined one", 895, &channel.SpendView{Txid: "x", Lock: 900, Height: 895}, 0, Decision{Do: Wait}},
	} {
		v := View{View: channel.View{Tip: c.tip, Rate: 1000, Funding: channel.FundingView{Seen: true, Height: 100}, Spend: c.spend}, Leaves: c.leaves}
		if got := Decide(duplexSample(), v, 6); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestLeavesDuplex(t *testing.T) {
	for _, c := range []struct {
		lock uint32
		rest int64
		want int64
	}{{0, 49_000, 50_000}, {800, 49_000, 50_000}, {850, 46_000, 4_000}, {900, 46_000, 0}, {1000, 46_000, 0}} {
		tx := wire.NewMsgTx(3)
		tx.LockTime = c.lock
		tx.AddTxIn(&wire.TxIn{})
		tx.TxOut = []*wire.TxOut{{Value: c.rest, PkScript: []byte{2}}, {Value: 900, PkScript: []byte{1}}}
		if got := duplexSample().leaves(tx, 0); got != c.want {
			t.Errorf("locked until %d it leaves %d, want %d", c.lock, got, c.want)
		}
	}
}

// Nothing is tried before the lock, the rung that is due never falls, and whatever waits,
// from six blocks before the older lock on nothing that pays less than the highest rung is
// left alone.
func TestDecideDuplexNeverTooLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := duplexSample()
		tip := rapid.Uint32Range(800, 1100).Draw(t, "tip")
		v := View{View: channel.View{Tip: tip, Funding: channel.FundingView{Seen: true, Height: 1}}}
		before := Decide(e, v, 6)
		v.Tip++
		after := Decide(e, v, 6)
		if (after.Do == Climb) != (v.Tip >= 864) || before.Do == Climb && after.From < before.From {
			t.Fatalf("%+v, and a block later %+v at %d", before, after, v.Tip)
		}
		v.Leaves = rapid.Int64Range(0, 50_000).Draw(t, "leaves")
		v.Spend = &channel.SpendView{Txid: rapid.SampledFrom([]string{"a", "b", "c", "x"}).Draw(t, "txid"),
			Lock: rapid.SampledFrom([]uint32{0, 700, 800, 850, 900, 950, 1000}).Draw(t, "lock"),
			Fee:  rapid.Int64Range(0, 1599).Draw(t, "fee"), VSize: 200}
		d := Decide(e, v, 6)
		if v.Tip < e.Lock && d.Do != Wait {
			t.Fatalf("before the lock %+v", d)
		}
		if v.Tip >= e.Until()-lastBlocks && d.Do != Climb {
			t.Fatalf("%+v at %d over %+v", d, v.Tip, *v.Spend)
		}
	})
}
