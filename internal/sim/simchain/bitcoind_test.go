package simchain_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/bitcoindtest"
	"github.com/spillway/spillway/internal/sim/simchain"
	"github.com/spillway/spillway/script"
)

// cousins are a real bitcoind and the model under its rules. The embedded twin is
// not there.
type cousins struct {
	twins
	d      *bitcoindtest.Node
	clock  int64   // unix seconds
	times  []int64 // of the best chain's blocks, the newest last
	count  uint64  // blocks made here
	funded []*wire.MsgTx
}

var (
	cousinSteps = flag.Int("bitcoind.steps", 300, "steps beside a bitcoind")
	cousinSeed  = flag.Uint64("bitcoind.seed", 3, "what they are drawn from")
)

func newCousins(t *testing.T) *cousins {
	w := &cousins{d: bitcoindtest.Start(t)}
	w.rng, w.seen = rand.New(rand.NewPCG(*cousinSeed, 14)), map[string]int{}
	w.clock = w.header(t, w.d.Height()).Time
	for range 131 { // the model's past: a block every ten minutes
		w.clock += 600
		w.mock(t)
		w.d.Mine(1)
		w.times = append(w.times, w.clock)
	}
	w.c = simchain.NewAt(uint32(w.d.Height()), time.Unix(w.clock, 0))
	w.c.SetTime(func() time.Time { return time.Unix(w.clock, 0) })
	var pool struct{ MinRelayTxFee, IncrementalRelayFee float64 } // bitcoin per 1000 vB
	w.rpc(t, &pool, "getmempoolinfo")
	if pool.MinRelayTxFee != pool.IncrementalRelayFee {
		t.Fatalf("%+v: the model has one rate for both", pool)
	}
	w.c.Relay = script.FeeRate(pool.MinRelayTxFee*1e8 + 0.5)
	w.key, _ = btcec.PrivKeyFromBytes([]byte{31: 5})
	var err error
	if w.script, err = txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(w.key.PubKey())); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *cousins) rpc(t testing.TB, result any, method string, params ...any) {
	t.Helper()
	if err := w.d.RPC(result, method, params...); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}

func (w *cousins) mock(t testing.TB) { w.rpc(t, nil, "setmocktime", w.clock) }

type header struct {
	Time, MedianTime int64
}

func (w *cousins) header(t testing.TB, height int64) (h header) {
	w.rpc(t, &h, "getblockheader", w.d.BlockHash(height))
	return h
}

// fund pays the player from the node's purse.
func (w *cousins) fund(t testing.TB) {
	for _, tx := range w.funded { // a reorg may have lost one that the purse hangs on
		for try := 0; w.lost(t, tx); try++ { // and it may hang on a long chain
			if try == 3 {
				t.Fatalf("a funding cannot be sent again: %s", tx.TxID())
			}
			w.both(t, tx)
			w.mine(t)
		}
	}
	outs := make([]*wire.TxOut, 4)
	for i := range outs {
		outs[i] = wire.NewTxOut(500_000, w.script)
	}
	tx := w.d.FundingTx(outs...)
	from := tx.TxIn[0].PreviousOutPoint
	if _, err := w.c.Tx(t.Context(), from.Hash); err != nil {
		w.c.Coin(from, w.d.Tx(from.Hash.String()).TxOut[from.Index])
	}
	w.funded = append(w.funded, tx)
	w.both(t, tx)
	w.mine(t)
}

func (w *cousins) lost(t testing.TB, tx *wire.MsgTx) bool {
	_, err := w.c.Tx(t.Context(), tx.TxHash())
	return err != nil
}

func hexOf(t testing.TB, tx *wire.MsgTx) string {
	t.Helper()
	var b bytes.Buffer
	if err := tx.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b.Bytes())
}

// word is the class of a bitcoind's refusal.
func word(t testing.TB, err error) string {
	var said *bitcoindtest.Error
	switch {
	case err == nil:
		return "accepted"
	case !errors.As(err, &said):
		t.Fatal(err)
	}
	for _, c := range classes {
		if strings.HasPrefix(said.Message, c.says) {
			return c.class
		}
	}
	t.Fatalf("a refusal of no known class: %v", err)
	return ""
}

func (w *cousins) both(t testing.TB, tx *wire.MsgTx) {
	if !w.lost(t, tx) {
		return // known is nil here; a bitcoind has several answers to it
	}
	w.made = append(w.made, tx)
	w.made = w.made[max(0, len(w.made)-150):]
	theirs := w.d.RPC(nil, "sendrawtransaction", hexOf(t, tx), 0, "21000000")
	ours := w.c.Broadcast(t.Context(), tx)
	if word(t, theirs) != class(t, ours) {
		t.Fatalf("the node says %v, the model %v", theirs, ours)
	}
	w.seen[word(t, theirs)]++
}

func (w *cousins) next() int64 {
	last := slices.Sorted(slices.Values(w.times[max(0, len(w.times)-11):]))
	return max(w.clock, last[len(last)/2]+1)
}

