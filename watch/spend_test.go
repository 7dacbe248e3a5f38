package watch_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch"
)

// book is a chain that shows what it was given; a pruned transaction cannot be read.
type book struct {
	txs    map[chainhash.Hash]*wire.MsgTx
	mined  map[chainhash.Hash]bool
	pruned map[chainhash.Hash]bool
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
	for id, tx := range b.txs {
		for i, in := range tx.TxIn {
			if in.PreviousOutPoint == op {
				return &chain.Spend{Txid: id, Vin: uint32(i), Confirmed: b.mined[id], Height: 100}, nil
			}
		}
	}
	return nil, nil
}

// add shows a transaction with these inputs, which leaves so many sat in each output.
func (b *book) add(mined bool, outs []int64, ins ...wire.OutPoint) chainhash.Hash {
	tx := wire.NewMsgTx(2)
	for _, op := range ins {
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Witness: wire.TxWitness{make([]byte, 64)}})
	}
	for i, v := range outs {
		tx.AddTxOut(wire.NewTxOut(v, append([]byte{0x51, 0x20, byte(i)}, make([]byte, 31)...)))
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
		carries bool
	}{
		{"one child of its own", func(b *book, rest wire.OutPoint) { b.add(false, []int64{59_800}, rest) }, true},
		{"with a confirmed coin", func(b *book, rest wire.OutPoint) {
			coin := b.add(true, []int64{5_000}, wire.OutPoint{Hash: chainhash.Hash{2}})
			b.add(false, []int64{64_800}, rest, wire.OutPoint{Hash: coin})
		}, true},
		{"with a large parent that pays little", func(b *book, rest wire.OutPoint) {
			coin := b.add(true, []int64{300_000}, wire.OutPoint{Hash: chainhash.Hash{2}})
			outs := make([]int64, 1_000)
			for i := range outs {
				outs[i] = 200
			}
			heavy := b.add(false, outs, wire.OutPoint{Hash: coin})
			b.add(false, []int64{60_000}, rest, wire.OutPoint{Hash: heavy})
		}, false},
		{"a large child whose many small children pay", func(b *book, rest wire.OutPoint) {
			outs := make([]int64, 500)
			for i := range outs {
				outs[i] = 160
			}
			large := b.add(false, outs, rest)
			for i := range uint32(4) {
				b.add(false, []int64{10}, wire.OutPoint{Hash: large, Index: i})
			}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, target, settlement := waiting()
			c.attack(b, wire.OutPoint{Hash: settlement})
			v, _, err := watch.LookAt(t.Context(), b, target)
			must(t, err)
			if v.Spend.Fee != 200 || v.Spend.ChildFee < 9_000 || v.Spend.Leaves != 10_200 {
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
