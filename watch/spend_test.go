package watch_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch"
)

// book is a chain that shows what it was given; a pruned transaction cannot be read.
type book struct {
	txs    map[chainhash.Hash]*wire.MsgTx
	mined  map[chainhash.Hash]bool
	pruned map[chainhash.Hash]bool
	claims map[wire.OutPoint]chainhash.Hash // what it says of spends, true or not
}

func (b *book) Tip(context.Context) (chain.Tip, error) { return chain.Tip{Height: 200}, nil }

func (b *book) FeeRate(context.Context, int) (script.FeeRate, error) { return 1000, nil }

func (b *book) Tx(_ context.Context, id chainhash.Hash) (chain.TxInfo, error) {
	if b.pruned[id] {
		return chain.TxInfo{}, fmt.Errorf("%w: the node has pruned its block", chain.ErrUnavailable)
	}
	tx := b.txs[id]
	if tx == nil {
		return chain.TxInfo{}, chain.ErrNotFound
	}
	return chain.TxInfo{Tx: tx, Confirmed: b.mined[id], Height: 100}, nil
}

func (b *book) Spend(_ context.Context, op wire.OutPoint) (*chain.Spend, error) {
	if id, ok := b.claims[op]; ok {
		return &chain.Spend{Txid: id}, nil
	}
	for id, tx := range b.txs {
		for i, in := range tx.TxIn {
			if in.PreviousOutPoint == op {
				return &chain.Spend{Txid: id, Vin: uint32(i), Confirmed: b.mined[id], Height: 100}, nil
			}
		}
	}
	return nil, nil
}

// anybody is the script of an output with this index: anybody may spend it.
func anybody(index uint32) []byte {
	return []byte{txscript.OP_DATA_3, byte(index), byte(index >> 8), 1, txscript.OP_DROP, txscript.OP_TRUE}
}

// add shows a transaction with these inputs, which leaves so many sat in each output.
func (b *book) add(mined bool, outs []int64, ins ...wire.OutPoint) chainhash.Hash {
	tx := wire.NewMsgTx(2)
	for _, op := range ins {
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Witness: wire.TxWitness{anybody(op.Index)}})
	}
	for i, v := range outs {
		hash := sha256.Sum256(anybody(uint32(i)))
		tx.AddTxOut(wire.NewTxOut(v, append([]byte{txscript.OP_0, 32}, hash[:]...)))
	}
	id := tx.TxHash()
	b.txs[id], b.mined[id] = tx, mined
	return id
}

// waiting is a funding of 100,000 sat with a settlement of it in the mempool.
func waiting() (b *book, t watch.Target, settlement chainhash.Hash) {
	b = &book{txs: map[chainhash.Hash]*wire.MsgTx{}, mined: map[chainhash.Hash]bool{}, pruned: map[chainhash.Hash]bool{}}
	t1 := b.add(true, []int64{100_000}, wire.OutPoint{Hash: chainhash.Hash{1}})
	settlement = b.add(false, []int64{89_800, 10_000}, wire.OutPoint{Hash: t1})
	return b, watch.Target{ID: "c", Outpoint: wire.OutPoint{Hash: t1}, Rest: b.txs[settlement].TxOut[0].PkScript}, settlement
}