func (w *cousins) mine(testing.TB) {
	for range 1 + w.rng.IntN(3) {
		w.times = append(w.times, w.next())
		w.d.Mine(1)
		w.c.Mine(nil)
	}
}

func (w *cousins) block(t testing.TB) {
	tx := w.direct(t)
	if !w.lost(t, tx) {
		return
	}
	theirs := w.d.RPC(nil, "generateblock", "raw(51)", []string{hexOf(t, tx)})
	ours := w.c.MineTxs(tx)
	if (theirs == nil) != (ours == nil) {
		t.Fatalf("block: the node says %v, the model %v", theirs, ours)
	}
	w.made = append(w.made, tx)
	if ours == nil {
		w.times = append(w.times, w.next())
		w.seen["block"]++
	}
}

// reorg gives the node a longer branch of empty blocks.
func (w *cousins) reorg(t testing.TB) {
	depth := 1 + w.rng.IntN(one(w.rng, 3, 8, 100))
	parent, err := chainhash.NewHashFromStr(w.d.BlockHash(w.d.Height() - int64(depth)))
	if err != nil {
		t.Fatal(err)
	}
	height := w.d.Height() - int64(depth)
	w.times = w.times[:len(w.times)-depth]
	for range depth + 1 {
		height++
		at := w.next()
		b := w.empty(t, *parent, height, at)
		var buf bytes.Buffer
		if err := b.Serialize(&buf); err != nil {
			t.Fatal(err)
		}
		var refused *string
		w.rpc(t, &refused, "submitblock", hex.EncodeToString(buf.Bytes()))
		if refused != nil && *refused != "inconclusive" {
			t.Fatalf("a block of the branch: %s", *refused)
		}
		*parent = b.BlockHash()
		w.times = append(w.times, at)
	}
	w.c.Reorg(depth)
	w.seen["reorg"]++
}

func (w *cousins) empty(t testing.TB, parent chainhash.Hash, height, at int64) *wire.MsgBlock {
	w.count++
	sig, err := txscript.NewScriptBuilder().AddInt64(height).AddInt64(1<<40 + int64(w.count)).Script()
	if err != nil {
		t.Fatal(err)
	}
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Index: wire.MaxPrevOutIndex}, SignatureScript: sig, Sequence: wire.MaxTxInSequenceNum})
	tx.AddTxOut(wire.NewTxOut(0, free))
	b := wire.NewMsgBlock(&wire.BlockHeader{Version: 0x20000000, PrevBlock: parent, MerkleRoot: tx.TxHash(), Timestamp: time.Unix(at, 0), Bits: 0x207fffff})
	if err := b.AddTransaction(tx); err != nil {
		t.Fatal(err)
	}
	for hash := b.BlockHash(); blockchain.HashToBig(&hash).Cmp(blockchain.CompactToBig(b.Header.Bits)) > 0; hash = b.BlockHash() {
		b.Header.Nonce++
	}
	return b
}

// agree compares tip, times and mempool.
func (w *cousins) agree(t testing.TB) {
	height := w.d.Height()
	h := w.header(t, height)
	tip, err := w.c.Tip(t.Context())
	if err != nil || int64(tip.Height) != height || tip.Time.Unix() != h.Time || w.c.MedianTime().Unix() != h.MedianTime {
		t.Fatalf("the node is at %d, %+v, the model at %+v, median %d", height, h, tip, w.c.MedianTime().Unix())
	}
	var theirs, ours []string
	w.rpc(t, &theirs, "getrawmempool")
	for _, tx := range w.c.Mempool() {
		ours = append(ours, tx.TxID())
	}
	for _, id := range theirs {
		if !slices.Contains(ours, id) {
			t.Errorf("the node alone has %s", id)
		}
	}
	for _, id := range ours {
		if !slices.Contains(theirs, id) {
			t.Errorf("the model alone has %s", id)
		}
	}
	if t.Failed() {
		t.Fatalf("of %d and %d in their mempools", len(theirs), len(ours))
	}
}

// TestModelAndBitcoindAgree: the same beside a real bitcoind, whose rules for
// replacement and version 3 are not the embedded node's.
func TestModelAndBitcoindAgree(t *testing.T) {
	w := newCousins(t)
	w.agree(t)
	w.fund(t)
	for step := range *cousinSteps {
		w.clock += int64(w.rng.IntN(3600))
		w.mock(t)
		what := ""
		switch n := w.rng.IntN(100); {
		case n < 4:
			what = "fund"
			w.fund(t)
		case n < 82:
			what = "send"
			w.both(t, w.draw(t))
		case n < 90:
			what = "mine"
			w.mine(t)
		case n < 94:
			what = "block"
			w.block(t)
		default:
			what = "reorg"
			w.reorg(t)
		}
		t.Log(fmt.Sprint(step, " ", what))
		w.agree(t)
	}
	t.Logf("%v", w.seen)
}
