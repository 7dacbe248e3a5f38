package devnet_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/script"
)

func TestBoot(t *testing.T) {
	began := time.Now()
	n := open(t, devnet.Config{})
	if took := time.Since(began); took > time.Second {
		t.Errorf("the node took %v to boot", took)
	}
	if h := height(t, n); h != 250 {
		t.Errorf("the first tip is %d", h)
	}
	const btc = 100_000_000
	if _, err := n.Faucet(t.Context(), anyoneElse(), 7_501*btc); !errors.Is(err, devnet.ErrFaucetEmpty) {
		t.Errorf("7,501 BTC of 7,500: %v", err)
	}
	fund(t, n, anyoneElse(), 7_499*btc) // one output
	if _, err := n.Faucet(t.Context(), anyoneElse(), 2*btc); !errors.Is(err, devnet.ErrFaucetEmpty) {
		t.Errorf("2 BTC of what is left of 7,500: %v", err)
	}
	mine(t, n, 1)
	fund(t, n, anyoneElse(), 20*btc) // another coin is mature
}

func TestFaucet(t *testing.T) {
	n := open(t, devnet.Config{})
	for _, sat := range []int64{-1, 0, 329, 21_000_001 * 100_000_000} {
		if _, err := n.Faucet(t.Context(), anyoneElse(), sat); !errors.Is(err, devnet.ErrRange) {
			t.Errorf("%d sat: %v", sat, err)
		}
	}
	if _, err := n.Faucet(t.Context(), anyoneCanSpend(), 1_000); !errors.Is(err, chain.ErrRejected) {
		t.Errorf("a script that is not standard: %v", err)
	}
	for i := range 40 { // 150 BTC each: no payment spends what is unconfirmed
		op := fund(t, n, anyoneElse(), 150_000_000_00)
		info, err := n.Tx(t.Context(), op.Hash)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range info.Tx.TxIn {
			if from, err := n.Tx(t.Context(), in.PreviousOutPoint.Hash); err != nil || !from.Confirmed && i < 36 {
				t.Fatalf("payment %d hangs on an unconfirmed one: %v", i, err)
			}
		}
	}
}

func TestFaucetKeepsNothingOfTheCaller(t *testing.T) {
	n := open(t, devnet.Config{})
	to := anyoneElse()
	op := fund(t, n, to, 10_000)
	to[5] = 9
	mine(t, n, 1)
	info, err := n.Tx(t.Context(), op.Hash)
	if err != nil || info.Tx.TxOut[op.Index].PkScript[5] != 0 {
		t.Fatalf("the payment changed with the caller's script: %v", err)
	}
	info.Tx.TxOut[op.Index].Value = 1
	if again, err := n.Tx(t.Context(), op.Hash); err != nil || again.Tx.TxOut[op.Index].Value != 10_000 {
		t.Fatalf("the node's transaction changed with the caller's: %v", err)
	}
}

func TestReasons(t *testing.T) {
	n := open(t, devnet.Config{})
	k, from := key(t, 1)
	op := fund(t, n, from, 100_000)
	mine(t, n, 1)
	tip := height(t, n)
	good := func() *wire.MsgTx { return pay(t, op, 100_000, k, from, anyoneElse(), 500) }
	for _, c := range []struct {
		want   string
		change func(tx *wire.MsgTx)
	}{
		{"non-final", func(tx *wire.MsgTx) { tx.LockTime = tip + 1 }},
		{"non-final", func(tx *wire.MsgTx) { tx.LockTime = uint32(time.Now().Add(24 * time.Hour).Unix()) }},
		{"non-BIP68-final", func(tx *wire.MsgTx) { tx.TxIn[0].Sequence = 2 }},
		{"dust", func(tx *wire.MsgTx) { tx.TxOut[0].Value = 293 }},
		{"min relay fee not met", func(tx *wire.MsgTx) { tx.TxOut[0].Value = 99_950 }},
		{"bad-txns-inputs-missingorspent", func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Index = 77 }},
		{"version", func(tx *wire.MsgTx) { tx.Version = 4 }},
		{"scriptpubkey", func(tx *wire.MsgTx) { tx.TxOut[0].PkScript = anyoneCanSpend() }},
		{"tx-size-small", func(tx *wire.MsgTx) { tx.TxOut[0].PkScript = []byte{txscript.OP_RETURN} }},
	} {
		tx := good()
		c.change(tx)
		err := n.Broadcast(t.Context(), sign(t, tx, k, from, 100_000))
		var r *chain.RejectError
		if !errors.As(err, &r) || !strings.HasPrefix(r.Reason, c.want+" (") {
			t.Errorf("want %s, got %v", c.want, err)
		}
	}
	tx := good()
	tx.TxIn[0].Sequence = 0xffffffff
	if err := n.Broadcast(t.Context(), sign(t, tx, k, from, 100_000)); err != nil {
		t.Fatal(err)
	}
	tx = pay(t, op, 100_000, k, from, anyoneElse(), 50_000)
	var r *chain.RejectError
	if err := n.Broadcast(t.Context(), tx); !errors.As(err, &r) || !strings.HasPrefix(r.Reason, "txn-mempool-conflict (") {
		t.Errorf("a conflict with a transaction that does not signal: %v", err)
	}
}

