// Package chaintest is the suite that every backend of package chain passes, each as far as its Capabilities say: of
// one without a mempool only what blocks hold is asked. It drives a real chain through a Fixture
// and looks at it through the Backend alone. It is for tests and never part of a program that ships.
package chaintest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// Reorg is what a fixture is asked to do to its chain.
type Reorg struct {
	Depth, Length int              // blocks undone, blocks of the new branch; Length > Depth
	Drop          []chainhash.Hash // transactions that do not return to the mempool
	Mine          []*wire.MsgTx    // transactions in the new branch's first block
}

// Fixture is a backend over a regtest chain and the means to move that chain. Every function fails the test when
// it can't do what it is asked.
type Fixture struct {
	Backend chain.Backend
	Params  *chaincfg.Params
	// Mine mines blocks with what the mempool holds. Nothing else mines.
	Mine func(t testing.TB, blocks int)
	// Fund pays satoshi to a script, unconfirmed, and gives the output.
	Fund func(t testing.TB, pkScript []byte, sat int64) wire.OutPoint
	// Reorg undoes blocks.
	Reorg func(t testing.TB, r Reorg)
	// Depths are the depths of reorgs that are tried; nil: 1 to 100.
	Depths []int
	// Settle waits until the backend has seen what the chain did last; nil: it needs no time.
	Settle func(t testing.TB)
	// Bounded gives a backend on the same chain with a floor and a cap of fee rates, in sat per 1000 vB, 0 for none;
	// nil: the backend has no bounds of its own.
	Bounded func(t testing.TB, floor, most int64) chain.Backend
}

// Suite runs all tests; mk gives a fresh fixture, or the same one again.
func Suite(t *testing.T, mk func(t *testing.T) Fixture) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(s *suite)
	}{
		{"Tip", testTip},
		{"Unknown", testUnknown},
		{"Lifecycle", testLifecycle},
		{"Chains", testChains},
		{"History", testHistory},
		{"Known", testKnown},
		{"Rejected", testRejected},
		{"Pitfall09_NonFinal", testNonFinal},
		{"RelativeLock", testRelativeLock},
		{"Versions", testVersions},
		{"Replacement", testReplacement},
		{"Pitfall38_Reorg", testReorg},
		{"Pitfall38_ReorgDrops", testReorgDrops},
		{"Pitfall07_DoubleSpend", testDoubleSpend},
		{"Pitfall38_Cursor", testCursor},
		{"Packages", testPackages},
		{"FeeRate", testFeeRate},
		{"FeeBounds", testFeeBounds},
		{"Pitfall37_Stale", testStale},
		{"Context", testContext},
		{"Concurrent", testConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			c.run(&suite{T: t, ctx: ctx, Fixture: mk(t)})
		})
	}
}

// limit bounds each test of the suite.
const limit = 2 * time.Minute

type suite struct {
	*testing.T
	Fixture
	ctx    context.Context
	owners uint64
}

// owner has a key and the P2TR script that it alone can spend from.
type owner struct {
	key    *btcec.PrivateKey
	script []byte
}

// owner makes a new one; no two tests of a fixture share a script.
func (s *suite) owner() *owner {
	s.Helper()
	s.owners++
	seed := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(s.Name()), s.owners))
	key, _ := btcec.PrivKeyFromBytes(seed[:])
	script, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(key.PubKey()))
	if err != nil {
		s.Fatal(err)
	}
	chain.Hint(s.Backend, script)
	return &owner{key, script}
}

// unconfirmed runs what only a backend with a mempool can know; what has no mempool shows blocks alone.
func (s *suite) unconfirmed(check func()) {
	s.Helper()
	if s.Backend.Capabilities().Mempool {
		check()
	}
}

// payment is a transaction that a test makes.
type payment struct {
	from      *owner
	spends    []wire.OutPoint
	values    []int64 // of the outputs that are spent
	to        []byte
	fee       int64
	lock      uint32
	sequence  uint32 // 0: 0xfffffffd
	version   int32  // 0: 2
	wrongSign bool
}

func (s *suite) make(p payment) *wire.MsgTx {
	s.Helper()
	if p.version == 0 {
		p.version = 2
	}
	if p.sequence == 0 {
		p.sequence = 0xfffffffd
	}
	tx := wire.NewMsgTx(p.version)
	tx.LockTime = p.lock
	prevouts := txscript.NewMultiPrevOutFetcher(nil)
	var total int64
	for i, op := range p.spends {
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: p.sequence})
		prevouts.AddPrevOut(op, wire.NewTxOut(p.values[i], p.from.script))
		total += p.values[i]
	}
	tx.AddTxOut(wire.NewTxOut(total-p.fee, p.to))
	hashes := txscript.NewTxSigHashes(tx, prevouts)
	for i := range tx.TxIn {
		w, err := txscript.TaprootWitnessSignature(tx, hashes, i, p.values[i], p.from.script, txscript.SigHashDefault, p.from.key)
		if err != nil {
			s.Fatal(err)
		}
		if p.wrongSign {
			w[0][schnorr.SignatureSize-1] ^= 1
		}
		tx.TxIn[i].Witness = w
	}
	return tx
}

func (s *suite) settle() {
	s.Helper()
	if s.Settle != nil {
		s.Settle(s.T)
	}
}

