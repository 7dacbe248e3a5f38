package tower

import (
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// an entry with an expiry at 1,000, a margin of 36 and rungs of 200 vB at 1, 2, 4 and
// 8 sat/vB.
func sample() Entry {
	e := Entry{Provider: "ada", Expiry: 1000, Margin: 36, Capacity: 50_000, Amount: 5_000, Version: 3, Payout: []byte{1}, Rest: []byte{2}}
	for _, rate := range []int64{1, 2, 4, 8} {
		e.Rungs = append(e.Rungs, Rung{Txid: string(rune('a' + len(e.Rungs))), Fee: 200 * rate, VSize: 200})
	}
	return e
}

func TestDecide(t *testing.T) {
	mined := channel.FundingView{Seen: true, Height: 100}
	mempool := func(txid string, lock uint32, fee, vsize int64) *channel.SpendView {
		return &channel.SpendView{Txid: txid, Lock: lock, Fee: fee, VSize: vsize}
	}
	for _, c := range []struct {
		name    string
		tip     uint32
		funding channel.FundingView
		spend   *channel.SpendView
		leaves  int64
		version int32 // 0: 3
		want    Decision
	}{
		{"long before the margin", 500, mined, nil, 0, 0, Decision{Do: Wait}},
		{"a block before the margin", 963, mined, nil, 0, 0, Decision{Do: Wait}},
		{"at the margin", 964, mined, nil, 0, 0, Decision{Climb, 0, AtMargin}},
		{"before the others are needed", 991, mined, nil, 0, 0, Decision{Climb, 0, AtMargin}},
		{"a block later", 992, mined, nil, 0, 0, Decision{Climb, 1, AtMargin}},
		{"at the top", 994, mined, nil, 0, 0, Decision{Climb, 3, AtMargin}},
		{"after the expiry", 1200, mined, nil, 0, 0, Decision{Climb, 3, AtMargin}},
		{"its rung waits", 991, mined, mempool("a", 0, 200, 200), 5000, 0, Decision{Do: Wait}},
		{"its rung was passed over", 992, mined, mempool("a", 0, 200, 200), 5000, 0, Decision{Climb, 1, AtMargin}},
		{"a higher rung waits", 992, mined, mempool("c", 0, 800, 200), 5000, 0, Decision{Do: Wait}},
		{"its rung waits before the margin", 700, mined, mempool("a", 0, 200, 200), 5000, 0, Decision{Do: Wait}},
		{"the top waits", 999, mined, mempool("d", 0, 1600, 200), 5000, 0, Decision{Do: Wait}},
		{"an older state", 700, mined, mempool("x", 0, 100, 200), 4999, 0, Decision{Climb, 1, OlderState}},
		{"an older state at a high rate", 700, mined, mempool("x", 0, 700, 200), 4999, 0, Decision{Climb, 3, OlderState}},
		{"an older state that no rung outbids", 700, mined, mempool("x", 0, 5000, 200), 4999, 0, Decision{Climb, 3, OlderState}},
		{"an older state of unknown fee", 700, mined, mempool("x", 0, 0, 0), 0, 0, Decision{Climb, 0, OlderState}},
		{"as good a state", 700, mined, mempool("x", 0, 100, 200), 5000, 0, Decision{Do: Wait}},
		{"a better state", 964, mined, mempool("x", 0, 100, 200), 9000, 0, Decision{Do: Wait}},
		{"a good state before rungs are needed", 991, mined, mempool("x", 0, 100, 200), 5000, 0, Decision{Do: Wait}},
		{"a good state below what is due", 992, mined, mempool("x", 0, 399, 200), 5000, 0, Decision{Climb, 2, Stuck}},
		{"a good state at what is due", 992, mined, mempool("x", 0, 400, 200), 5000, 0, Decision{Do: Wait}},
		{"a good state above all rungs", 999, mined, mempool("x", 0, 2000, 200), 5000, 0, Decision{Do: Wait}},
		{"a good state of unknown rate", 993, mined, mempool("x", 0, 0, 0), 5000, 0, Decision{Climb, 2, Stuck}},
		{"an older state with a child that pins it", 700, mined, &channel.SpendView{Txid: "x", Fee: 100, VSize: 200, ChildFee: 1000, ChildVSize: 1000}, 4999, 0,
			Decision{Climb, 3, OlderState}},
		{"a refund", 1000, mined, mempool("x", 1000, 100, 138), 0, 0, Decision{Climb, 3, RefundSeen}},
		{"a mined refund", 1001, mined, &channel.SpendView{Txid: "x", Height: 1001}, 0, 0, Decision{Do: Wait}},
		{"a mined rung", 990, mined, &channel.SpendView{Txid: "a", Height: 988}, 0, 0, Decision{Do: Wait}},
		{"nearly buried", 990, mined, &channel.SpendView{Txid: "x", Height: 986}, 0, 0, Decision{Do: Wait}},
		{"buried", 990, mined, &channel.SpendView{Txid: "x", Height: 985}, 0, 0, Decision{Do: Forget}},
		{"version 3 over an unconfirmed funding, before the margin", 963, channel.FundingView{Seen: true}, nil, 0, 0, Decision{Do: Wait}},
		{"version 3 over an unconfirmed funding, within it: a node is asked", 964, channel.FundingView{Seen: true}, nil, 0, 0, Decision{Climb, 0, AtMargin}},
		{"version 2 over an unconfirmed funding", 964, channel.FundingView{Seen: true}, nil, 0, 2, Decision{Climb, 0, AtMargin}},
		{"the funding is gone", 500, channel.FundingView{}, nil, 0, 0, Decision{Do: SendFunding}},
		{"the funding's coins went elsewhere", 500, channel.FundingView{ConflictDepth: 5}, nil, 0, 0, Decision{Do: SendFunding}},
		{"for good", 500, channel.FundingView{ConflictDepth: 6}, nil, 0, 0, Decision{Do: Forget}},
		{"the funding never came back", 1000 + keepUnseen, channel.FundingView{}, nil, 0, 0, Decision{Do: Forget}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := sample()
			if c.version != 0 {
				e.Version = c.version
			}
			v := View{View: channel.View{Tip: c.tip, Funding: c.funding, Spend: c.spend}, Leaves: c.leaves}
			if got := Decide(e, v, 6); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// The going rate is followed, from the margin on and against an older state, up to the
// highest rung; one that fell takes nothing back.
func TestDecideFollowsTheGoingRate(t *testing.T) {
	e := sample()
	v := View{View: channel.View{Tip: 964, Funding: channel.FundingView{Seen: true, Height: 1}}, Leaves: 4_000}
	for _, c := range []struct {
		rate script.FeeRate
		want int
	}{{1_000, 0}, {1_001, 1}, {4_000, 2}, {8_000, 3}, {100_000, 3}} {
		v.Rate, v.Spend = c.rate, nil
		if got := Decide(e, v, 6); got.Do != Climb || got.From != c.want {
			t.Errorf("at %s: %+v", c.rate, got)
		}
		v.Spend = &channel.SpendView{Txid: "x", Fee: 1, VSize: 200}
		if got := Decide(e, v, 6); got.Do != Climb || got.From != max(c.want, 1) {
			t.Errorf("against an older state at %s: %+v", c.rate, got)
		}
		v.Spend.Txid = "c"
		if got := Decide(e, v, 6); (got.Do == Climb) != (c.want == 3) {
			t.Errorf("over its third rung at %s: %+v", c.rate, got)
		}
	}
}

// The rung that the tip demands never falls while the tip rises, and is always one
// that there is; nothing is broadcast over what is mined.
func TestDecideNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := sample()
		e.Margin = rapid.Uint32Range(1, 999).Draw(t, "margin")
		tip := rapid.Uint32Range(0, 2000).Draw(t, "tip")
		v := View{View: channel.View{Tip: tip, Funding: channel.FundingView{Seen: true, Height: 1}}}
		before := Decide(e, v, 6)
		v.Tip++
		after := Decide(e, v, 6)
		if before.Do == Climb && (after.Do != Climb || after.From < before.From) {
			t.Fatalf("%+v, and a block later %+v", before, after)
		}
		if after.From >= len(e.Rungs) || (after.Do == Climb) != (v.Tip >= e.Deadline()) {
			t.Fatalf("%+v at %d", after, v.Tip)
		}
		v.Leaves = rapid.Int64Range(0, 50_000).Draw(t, "leaves")
		v.Spend = &channel.SpendView{
			Txid: rapid.SampledFrom([]string{"a", "b", "c", "d", "x"}).Draw(t, "txid"), Lock: rapid.Uint32Range(0, 1000).Draw(t, "lock"),
			Fee: rapid.Int64().Draw(t, "fee"), VSize: rapid.Int64().Draw(t, "vsize"),
		}
		if d := Decide(e, v, 6); d.From < 0 || d.From >= len(e.Rungs) {
			t.Fatalf("%+v", d)
		}
		v.Spend.Height = rapid.Uint32Range(1, v.Tip+10).Draw(t, "height")
		if d := Decide(e, v, 6); d.Do == Climb || d.Do == SendFunding {
			t.Fatalf("%+v over a mined spend", d)
		}
	})
}

func TestLeaves(t *testing.T) {
	out := func(value int64, script byte) *wire.TxOut { return &wire.TxOut{Value: value, PkScript: []byte{script}} }
	tx := func(lock uint32, inputs int, outs ...*wire.TxOut) *wire.MsgTx {
		m := wire.NewMsgTx(3)
		m.LockTime, m.TxOut = lock, outs
		for i := range inputs {
			m.AddTxIn(wire.NewTxIn(wire.NewOutPoint(&chainhash.Hash{byte(i)}, 0), nil, nil))
		}
		return m
	}
	const payout, rest = 1, 2
	for _, c := range []struct {
		name string
		tx   *wire.MsgTx
		vin  uint32
		want int64
	}{
		{"a refund", tx(1000, 1, out(49_800, 9)), 0, 0},
		{"a settlement", tx(0, 1, out(45_000, rest), out(4_800, payout)), 0, 5_000},
		{"an older one", tx(0, 1, out(46_000, rest), out(3_800, payout)), 0, 4_000},
		{"everything is the payee's", tx(0, 1, out(49_800, payout)), 0, 50_000},
		{"to somebody else", tx(0, 1, out(49_800, 9)), 0, 200},
		{"more than there is", tx(0, 1, out(60_000, 9)), 0, 0},
		{"with others, our rest at our index", tx(0, 2, out(7, 9), out(45_000, rest), out(9, payout)), 1, 5_000},
		{"with others, without a rest", tx(0, 2, out(7, 9), out(90_000, payout)), 1, 50_000},
		{"with others, beyond the outputs", tx(0, 3, out(90_000, payout)), 2, 50_000},
	} {
		if got := sample().leaves(c.tx, c.vin); got != c.want {
			t.Errorf("%s leaves %d, want %d", c.name, got, c.want)
		}
	}
}
