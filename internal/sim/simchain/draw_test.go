package simchain_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

type coin struct {
	op  wire.OutPoint
	out *wire.TxOut
}

// free is a script that anybody spends without a witness; no node relays it.
var free = []byte{txscript.OP_NOP, txscript.OP_NOP, txscript.OP_TRUE}

// others are scripts that are not the player's key, with odd ones among them.
var others = [][]byte{
	append([]byte{txscript.OP_0, 20}, make([]byte, 20)...), // P2WPKH
	append([]byte{txscript.OP_0, 32}, make([]byte, 32)...), // P2WSH
	append(append([]byte{txscript.OP_DUP, txscript.OP_HASH160, 20}, make([]byte, 20)...), txscript.OP_EQUALVERIFY, txscript.OP_CHECKSIG),
	append(append([]byte{txscript.OP_HASH160, 20}, make([]byte, 20)...), txscript.OP_EQUAL),
	{txscript.OP_RETURN, 3, 'a', 'b', 'c'},
	{txscript.OP_1, 2, 0x4e, 0x73}, // pay to anchor
	free,
	append([]byte{txscript.OP_16, 2}, 1, 2), // a witness program of the future
}

func one[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// pick finds an output of the player: most of the time one that nothing spends, now
// and then one that the mempool or a block spends, or that nobody knows.
func (w *twins) pick(t testing.TB) coin {
	var unspent, pending, all []coin
	for _, tx := range w.made {
		_, err := w.c.Tx(t.Context(), tx.TxHash())
		for i, out := range tx.TxOut {
			c := coin{wire.OutPoint{Hash: tx.TxHash(), Index: uint32(i)}, out}
			if !bytes.Equal(out.PkScript, w.script) && !bytes.Equal(out.PkScript, free) || out.Value < 1_000 {
				continue
			}
			all = append(all, c)
			if err != nil {
				continue
			}
			switch _, height, ok := w.c.Spender(c.op); {
			case !ok:
				unspent = append(unspent, c)
			case height == 0:
				pending = append(pending, c)
			}
		}
	}
	switch n := w.rng.IntN(20); {
	case n < 13 && len(unspent) > 0:
		return one(w.rng, unspent...)
	case n < 19 && len(pending) > 0:
		return one(w.rng, pending...)
	}
	return one(w.rng, all...)
}

// direct makes a transaction for a miner, in order most of the time.
func (w *twins) direct(t testing.TB) *wire.MsgTx {
	w.plain = w.rng.IntN(3) > 0
	defer func() { w.plain = false }()
	return w.draw(t)
}

// draw makes a transaction, as it should be most of the time.
func (w *twins) draw(t testing.TB) *wire.MsgTx {
	tx := wire.NewMsgTx(one[int32](w.rng, 1, 2, 2, 2, 2, 2, 3, 3, 3))
	if !w.plain && w.rng.IntN(40) == 0 {
		tx.Version = one[int32](w.rng, -1, 0, 4)
	}
	prevouts := txscript.NewMultiPrevOutFetcher(nil)
	var total int64
	for range one(w.rng, 1, 1, 1, 2, 3) {
		from := w.pick(t)
		if prevouts.FetchPrevOutput(from.op) != nil && w.rng.IntN(20) > 0 {
			continue // seldom the same twice
		}
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: from.op, Sequence: w.sequence()})
		prevouts.AddPrevOut(from.op, from.out)
		total += from.out.Value
	}
	tx.LockTime = w.lock()
	w.outputs(tx, total)
	hashes := txscript.NewTxSigHashes(tx, prevouts)
	for i, in := range tx.TxIn {
		out := prevouts.FetchPrevOutput(in.PreviousOutPoint)
		if bytes.Equal(out.PkScript, free) {
			continue
		}
		witness, err := txscript.TaprootWitnessSignature(tx, hashes, i, out.Value, out.PkScript, txscript.SigHashDefault, w.key)
		if err != nil {
			t.Fatal(err)
		}
		in.Witness = witness
		if !w.plain && w.rng.IntN(40) == 0 {
			in.Witness[0][schnorr.SignatureSize-1] ^= 1
		}
	}
	return tx
}

func (w *twins) sequence() uint32 {
	if w.plain || w.rng.IntN(5) > 0 {
		return one[uint32](w.rng, 0xfffffffd, 0xfffffffd, 0xfffffffd, 0xfffffffe, 0xffffffff)
	}
	return one[uint32](w.rng, 0, 1, 2, 3, 10, 1<<22, 1<<22|1, 1<<22|3, 1<<22|10)
}

// lock is none, or near the tip, by height or by time.
func (w *twins) lock() uint32 {
	if w.plain {
		return 0
	}
	near := w.rng.IntN(4) - 1
	switch w.rng.IntN(20) {
	case 0, 1:
		return uint32(int(w.c.Height()) + near)
	case 2, 3:
		return uint32(int(w.c.MedianTime().Unix()) + near)
	case 4:
		return one[uint32](w.rng, 499_999_999, 500_000_000, 1<<32-1)
	}
	return 0
}

// outputs pays most of it back to the player.
func (w *twins) outputs(tx *wire.MsgTx, total int64) {
	fee := one(w.rng, w.rng.Int64N(300), 200+w.rng.Int64N(1_500), 200+w.rng.Int64N(1_500), w.rng.Int64N(10_000))
	if w.rng.IntN(100) == 0 {
		fee = -1
	}
	if w.plain {
		tx.AddTxOut(wire.NewTxOut(2_000, free)) // that only a miner takes
		total -= 2_000
	} else if w.rng.IntN(5) == 0 {
		out := wire.NewTxOut(one[int64](w.rng, 0, 239, 240, 293, 294, 329, 330, 539, 540, 545, 546, 1_000, 1_000, 2_000), one(w.rng, others...))
		if w.rng.IntN(20) == 0 {
			out.Value = one[int64](w.rng, -1, 21_000_000*100_000_000+1)
		}
		for range one(w.rng, 1, 1, 2) {
			tx.AddTxOut(out)
			total -= out.Value
		}
	}
	many := 1 + w.rng.Int64N(3)
	for i := range many {
		value := (total - fee) / many
		if i == 0 {
			value += (total - fee) % many
		}
		tx.AddTxOut(wire.NewTxOut(value, w.script))
	}
}