// A child that spends another unconfirmed transaction as well is mined with that one only: it
// carries the settlement no further than both together pay. What it costs to evict is told.
func TestChildWithAnotherUnconfirmedParentCarriesNothing(t *testing.T) {
	for _, c := range []struct {
		name    string
		attack  func(b *book, rest wire.OutPoint)
		fees    int64 // sat
		carries bool
	}{
		{"one child of its own", func(b *book, rest wire.OutPoint) { b.add(false, []int64{59_800}, rest) }, 30_000, true},
		{"one child of both outputs", func(b *book, rest wire.OutPoint) {
			b.add(false, []int64{69_800}, rest, wire.OutPoint{Hash: rest.Hash, Index: 1})
		}, 30_000, true},
		{"two children", func(b *book, rest wire.OutPoint) {
			b.add(false, []int64{79_800}, rest)
			b.add(false, []int64{8_000}, wire.OutPoint{Hash: rest.Hash, Index: 1})
		}, 12_000, false},
		{"a child that pays out more than there is", func(b *book, rest wire.OutPoint) { b.add(false, []int64{89_801}, rest) }, 0, false},
		{"a child without a fee", func(b *book, rest wire.OutPoint) { b.add(false, []int64{89_800}, rest) }, 0, true},
		{"a child that spends what there is not", func(b *book, rest wire.OutPoint) {
			b.add(false, []int64{1_000}, rest, wire.OutPoint{Hash: rest.Hash, Index: 2})
		}, 0, false},
		{"a child of a hundred and one inputs", func(b *book, rest wire.OutPoint) {
			ins := []wire.OutPoint{rest}
			for i := range uint32(100) {
				ins = append(ins, wire.OutPoint{Hash: b.add(true, []int64{1_000}, wire.OutPoint{Hash: chainhash.Hash{4}, Index: i})})
			}
			b.add(false, []int64{1_000}, ins...)
		}, 0, false},
		{"a child that is gone meanwhile", func(b *book, rest wire.OutPoint) { b.claims = map[wire.OutPoint]chainhash.Hash{rest: {6}} }, 0, false},
		{"a child in a block", func(b *book, rest wire.OutPoint) { b.add(true, []int64{59_800}, rest) }, 0, false},
		{"with a confirmed coin", func(b *book, rest wire.OutPoint) {
			coin := b.add(true, []int64{5_000}, wire.OutPoint{Hash: chainhash.Hash{2}})
			b.add(false, []int64{64_800}, rest, wire.OutPoint{Hash: coin})
		}, 30_000, true},
		{"with a large parent that pays little", func(b *book, rest wire.OutPoint) {
			coin := b.add(true, []int64{300_000}, wire.OutPoint{Hash: chainhash.Hash{2}})
			outs := make([]int64, 1_000)
			for i := range outs {
				outs[i] = 200
			}
			heavy := b.add(false, outs, wire.OutPoint{Hash: coin})
			b.add(false, []int64{60_000}, rest, wire.OutPoint{Hash: heavy})
		}, 30_000, false},
		{"a large child whose many small children pay", func(b *book, rest wire.OutPoint) {
			outs := make([]int64, 500)
			for i := range outs {
				outs[i] = 160
			}
			large := b.add(false, outs, rest)
			for i := range uint32(4) {
				b.add(false, []int64{10}, wire.OutPoint{Hash: large, Index: i})
			}
		}, 89_800 - 500*160 + 4*150, false},
		{"more than a node keeps", func(b *book, rest wire.OutPoint) {
			outs := make([]int64, 50)
			for i := range outs {
				outs[i] = 1_000
			}
			large := b.add(false, outs, rest)
			for i := range uint32(50) {
				b.add(false, []int64{900}, wire.OutPoint{Hash: large, Index: i})
			}
		}, 39_800 + 23*100, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, target, settlement := waiting()
			c.attack(b, wire.OutPoint{Hash: settlement})
			v, _, err := watch.LookAt(t.Context(), b, target)
			must(t, err)
			if v.Spend.Fee != 200 || v.Spend.ChildFee != c.fees || v.Spend.Leaves != 10_200 {
				t.Fatalf("%+v", v.Spend)
			}
			if got := v.Spend.ChildVSize > 0; got != c.carries {
				t.Fatalf("%+v: it is taken to carry the settlement: %t", v.Spend, got)
			}
		})
	}
}

