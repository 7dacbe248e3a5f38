package simchain_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/internal/sim/simchain"
	"github.com/spillway/spillway/script"
)

var (
	anyone = []byte{txscript.OP_TRUE}
	open   = append([]byte{txscript.OP_0, 32}, chainhash.HashB(anyone)...) // P2WSH that anybody spends
)

// pay spends outputs that anybody may spend to one such output, or to several.
type pay struct {
	from    []wire.OutPoint
	in, fee int64 // sat, all that goes in
	outs    int64 // 0: one
	version int32 // 0: 2
	lock    uint32
	pad     int // bytes of data, to make it larger
}

func (p pay) tx() *wire.MsgTx {
	tx := wire.NewMsgTx(max(p.version, 1))
	if p.version == 0 {
		tx.Version = 2
	}
	tx.LockTime = p.lock
	for _, op := range p.from {
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: 0xfffffffd, Witness: wire.TxWitness{anyone}})
	}
	outs := max(p.outs, 1)
	for range outs {
		tx.AddTxOut(wire.NewTxOut((p.in-p.fee)/outs, open))
	}
	for range p.pad / 43 {
		tx.AddTxOut(wire.NewTxOut(330, open))
		tx.TxOut[0].Value -= 330
	}
	return tx
}

func coinOf(t testing.TB, c *simchain.Chain, sat int64) wire.OutPoint {
	t.Helper()
	op, err := c.Faucet(open, sat)
	if err != nil {
		t.Fatal(err)
	}
	c.Mine(nil)
	return op
}

