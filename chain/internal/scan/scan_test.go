package scan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/btcutil/v2/gcs"
	"github.com/btcsuite/btcd/btcutil/v2/gcs/builder"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/chain"
)

// ledger is a chain in memory.
type ledger struct {
	blocks  []*wire.MsgBlock
	filters map[chainhash.Hash]*gcs.Filter
	outs    map[wire.OutPoint][]byte
	made    uint32
	read    int
	lie     func(*wire.MsgBlock) *wire.MsgBlock // what is shown instead
	fail    error
}

func newLedger() *ledger {
	l := &ledger{filters: map[chainhash.Hash]*gcs.Filter{}, outs: map[wire.OutPoint][]byte{}}
	l.add()
	return l
}

// pay makes a transaction that spends outputs and pays scripts.
func (l *ledger) pay(spends []wire.OutPoint, scripts ...[]byte) *wire.MsgTx {
	l.made++
	tx := wire.NewMsgTx(2)
	tx.LockTime = l.made
	for _, op := range spends {
		tx.AddTxIn(wire.NewTxIn(&op, nil, nil))
	}
	if len(spends) == 0 {
		tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: chainhash.Hash{1}, Index: l.made}, nil, nil))
	}
	for i, pk := range scripts {
		tx.AddTxOut(wire.NewTxOut(int64(1000*i+1), pk))
	}
	for i, pk := range scripts {
		l.outs[wire.OutPoint{Hash: tx.TxHash(), Index: uint32(i)}] = pk
	}
	return tx
}

// add mines a block.
func (l *ledger) add(txs ...*wire.MsgTx) {
	l.made++
	reward := wire.NewMsgTx(1)
	reward.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Index: wire.MaxPrevOutIndex}, SignatureScript: binary.BigEndian.AppendUint32([]byte{4}, l.made)})
	reward.AddTxOut(wire.NewTxOut(50, []byte{0x51}))
	all := append([]*wire.MsgTx{reward}, txs...)
	b := wire.NewMsgBlock(&wire.BlockHeader{Version: 4, MerkleRoot: merkle(all), Nonce: l.made})
	b.Transactions = all
	if n := len(l.blocks); n > 0 {
		b.Header.PrevBlock = l.blocks[n-1].BlockHash()
	}
	var spent [][]byte
	for _, tx := range txs {
		for _, in := range tx.TxIn {
			if pk := l.outs[in.PreviousOutPoint]; pk != nil {
				spent = append(spent, pk)
			}
		}
	}
	f, err := builder.BuildBasicFilter(b, spent)
	if err != nil {
		panic(err)
	}
	l.filters[b.BlockHash()] = f
	l.blocks = append(l.blocks, b)
}

func merkle(txs []*wire.MsgTx) chainhash.Hash {
	var all []*btcutil.Tx
	for _, tx := range txs {
		all = append(all, btcutil.NewTx(tx))
	}
	return blockchain.CalcMerkleRoot(all, false)
}

func (l *ledger) Tip(ctx context.Context) (chain.Tip, error) {
	if err := errors.Join(ctx.Err(), l.fail); err != nil {
		return chain.Tip{}, fmt.Errorf("%w: %w", chain.ErrUnavailable, err)
	}
	n := len(l.blocks)
	return chain.Tip{Height: uint32(n - 1), Hash: l.blocks[n-1].BlockHash()}, nil
}

func (l *ledger) BlockHashes(_ context.Context, from uint32, count int) (all []chainhash.Hash, err error) {
	for h := int(from); h < len(l.blocks) && len(all) < count; h++ {
		all = append(all, l.blocks[h].BlockHash())
	}
	return all, nil
}

func (l *ledger) Filters(_ context.Context, blocks []chainhash.Hash) (all []*gcs.Filter, err error) {
	for _, b := range blocks {
		all = append(all, l.filters[b])
	}
	return all, nil
}

func (l *ledger) Block(_ context.Context, hash chainhash.Hash) (*wire.MsgBlock, error) {
	l.read++
	for _, b := range l.blocks {
		if b.BlockHash() == hash {
			if l.lie != nil {
				return l.lie(b), nil
			}
			return b, nil
		}
	}
	return nil, chain.ErrUnavailable
}

// shelf keeps what a scanner found in memory.
type shelf struct {
	marks  []chain.Mark
	tracks map[string]Kept
	fail   error
}

func (k *shelf) Load() (marks []chain.Mark, tracks []Kept, err error) {
	for _, t := range k.tracks {
		tracks = append(tracks, t)
	}
	return k.marks, tracks, k.fail
}