// What a payer puts beside a refund, or into a child, may be older than what a pruned node
// can show. It keeps nobody from looking at the channel.
func TestForeignInputThatNobodyShowsBlindsNobody(t *testing.T) {
	old := wire.OutPoint{Hash: chainhash.Hash{9}}
	b, target, settlement := waiting()
	b.pruned[old.Hash] = true
	b.add(false, []int64{60_000}, wire.OutPoint{Hash: settlement}, old)
	v, _, err := watch.LookAt(t.Context(), b, target)
	must(t, err)
	if v.Spend == nil || v.Spend.Fee != 200 || v.Spend.ChildVSize != 0 {
		t.Fatalf("%+v", v.Spend)
	}
	b, target, settlement = waiting()
	b.pruned[old.Hash] = true
	delete(b.txs, settlement)
	b.add(false, []int64{90_000}, target.Outpoint, old)
	v, _, err = watch.LookAt(t.Context(), b, target)
	must(t, err)
	if v.Spend == nil || v.Spend.Height != 0 || v.Spend.VSize != 0 {
		t.Fatalf("%+v", v.Spend)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := watch.LookAt(ctx, b, target); err == nil {
		t.Fatal("a look that was called off is told as one that saw nothing")
	}
}

// What a backend shows under a transaction's id may have another witness, be made up, or
// spend something else. It is told as a spend that is older than all, and counts for nothing
// else: it leaves the payee nothing, and what it seems to pay is not outbid.
func TestUnsignedSpendIsNotBelieved(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(tx *wire.MsgTx)
	}{
		{"another witness", func(tx *wire.MsgTx) { tx.TxIn[0].Witness = wire.TxWitness{make([]byte, 64)} }},
		{"another output", func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Hash = chainhash.Hash{3} }},
		{"no such input", func(tx *wire.MsgTx) { tx.TxIn = tx.TxIn[:0] }},
	} {
		b, target, settlement := waiting()
		b.add(true, []int64{100_000}, wire.OutPoint{Hash: chainhash.Hash{2}})
		for id, tx := range b.txs {
			if b.mined[id] && id != target.Outpoint.Hash {
				b.txs[chainhash.Hash{3}] = tx
			}
		}
		b.add(false, []int64{59_800}, wire.OutPoint{Hash: settlement})
		c.lie(b.txs[settlement])
		b.claims = map[wire.OutPoint]chainhash.Hash{target.Outpoint: settlement}
		v, _, err := watch.LookAt(t.Context(), b, target)
		must(t, err)
		if s := v.Spend; s == nil || *s != (channel.SpendView{Txid: settlement.String(), Lock: math.MaxUint32}) {
			t.Errorf("%s: %+v", c.name, v.Spend)
		}
	}
}

// A backend that shows less than there should be is no reason to panic, nor to believe it.
func TestSpendOfWhatIsNotShown(t *testing.T) {
	b, target, settlement := waiting()
	b.claims = map[wire.OutPoint]chainhash.Hash{target.Outpoint: {7}} // a spend that is gone
	v, _, err := watch.LookAt(t.Context(), b, target)
	must(t, err)
	if v.Spend == nil || *v.Spend != (channel.SpendView{Txid: chainhash.Hash{7}.String()}) {
		t.Fatalf("gone: %+v", v.Spend)
	}
	short := target
	short.Outpoint.Index = 1 // T1 has one output
	b.claims = map[wire.OutPoint]chainhash.Hash{short.Outpoint: settlement}
	if v, _, err = watch.LookAt(t.Context(), b, short); err != nil || v.Spend == nil || v.Spend.VSize != 0 {
		t.Fatalf("no such output: %+v, %v", v.Spend, err)
	}
	b.claims = nil
	target.Rest = nil // a payer does not ask for more
	b.add(false, []int64{59_800}, wire.OutPoint{Hash: settlement})
	if v, _, err = watch.LookAt(t.Context(), b, target); err != nil || v.Spend.Fee != 200 || v.Spend.Leaves != 0 || v.Spend.ChildFee != 0 {
		t.Fatalf("%+v, %v", v.Spend, err)
	}
}

// What a spend leaves to the payee, alone and among several inputs.
func TestLeavesOfASpend(t *testing.T) {
	rest, other := []byte{1}, []byte{2}
	tx := func(lock uint32, ins int, outs ...*wire.TxOut) *wire.MsgTx {
		tx := wire.NewMsgTx(2)
		tx.LockTime, tx.TxOut = lock, outs
		for range ins {
			tx.AddTxIn(&wire.TxIn{})
		}
		return tx
	}
	out := wire.NewTxOut
	for _, c := range []struct {
		name string
		tx   *wire.MsgTx
		vin  uint32
		want int64
	}{
		{"a rest and a payout", tx(0, 1, out(700, rest), out(250, other)), 0, 300},
		{"the rest behind", tx(0, 1, out(250, other), out(700, rest)), 0, 300},
		{"two to the payer", tx(0, 1, out(700, rest), out(250, rest)), 0, 50},
		{"no rest", tx(0, 1, out(950, other)), 0, 1000},
		{"more than there is", tx(0, 1, out(1700, rest)), 0, 0},
		{"the second of two, with its rest", tx(0, 2, out(900, rest), out(600, rest), out(1, other)), 1, 400},
		{"the second of two, without", tx(0, 2, out(900, rest), out(600, other)), 1, 1000},
		{"the last of two, no output there", tx(0, 2, out(900, rest)), 1, 1000},
	} {
		if got := watch.Leaves(c.tx, c.vin, 1000, rest); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