// TestPitfall12_StandardFlags: what consensus alone would take is refused by the mempool and can still be mined.
func TestPitfall12_StandardFlags(t *testing.T) {
	n := open(t, devnet.Config{})
	k, from := key(t, 1)
	op := fund(t, n, from, 100_000)
	mine(t, n, 1)
	odd := pay(t, op, 100_000, k, from, anyoneCanSpend(), 500)
	if err := n.Broadcast(t.Context(), odd); !errors.Is(err, chain.ErrRejected) || !strings.Contains(err.Error(), "non-standard") {
		t.Fatalf("an output that anyone can spend: %v", err)
	}
	hash, err := n.MineBlock(odd)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := n.Tx(t.Context(), odd.TxHash()); err != nil || info.BlockHash != hash {
		t.Fatalf("the block does not hold it: %v", err)
	}
}

// A spend of an output that only consensus allows is refused for its input, not for an
// output, in bitcoind's word.
func TestNonStandardInput(t *testing.T) {
	n := open(t, devnet.Config{})
	k, from := key(t, 1)
	op := fund(t, n, from, 100_000)
	mine(t, n, 1)
	odd := pay(t, op, 100_000, k, from, []byte{txscript.OP_NOP, txscript.OP_NOP, txscript.OP_TRUE}, 500)
	if _, err := n.MineBlock(odd); err != nil {
		t.Fatal(err)
	}
	spend := wire.NewMsgTx(2)
	spend.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: odd.TxHash()}, Sequence: 0xfffffffd})
	spend.AddTxOut(wire.NewTxOut(odd.TxOut[0].Value-1000, anyoneElse()))
	var r *chain.RejectError
	if err := n.Broadcast(t.Context(), spend); !errors.As(err, &r) || !strings.HasPrefix(r.Reason, "bad-txns-nonstandard-inputs (") {
		t.Fatalf("the spend of a non-standard output: %v", err)
	}
}

func TestMineBlockChecksConsensus(t *testing.T) {
	n := open(t, devnet.Config{})
	k, from := key(t, 1)
	op := fund(t, n, from, 100_000)
	mine(t, n, 1)
	tip := height(t, n)
	forged := pay(t, op, 100_000, k, from, anyoneElse(), 500)
	forged.TxIn[0].Witness[0][63] ^= 1
	early := pay(t, op, 100_000, k, from, anyoneElse(), 500)
	early.LockTime = tip + 1
	sign(t, early, k, from, 100_000)
	for what, tx := range map[string]*wire.MsgTx{
		"a wrong taproot signature":   forged,
		"a transaction not yet final": early,
		"more out than in":            pay(t, op, 100_000, k, from, anyoneElse(), -1),
		"an unknown input":            pay(t, wire.OutPoint{Hash: chainhash.Hash{1}}, 100_000, k, from, anyoneElse(), 500),
	} {
		if _, err := n.MineBlock(tx); !errors.Is(err, devnet.ErrBlock) {
			t.Errorf("%s: %v", what, err)
		}
		if height(t, n) != tip {
			t.Fatalf("%s: the tip moved", what)
		}
	}
	if _, err := n.MineBlock(); err != nil { // tip = expiry
		t.Fatal(err)
	}
	if _, err := n.MineBlock(early); err != nil {
		t.Fatal(err)
	}
}