func send(t testing.TB, c chain.Backend, tx *wire.MsgTx) wire.OutPoint {
	t.Helper()
	if err := c.Broadcast(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	return wire.OutPoint{Hash: tx.TxHash()}
}

func refused(t testing.TB, c chain.Backend, tx *wire.MsgTx, word string) {
	t.Helper()
	err := c.Broadcast(t.Context(), tx)
	var reject *chain.RejectError
	if !errors.As(err, &reject) || !strings.HasPrefix(reject.Reason, word) {
		t.Fatalf("want %q, got %v", word, err)
	}
}

func pending(c *simchain.Chain, op wire.OutPoint) bool {
	for _, tx := range c.Mempool() {
		if tx.TxHash() == op.Hash {
			return true
		}
	}
	return false
}

// TestReplacementWithoutSignal: any transaction can be replaced, as in a bitcoind.
func TestReplacementWithoutSignal(t *testing.T) {
	c := simchain.New()
	coin := coinOf(t, c, 100_000)
	first := pay{from: []wire.OutPoint{coin}, in: 100_000, fee: 200}.tx()
	first.TxIn[0].Sequence = wire.MaxTxInSequenceNum
	old := send(t, c, first)
	child := send(t, c, pay{from: []wire.OutPoint{old}, in: 99_800, fee: 30_000}.tx())
	least := 30_200 + script.VSize(first) // both fees and its own relay at 1 sat/vB
	refused(t, c, pay{from: []wire.OutPoint{coin}, in: 100_000, fee: least - 1}.tx(), "insufficient fee")
	next := send(t, c, pay{from: []wire.OutPoint{coin}, in: 100_000, fee: least}.tx())
	if pending(c, old) || pending(c, child) || !pending(c, next) {
		t.Fatal("the replacement did not take the place of the two")
	}
}

// TestTruc: BIP431 as far as a channel's transactions meet it.
func TestTruc(t *testing.T) {
	c := simchain.New()
	coin := coinOf(t, c, 200_000)
	parent := send(t, c, pay{from: []wire.OutPoint{coin}, in: 200_000, fee: 1_000, outs: 2, version: 3}.tx())
	other := wire.OutPoint{Hash: parent.Hash, Index: 1}
	refused(t, c, pay{from: []wire.OutPoint{parent}, in: 99_500, fee: 1_000, version: 2}.tx(), "TRUC-violation")
	refused(t, c, pay{from: []wire.OutPoint{parent}, in: 99_500, fee: 9_000, version: 3, pad: 1_000}.tx(), "TRUC-violation")
	child := send(t, c, pay{from: []wire.OutPoint{parent}, in: 99_500, fee: 2_000, version: 3, pad: 860}.tx())
	refused(t, c, pay{from: []wire.OutPoint{child}, in: 1_000, fee: 500, version: 3}.tx(), "TRUC-violation")
	refused(t, c, pay{from: []wire.OutPoint{other}, in: 99_500, fee: 2_000, version: 3}.tx(), "insufficient fee")
	sibling := send(t, c, pay{from: []wire.OutPoint{other}, in: 99_500, fee: 3_000, version: 3}.tx())
	if pending(c, child) || !pending(c, sibling) {
		t.Fatal("the sibling was not evicted")
	}
	v2 := send(t, c, pay{from: []wire.OutPoint{coinOf(t, c, 50_000)}, in: 50_000, fee: 500}.tx())
	refused(t, c, pay{from: []wire.OutPoint{v2}, in: 49_500, fee: 500, version: 3}.tx(), "TRUC-violation")
	refused(t, c, pay{from: []wire.OutPoint{coinOf(t, c, 200_000)}, in: 200_000, fee: 15_000, version: 3, pad: 10_000}.tx(), "TRUC-violation")
	c.Mine(nil)
	send(t, c, pay{from: []wire.OutPoint{v2}, in: 49_500, fee: 500, version: 3}.tx()) // its parent is confirmed
}

func TestChainLimit(t *testing.T) {
	c := simchain.New()
	at, sat := coinOf(t, c, 100_000), int64(100_000)
	for range 25 {
		at, sat = send(t, c, pay{from: []wire.OutPoint{at}, in: sat, fee: 200}.tx()), sat-200
	}
	over := pay{from: []wire.OutPoint{at}, in: sat, fee: 200}.tx()
	refused(t, c, over, "too-long-mempool-chain")
	c.Mine(nil)
	send(t, c, over)
}

func TestMinFee(t *testing.T) {
	c := simchain.New()
	cheap := send(t, c, pay{from: []wire.OutPoint{coinOf(t, c, 50_000)}, in: 50_000, fee: 150}.tx())
	lifted := send(t, c, pay{from: []wire.OutPoint{coinOf(t, c, 50_000)}, in: 50_000, fee: 150}.tx())
	child := send(t, c, pay{from: []wire.OutPoint{lifted}, in: 49_850, fee: 5_000}.tx())
	c.Mine(func(*wire.MsgTx) bool { return false })
	_ = cheap
	if n := c.SetMinFee(script.FeeRatePerVB(10)); n != 0 {
		t.Fatalf("%d were evicted; the first was mined, the child pays for its parent", n)
	}
	if n := c.SetMinFee(script.FeeRatePerVB(40)); n != 2 || pending(c, lifted) || pending(c, child) {
		t.Fatalf("%d of two were evicted", n)
	}
	coin := coinOf2(t, c)
	refused(t, c, pay{from: []wire.OutPoint{coin}, in: 50_000, fee: 300}.tx(), "mempool min fee not met")
	send(t, c, pay{from: []wire.OutPoint{coin}, in: 50_000, fee: 5_000}.tx())
	c.SetMinFee(0)
	refused(t, c, pay{from: []wire.OutPoint{coin}, in: 50_000, fee: 50}.tx(), "min relay fee not met")
}

// coinOf2 is a coin from before the first block.
func coinOf2(_ testing.TB, c *simchain.Chain) wire.OutPoint {
	op := wire.OutPoint{Hash: chainhash.Hash{7}}
	c.Coin(op, wire.NewTxOut(50_000, open))
	return op
}

// TestTemplate: the dearest first, a child pays for its parent, a floor and a block
// that is full keep others out.
func TestTemplate(t *testing.T) {
	c := simchain.New()
	coins := make([]wire.OutPoint, 4)
	for i := range coins {
		coins[i] = coinOf(t, c, 50_000)
	}
	low := send(t, c, pay{from: coins[:1], in: 50_000, fee: 150}.tx())
	mid := send(t, c, pay{from: coins[1:2], in: 50_000, fee: 500}.tx())
	poor := send(t, c, pay{from: coins[2:3], in: 50_000, fee: 150}.tx())
	rich := send(t, c, pay{from: []wire.OutPoint{poor}, in: 49_850, fee: 4_000}.tx())
	mined := func(ops ...wire.OutPoint) {
		t.Helper()
		for _, op := range []wire.OutPoint{low, mid, poor, rich} {
			want := false
			for _, in := range ops {
				want = want || in == op
			}
			if pending(c, op) == want {
				t.Fatalf("%s: mined %v, want %v", op, !want, want)
			}
		}
	}
	tall := c.Clone()
	if n := c.MineTemplate(simchain.Template{Floor: script.FeeRatePerVB(10)}); n != 2 {
		t.Fatalf("%d taken", n)
	}
	mined(poor, rich)
	if n := c.MineTemplate(simchain.Template{Floor: script.FeeRatePerVB(1_000)}); n != 0 {
		t.Fatalf("%d taken above 1,000 sat/vB", n)
	}
	weight := script.Weight(pay{from: coins[:1], in: 50_000, fee: 150}.tx())
	if n := c.MineTemplate(simchain.Template{Weight: weight}); n != 1 {
		t.Fatalf("%d taken", n)
	}
	mined(poor, rich, mid)
	c = tall // the clone is where the chain was
	mined()
	c.Mine(func(tx *wire.MsgTx) bool {
		_, known := c.Fee(tx.TxHash()) // it may ask the chain
		return known && tx.TxHash() != poor.Hash
	})
	mined(low, mid)
}

// TestTime: blocks two hours apart, a clock that goes back, locks by median time.
func TestTime(t *testing.T) {
	c := simchain.New()
	now := time.Unix(simchain.StartTime, 0)
	c.SetTime(func() time.Time { return now })
	coin := coinOf(t, c, 50_000)
	lock := uint32(simchain.StartTime + 7_199)
	tx := pay{from: []wire.OutPoint{coin}, in: 50_000, fee: 500, lock: lock}.tx()
	now = now.Add(2 * time.Hour)
	blocks := 0
	for ; c.MedianTime().Unix() <= int64(lock) && blocks < 20; blocks++ {
		refused(t, c, tx, "non-final")
		c.Mine(nil)
	}
	if blocks < 6 {
		t.Fatalf("the median moved past the lock after %d blocks", blocks)
	}
	send(t, c, tx)
	now = now.Add(-4 * time.Hour)
	if n := c.Reorg(8); n != 1 || !pending(c, coin) || pending(c, wire.OutPoint{Hash: tx.TxHash()}) {
		t.Fatalf("%d undone; the lock is not over in the new branch", n)
	}
	now = now.Add(-24 * time.Hour)
	before := c.MedianTime()
	c.Mine(nil)
	if tip, err := c.Tip(t.Context()); err != nil || !tip.Time.Equal(before.Add(time.Second)) {
		t.Fatalf("a clock that went back: tip at %v, %v, median %v", tip.Time, err, before)
	}
}

// TestReorgs: as deep as it goes, and nothing but empty blocks afterwards.
func TestReorgs(t *testing.T) {
	c := simchain.New()
	if n := c.Reorg(100); n != 0 || c.Height() != simchain.StartHeight+1 {
		t.Fatalf("%d undone, height %d", n, c.Height())
	}
	coin := coinOf(t, c, 50_000)
	spend := send(t, c, pay{from: []wire.OutPoint{coin}, in: 50_000, fee: 500}.tx())
	c.Mine(nil)
	if n := c.Reorg(2); n != 2 || !pending(c, spend) {
		t.Fatalf("%d undone", n)
	}
	before := c.Unspent()
	if _, err := c.ReorgWith(simchain.ReorgOptions{Depth: 1, Mine: []*wire.MsgTx{pay{from: []wire.OutPoint{{}}, in: 9_000, fee: 1}.tx()}}); !errors.Is(err, simchain.ErrBlock) {
		t.Fatalf("a block that spends nothing: %v", err)
	}
	if after := c.Unspent(); len(after) != len(before) || !pending(c, spend) {
		t.Fatal("a refused reorg changed the chain")
	}
	for _, o := range []simchain.ReorgOptions{{}, {Depth: -1}, {Depth: 1 << 20}, {Depth: 3, Length: 3}} {
		if _, err := c.ReorgWith(o); !errors.Is(err, simchain.ErrRange) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if n := c.Evict(coin.Hash); n != 2 || len(c.Mempool()) != 0 {
		t.Fatalf("%d evicted", n)
	}
	if total, confirmed := c.Balance(open); total != c.Unspent()[0].Value || confirmed != total { // the faucet's own
		t.Fatalf("%d sat, %d confirmed", total, confirmed)
	}
}

// TestScriptsSwitch: a wrong witness is refused, unless scripts are skipped.
func TestScriptsSwitch(t *testing.T) {
	c := simchain.New()
	wrong := pay{from: []wire.OutPoint{coinOf(t, c, 50_000)}, in: 50_000, fee: 500}.tx()
	wrong.TxIn[0].Witness = wire.TxWitness{{txscript.OP_FALSE}}
	refused(t, c, wrong, "mempool-script-verify-flag-failed")
	c.SkipScripts = true
	send(t, c, wrong)
}

func BenchmarkEvent(b *testing.B) {
	c := simchain.New()
	c.SkipScripts = true
	at, sat := coinOf(b, c, 1<<40), int64(1<<40)
	b.ReportAllocs()
	for b.Loop() {
		at, sat = send(b, c, pay{from: []wire.OutPoint{at}, in: sat, fee: 200}.tx()), sat-200
		if _, err := c.Spend(b.Context(), at); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Tip(b.Context()); err != nil {
			b.Fatal(err)
		}
		c.Mine(nil)
	}
}

func BenchmarkReorg100(b *testing.B) {
	c := simchain.New()
	coinOf(b, c, 50_000)
	b.ReportAllocs()
	for b.Loop() {
		c.Reorg(100)
	}
}