func (k *shelf) Save(marks []chain.Mark, changed []Kept) error {
	if k.fail != nil {
		return k.fail
	}
	k.marks = marks
	for _, t := range changed {
		k.tracks[string(t.Script)] = t
	}
	return nil
}

// TestModel compares a scanner, restarted now and then, with a search through all blocks, over random chains with
// reorgs.
func TestModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		l, keep := newLedger(), &shelf{tracks: map[string]Kept{}}
		start := func() *Scanner { return New(Config{Source: l, Window: 1 << 20, Keeper: keep}) }
		s := start()
		var scripts [][]byte
		for i := range 5 {
			scripts = append(scripts, append([]byte{0x51, 0x20}, make([]byte, 31)...))
			scripts[i] = append(scripts[i], byte(i))
		}
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			switch rapid.SampledFrom([]string{"mine", "mine", "reorg", "restart", "ask"}).Draw(r, "step") {
			case "mine":
				l.add(randomTxs(r, l, scripts)...)
			case "reorg":
				depth := rapid.IntRange(1, len(l.blocks)).Draw(r, "depth")
				l.blocks = l.blocks[:max(1, len(l.blocks)-depth)]
				for range depth + 1 {
					l.add(randomTxs(r, l, scripts)...)
				}
			case "restart":
				s = start()
			case "ask":
				compare(r, l, s, rapid.SampledFrom(scripts).Draw(r, "script"))
			}
		}
		for _, pk := range scripts {
			compare(r, l, s, pk)
		}
	})
}

func randomTxs(r *rapid.T, l *ledger, scripts [][]byte) (txs []*wire.MsgTx) {
	open := map[wire.OutPoint]bool{}
	for _, b := range l.blocks {
		for _, tx := range b.Transactions[1:] {
			for i := range tx.TxOut {
				open[wire.OutPoint{Hash: tx.TxHash(), Index: uint32(i)}] = true
			}
			for _, in := range tx.TxIn {
				delete(open, in.PreviousOutPoint)
			}
		}
	}
	for _, op := range slices.SortedFunc(maps.Keys(open), func(a, b wire.OutPoint) int { return strings.Compare(a.String(), b.String()) }) {
		if rapid.Bool().Draw(r, "spend") {
			txs = append(txs, l.pay([]wire.OutPoint{op}, rapid.SampledFrom(scripts).Draw(r, "to")))
		}
	}
	if rapid.Bool().Draw(r, "new") {
		txs = append(txs, l.pay(nil, rapid.SampledFrom(scripts).Draw(r, "to"), rapid.SampledFrom(scripts).Draw(r, "and")))
	}
	return txs
}