// TestPitfall37_UnusualBlock mines what made other systems' parsers stop: a witness of very many items, and one very
// long item. The tip goes on and both are found.
func TestPitfall37_UnusualBlock(t *testing.T) {
	n := open(t, devnet.Config{})
	leaf, err := txscript.NewScriptBuilder().AddOp(txscript.OP_NOP).AddOp(0xbb).Script() // OP_SUCCESS187
	if err != nil {
		t.Fatal(err)
	}
	k, _ := key(t, 1)
	tree := txscript.AssembleTaprootScriptTree(txscript.NewBaseTapLeaf(leaf))
	root := tree.RootNode.TapHash()
	out, err := txscript.PayToTaprootScript(txscript.ComputeTaprootOutputKey(k.PubKey(), root[:]))
	if err != nil {
		t.Fatal(err)
	}
	proof := tree.LeafMerkleProofs[0].ToControlBlock(k.PubKey())
	control, err := proof.ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	for what, items := range map[string][][]byte{
		"many items": make([][]byte, 200_000),
		"long item":  {make([]byte, 1_000_000)},
	} {
		op := fund(t, n, out, 100_000)
		mine(t, n, 1)
		tx := wire.NewMsgTx(2)
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Witness: append(items, leaf, control)})
		tx.AddTxOut(wire.NewTxOut(90_000, anyoneElse()))
		if _, err := n.MineBlock(tx); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if s, err := n.Spend(t.Context(), op); err != nil || s == nil || s.Txid != tx.TxHash() || !s.Confirmed {
			t.Fatalf("%s: spend %+v, %v", what, s, err)
		}
		mine(t, n, 1)
	}
}

// TestPitfall40_SixtyFourBytes: a transaction that could pass for an inner node of the Merkle tree is not relayed.
func TestPitfall40_SixtyFourBytes(t *testing.T) {
	n := open(t, devnet.Config{})
	k, from := key(t, 1)
	op := fund(t, n, from, 100_000)
	mine(t, n, 1)
	tx := pay(t, op, 100_000, k, from, []byte{txscript.OP_1, 2, 0x4e, 0x73}, 500) // pay to anchor
	if tx.SerializeSizeStripped() != 64 {
		t.Fatalf("the transaction has %d bytes", tx.SerializeSizeStripped())
	}
	if err := n.Broadcast(t.Context(), tx); !errors.Is(err, chain.ErrRejected) {
		t.Fatalf("64 bytes: %v", err)
	}
}

func TestMineOnTx(t *testing.T) {
	n := open(t, devnet.Config{MineOnTx: true, Dir: t.TempDir()})
	k, from := key(t, 1)
	op := fund(t, n, from, 100_000)
	tx := pay(t, op, 100_000, k, from, anyoneElse(), 500)
	if err := n.Broadcast(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	for i, id := range []chainhash.Hash{op.Hash, tx.TxHash()} {
		if info, err := n.Tx(t.Context(), id); err != nil || info.Height != uint32(251+i) {
			t.Errorf("transaction %d: %+v, %v", i, info, err)
		}
	}
	if err := n.Broadcast(t.Context(), tx); err != nil || height(t, n) != 252 {
		t.Errorf("a transaction that is known mined another block: %d, %v", height(t, n), err)
	}
}

func TestMineEvery(t *testing.T) {
	n := open(t, devnet.Config{MineEvery: time.Millisecond})
	for deadline := time.Now().Add(20 * time.Second); height(t, n) < 255; {
		if time.Now().After(deadline) {
			t.Fatalf("the tip is still %d", height(t, n))
		}
		runtime.Gosched()
	}
}

func TestMineRange(t *testing.T) {
	n := open(t, devnet.Config{})
	for _, blocks := range []int{-1, 0, 10_001} {
		if _, err := n.Mine(blocks); !errors.Is(err, devnet.ErrRange) {
			t.Errorf("%d blocks: %v", blocks, err)
		}
	}
	for _, r := range [][2]int{{0, 1}, {-1, 5}, {251, 300}, {3, 3}, {3, 2}, {1, 10_001}} {
		if err := n.Reorg(r[0], r[1]); !errors.Is(err, devnet.ErrRange) {
			t.Errorf("reorg of %d by %d: %v", r[0], r[1], err)
		}
	}
	if height(t, n) != 250 {
		t.Errorf("the tip moved to %d", height(t, n))
	}
}

// TestTime: blocks in a burst run ahead of the clock by a second in six, and a clock that was set back stops nothing.
func TestTime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	cfg := devnet.Config{Dir: t.TempDir(), Now: func() time.Time { return now }}
	n := open(t, cfg)
	tip := func() time.Time {
		tip, err := n.Tip(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return tip.Time
	}
	if !tip().Equal(now) {
		t.Errorf("the boot ends at %v, the clock says %v", tip(), now)
	}
	mine(t, n, 3_000)
	if ahead := tip().Sub(now); ahead < 0 || ahead > 520*time.Second {
		t.Errorf("3,000 blocks run %v ahead", ahead)
	}
	if err := n.Reorg(30, 31); err != nil {
		t.Fatal(err)
	}
	before := tip()
	now = now.Add(-1000 * time.Hour)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, cfg)
	mine(t, n, 10)
	if !tip().After(before) || tip().Sub(before) > time.Minute {
		t.Errorf("after the clock was set back: %v, before %v", tip(), before)
	}
	now = now.Add(2000 * time.Hour)
	mine(t, n, 1)
	if !tip().Equal(now) {
		t.Errorf("the chain does not catch up with the clock: %v, %v", tip(), now)
	}
}