func (s *suite) mine(blocks int) {
	s.Helper()
	s.Mine(s.T, blocks)
	s.settle()
}

func (s *suite) fund(o *owner, sat int64) wire.OutPoint {
	s.Helper()
	op := s.Fund(s.T, o.script, sat)
	s.settle()
	return op
}

func (s *suite) reorg(r Reorg) {
	s.Helper()
	s.Reorg(s.T, r)
	s.settle()
}

func (s *suite) tip() chain.Tip {
	s.Helper()
	tip, err := s.Backend.Tip(s.ctx)
	if err != nil {
		s.Fatalf("tip: %v", err)
	}
	return tip
}

func (s *suite) send(tx *wire.MsgTx) chainhash.Hash {
	s.Helper()
	if err := s.Backend.Broadcast(s.ctx, tx); err != nil {
		s.Fatalf("broadcast: %v", err)
	}
	s.settle()
	return tx.TxHash()
}

// refused wants a refusal, with words, and that the transaction is then unknown. A backend that is not told why may
// not be told at all.
func (s *suite) refused(what string, tx *wire.MsgTx) {
	s.Helper()
	err := s.Backend.Broadcast(s.ctx, tx)
	if err == nil && !s.Backend.Capabilities().RejectReasons {
		s.settle()
		s.missing(tx.TxHash())
		return
	}
	var reject *chain.RejectError
	if !errors.As(err, &reject) || !errors.Is(err, chain.ErrRejected) {
		s.Fatalf("%s: want a RejectError, got %v", what, err)
	}
	if reject.Reason == "" {
		s.Errorf("%s: a refusal without a reason", what)
	}
	s.settle()
	s.missing(tx.TxHash())
}

// at wants a transaction confirmed at a height, or unconfirmed for height 0.
func (s *suite) at(txid chainhash.Hash, height uint32) {
	s.Helper()
	i, err := s.Backend.Tx(s.ctx, txid)
	if err != nil {
		s.Fatalf("transaction %s: %v", txid, err)
	}
	if i.Tx == nil || i.Tx.TxHash() != txid {
		s.Fatalf("transaction %s: other bytes", txid)
	}
	if i.Height != height || i.Confirmed != (height > 0) {
		s.Fatalf("transaction %s: confirmed %v at %d, want %d", txid, i.Confirmed, i.Height, height)
	}
	var want chainhash.Hash
	if height > 0 {
		want = s.blockHash(height)
	}
	if i.BlockHash != want {
		s.Fatalf("transaction %s: in block %s, want %s", txid, i.BlockHash, want)
	}
}

func (s *suite) blockHash(height uint32) chainhash.Hash {
	s.Helper()
	h, err := s.Backend.BlockHash(s.ctx, height)
	if err != nil {
		s.Fatalf("block hash at %d: %v", height, err)
	}
	return h
}

func (s *suite) missing(txid chainhash.Hash) {
	s.Helper()
	if _, err := s.Backend.Tx(s.ctx, txid); !errors.Is(err, chain.ErrNotFound) {
		s.Fatalf("transaction %s: want ErrNotFound, got %v", txid, err)
	}
}

// spent wants an output spent by input vin of a transaction that is at a height, or unconfirmed for height 0.
func (s *suite) spent(op wire.OutPoint, by chainhash.Hash, vin, height uint32) {
	s.Helper()
	got, err := s.Backend.Spend(s.ctx, op)
	if err != nil {
		s.Fatalf("spend of %s: %v", op, err)
	}
	want := chain.Spend{Txid: by, Vin: vin, Confirmed: height > 0, Height: height}
	if got == nil || *got != want {
		s.Fatalf("spend of %s: got %+v, want %+v", op, got, want)
	}
}

func (s *suite) unspent(op wire.OutPoint) {
	s.Helper()
	got, err := s.Backend.Spend(s.ctx, op)
	if err != nil || got != nil {
		s.Fatalf("spend of %s: got %+v and %v, want none", op, got, err)
	}
}

// coins wants a script to hold exactly these outputs, in this order, at these heights.
func (s *suite) coins(script []byte, want ...chain.UTXO) {
	s.Helper()
	got, err := s.Backend.UTXOs(s.ctx, script)
	if err != nil {
		s.Fatalf("coins: %v", err)
	}
	if len(got) != len(want) {
		s.Fatalf("%d coins, want %d: %+v", len(got), len(want), got)
	}
	for i, g := range got {
		w := want[i]
		if g.Outpoint != w.Outpoint || g.Value != w.Value || g.Height != w.Height || g.Confirmed != (w.Height > 0) ||
			!bytes.Equal(g.PkScript, script) {
			s.Fatalf("coin %d: got %+v, want %+v", i, g, w)
		}
	}
}

// history wants a script to have exactly these transactions, in this order.
func (s *suite) history(script []byte, want ...chainhash.Hash) {
	s.Helper()
	got, err := s.Backend.History(s.ctx, script)
	if err != nil {
		s.Fatalf("history: %v", err)
	}
	if len(got) != len(want) {
		s.Fatalf("a history of %d, want %d", len(got), len(want))
	}
	for i, g := range got {
		if g.Tx.TxHash() != want[i] {
			s.Fatalf("history %d: %s, want %s", i, g.Tx.TxHash(), want[i])
		}
	}
}