// compare asks the scanner all it can tell of a script, and looks itself.
func compare(r *rapid.T, l *ledger, s *Scanner, pk []byte) {
	coins, spends := map[wire.OutPoint]uint32{}, map[wire.OutPoint]Found{}
	var history []chainhash.Hash
	for h, b := range l.blocks {
		for _, tx := range b.Transactions {
			id, touches := tx.TxHash(), false
			for _, in := range tx.TxIn {
				if _, ours := coins[in.PreviousOutPoint]; ours {
					delete(coins, in.PreviousOutPoint)
					spends[in.PreviousOutPoint], touches = Found{tx, uint32(h), b.BlockHash()}, true
				}
			}
			for i, out := range tx.TxOut {
				if string(out.PkScript) == string(pk) {
					coins[wire.OutPoint{Hash: id, Index: uint32(i)}], touches = uint32(h), true
				}
			}
			if touches {
				history = append([]chainhash.Hash{id}, history...)
			}
		}
	}
	err := s.At(context.Background(), func(v View) error {
		got, err := v.Coins(context.Background(), pk)
		if err != nil || len(got) != len(coins) {
			r.Fatalf("%d coins and %v, want %d", len(got), err, len(coins))
		}
		for _, u := range got {
			if h, ok := coins[u.Outpoint]; !ok || h != u.Height {
				r.Fatalf("%+v, want height %d", u, h)
			}
		}
		found, err := v.History(context.Background(), pk)
		if err != nil || len(found) != len(history) {
			r.Fatalf("a history of %d and %v, want %d", len(found), err, len(history))
		}
		for i, f := range found {
			if f.Tx.TxHash() != history[i] {
				r.Fatalf("history %d", i)
			}
			if again, ok := v.Tx(history[i]); !ok || again.Block != f.Block {
				r.Fatalf("%s is not found by its id", history[i])
			}
		}
		for op, want := range spends {
			f, _, spent, known, err := v.Spend(context.Background(), op, nil)
			if err != nil || !known || !spent || f.Tx.TxHash() != want.Tx.TxHash() || f.Height != want.Height {
				r.Fatalf("spend of %v: %+v, %v %v %v", op, f, spent, known, err)
			}
		}
		for op := range coins {
			if _, _, spent, known, err := v.Spend(context.Background(), op, nil); err != nil || !known || spent {
				r.Fatalf("%v is unspent: %v %v %v", op, spent, known, err)
			}
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
}

// TestReadsLittle: blocks that do not concern anybody are not read, and none twice.
func TestReadsLittle(t *testing.T) {
	l := newLedger()
	pk := []byte{0x51, 0x20, 9}
	for range 300 {
		l.add(l.pay(nil, []byte{0x51, 0x21, byte(l.made)}))
	}
	l.add(l.pay(nil, pk))
	s := New(Config{Source: l, Window: 1 << 20})
	for range 3 {
		if err := s.At(t.Context(), func(v View) error { _, err := v.Coins(t.Context(), pk); return err }); err != nil {
			t.Fatal(err)
		}
	}
	if l.read < 1 || l.read > 2 {
		t.Fatalf("%d of 302 blocks were read", l.read)
	}
}

// TestPitfall40_Blocks: a block whose transactions are not those of its header is not believed: with some of them
// repeated (the same Merkle root), left out, exchanged, or without a block reward.
func TestPitfall40_Blocks(t *testing.T) {
	l := newLedger()
	pk := []byte{0x51, 0x20, 9}
	l.add(l.pay(nil, pk), l.pay(nil, pk))
	alter := func(change func(txs []*wire.MsgTx) []*wire.MsgTx) func(*wire.MsgBlock) *wire.MsgBlock {
		return func(b *wire.MsgBlock) *wire.MsgBlock {
			return &wire.MsgBlock{Header: b.Header, Transactions: change(append([]*wire.MsgTx(nil), b.Transactions...))}
		}
	}
	repeated := alter(func(txs []*wire.MsgTx) []*wire.MsgTx { return append(txs, txs[2]) })
	if b := repeated(l.blocks[1]); merkle(b.Transactions) != b.Header.MerkleRoot {
		t.Fatal("a repeated last transaction changes the root: this test shows nothing")
	}
	for what, lie := range map[string]func(*wire.MsgBlock) *wire.MsgBlock{
		"a repeated transaction": repeated,
		"one left out":           alter(func(txs []*wire.MsgTx) []*wire.MsgTx { return txs[:2] }),
		"one too many":           alter(func(txs []*wire.MsgTx) []*wire.MsgTx { return append(txs, l.pay(nil, pk)) }),
		"none":                   alter(func(txs []*wire.MsgTx) []*wire.MsgTx { return nil }),
		"another order":          alter(func(txs []*wire.MsgTx) []*wire.MsgTx { txs[1], txs[2] = txs[2], txs[1]; return txs }),
		"no reward":              alter(func(txs []*wire.MsgTx) []*wire.MsgTx { return txs[1:] }),
		"two rewards":            alter(func(txs []*wire.MsgTx) []*wire.MsgTx { return append(txs[:1], txs...) }),
		"another block":          func(*wire.MsgBlock) *wire.MsgBlock { return l.blocks[0] },
		"no block":               func(*wire.MsgBlock) *wire.MsgBlock { return nil },
	} {
		l.lie = lie
		s := New(Config{Source: l, Window: 10})
		err := s.At(t.Context(), func(v View) error { _, err := v.Coins(t.Context(), pk); return err })
		if !errors.Is(err, ErrBadBlock) || !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
		l.lie = nil // the next answer is right: the same scanner goes on
		if err := s.At(t.Context(), func(v View) error {
			if coins, err := v.Coins(t.Context(), pk); err != nil || len(coins) != 2 {
				t.Errorf("%s: then %d coins, %v", what, len(coins), err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}

// TestKeeperFails: what cannot be kept is not told either, and what cannot be read is said.
func TestKeeperFails(t *testing.T) {
	l, full := newLedger(), errors.New("disk full")
	keep := &shelf{tracks: map[string]Kept{}, fail: full}
	ask := func(s *Scanner) error {
		return s.At(t.Context(), func(v View) error { _, err := v.Coins(t.Context(), []byte{0x51}); return err })
	}
	s := New(Config{Source: l, Keeper: keep, Window: 10})
	if err := ask(s); !errors.Is(err, full) || !errors.Is(err, chain.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	keep.fail = nil
	if err := ask(s); err != nil {
		t.Fatal(err)
	}
	keep.fail = full
	l.add()
	if err := ask(s); !errors.Is(err, full) {
		t.Fatalf("%v", err)
	}
	keep.fail = nil
	if err := ask(s); err != nil || keep.marks[len(keep.marks)-1].Height != 1 {
		t.Fatalf("%v, %+v", err, keep.marks)
	}
}