// TestReorgRefused: a reorg whose branch is invalid leaves everything as it was, also on disk.
func TestReorgRefused(t *testing.T) {
	cfg := devnet.Config{Dir: t.TempDir()}
	n := open(t, cfg)
	k, from := key(t, 1)
	op := fund(t, n, from, 100_000)
	mine(t, n, 1)
	forged := pay(t, op, 100_000, k, from, anyoneElse(), 500)
	forged.TxIn[0].Witness[0][63] ^= 1
	before, err := n.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err := n.ReorgWith(devnet.ReorgOptions{Depth: 3, Length: 4, Mine: []*wire.MsgTx{forged}})
		if !errors.Is(err, devnet.ErrBlock) {
			t.Fatalf("a branch with a forged signature: %v", err)
		}
	}
	good := pay(t, op, 100_000, k, from, anyoneElse(), 500)
	if err := n.Broadcast(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if tip, err := n.Tip(t.Context()); err != nil || tip != before {
			t.Fatalf("the tip is %+v, was %+v: %v", tip, before, err)
		}
		if _, err := n.Tx(t.Context(), good.TxHash()); err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n = open(t, cfg)
	}
	if err := n.Reorg(2, 3); err != nil {
		t.Fatal(err)
	}
}

func TestFeeMarket(t *testing.T) {
	n := open(t, devnet.Config{})
	rate := func(blocks int) script.FeeRate {
		r, err := n.FeeRate(t.Context(), blocks)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := rate(1); r != chain.MinFeeRate {
		t.Errorf("an empty mempool: %d", r)
	}
	n.SetFeeRate(script.FeeRatePerVB(37))
	if r := rate(6); r != 37_000 {
		t.Errorf("a rate that was set: %d", r)
	}
	n.SetFeeRate(script.FeeRatePerVB(1_000_000))
	if r := rate(6); r != chain.MaxFeeRate {
		t.Errorf("an absurd rate: %d", r)
	}
	n.SetFeeRate(0)
	// Eleven transactions of nearly a tenth of a block each, at rising rates: the cheapest does not fit.
	k, from := key(t, 1)
	var coins []wire.OutPoint
	for range 11 {
		coins = append(coins, fund(t, n, from, 1_000_000_000))
	}
	mine(t, n, 1)
	for i, op := range coins {
		tx := wire.NewMsgTx(2)
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: 0xfffffffd})
		for range 3_200 {
			tx.AddTxOut(wire.NewTxOut(1_000, anyoneElse()))
		}
		tx.AddTxOut(wire.NewTxOut(1_000_000_000-3_200_000-int64(i+3)*100_000, anyoneElse()))
		if err := n.Broadcast(t.Context(), sign(t, tx, k, from, 1_000_000_000)); err != nil {
			t.Fatal(err)
		}
	}
	if r := rate(1); r < 3_000 || r > 3_100 {
		t.Errorf("to be among ten of eleven costs %d", r)
	}
	if r := rate(2); r != chain.MinFeeRate {
		t.Errorf("two blocks have room for all: %d", r)
	}
	mine(t, n, 1)
	if s, err := n.Spend(t.Context(), coins[0]); err != nil || s.Confirmed {
		t.Errorf("the cheapest is mined: %+v, %v", s, err)
	}
	if s, err := n.Spend(t.Context(), coins[1]); err != nil || !s.Confirmed {
		t.Errorf("the second cheapest is not mined: %+v, %v", s, err)
	}
}
