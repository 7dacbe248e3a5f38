package devnet

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"testing"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/chain"
)

// agree compares the index with what consensus and mempool say for themselves.
func agree(t *rapid.T, n *Node) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	x, best := n.idx, n.chain.BestSnapshot()
	if x.tip().hash != best.Hash || x.tip().height != uint32(best.Height) {
		t.Fatalf("the index is at %d, consensus at %d", x.tip().height, best.Height)
	}
	if x.tip().median != best.MedianTime.Unix() {
		t.Fatalf("median time %d, consensus says %v", x.tip().median, best.MedianTime)
	}
	if n.pool.Count() != len(x.pending) {
		t.Fatalf("%d pending in the index, %d in the mempool", len(x.pending), n.pool.Count())
	}
	for _, d := range n.pool.TxDescs() {
		e, ok := x.pending[*d.Tx.Hash()]
		if !ok || e.confirmed() || e.fee != d.Fee {
			t.Fatalf("transaction %s of the mempool is not in the index as it should be", d.Tx.Hash())
		}
	}
	known := 0
	for h, b := range x.main[1:] {
		if hash, err := n.chain.BlockHashByHeight(int32(h) + 1); err != nil || *hash != b.hash {
			t.Fatalf("height %d: other blocks, %v", h+1, err)
		}
		for pos, tx := range b.msg.Transactions {
			known++
			e, ok := x.txs[tx.TxHash()]
			if !ok || e.block != b || e.pos != pos {
				t.Fatalf("transaction %d of block %d is not in the index as it should be", pos, h+1)
			}
		}
	}
	if len(x.txs) != known+len(x.pending) {
		t.Fatalf("%d transactions in the index, %d in blocks, %d pending", len(x.txs), known, len(x.pending))
	}
	agreeOutputs(t, n)
}

// agreeOutputs compares every output: spent, or not, as consensus and mempool say.
func agreeOutputs(t *rapid.T, n *Node) {
	touched := map[[32]byte]map[chainhash.Hash]bool{}
	touch := func(script []byte, id chainhash.Hash) {
		h := sha256.Sum256(script)
		if touched[h] == nil {
			touched[h] = map[chainhash.Hash]bool{}
		}
		touched[h][id] = true
	}
	for id, e := range n.idx.txs {
		for _, p := range e.prev {
			if p != nil {
				touch(p.PkScript, id)
			}
		}
		for i, out := range e.tx.TxOut {
			touch(out.PkScript, id)
			op := wire.OutPoint{Hash: id, Index: uint32(i)}
			s, spent := n.idx.spends[op]
			if spent && s.by.tx.TxIn[s.vin].PreviousOutPoint != op {
				t.Fatalf("%s is not spent by what the index says", op)
			}
			utxo, err := n.chain.FetchUtxoEntry(op)
			if err != nil {
				t.Fatal(err)
			}
			unspentInBlocks := utxo != nil && !utxo.IsSpent()
			inPool := n.pool.CheckSpend(op)
			switch {
			case txscript.IsUnspendable(out.PkScript):
			case e.confirmed() && unspentInBlocks != (!spent || !s.by.confirmed()):
				t.Fatalf("%s: consensus says unspent %v, the index spent %v", op, unspentInBlocks, spent)
			case (inPool != nil) != (spent && !s.by.confirmed()):
				t.Fatalf("%s: the mempool spends it %v, the index says spent %v", op, inPool != nil, spent)
			}
		}
	}
	if len(touched) != len(n.idx.scripts) {
		t.Fatalf("%d scripts in the index, %d in transactions", len(n.idx.scripts), len(touched))
	}
	for h, ids := range touched {
		if len(n.idx.scripts[h]) != len(ids) {
			t.Fatalf("a script has %d transactions, the index knows %d", len(ids), len(n.idx.scripts[h]))
		}
	}
}

// player makes random transactions with one key.
type player struct {
	n      *Node
	key    *btcec.PrivateKey
	script []byte
	made   []*wire.MsgTx
}

func (p *player) spend(t *rapid.T, op wire.OutPoint, value int64) *wire.MsgTx {
	tx := wire.NewMsgTx(rapid.Int32Range(1, 3).Draw(t, "version"))
	seq := rapid.SampledFrom([]uint32{0xfffffffd, 0xffffffff}).Draw(t, "sequence")
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: seq})
	rest := value - rapid.Int64Range(100, 3_000).Draw(t, "fee")
	for range rapid.IntRange(1, 3).Draw(t, "outputs") {
		tx.AddTxOut(wire.NewTxOut(rest/3, p.script))
	}
	hashes := txscript.NewTxSigHashes(tx, txscript.NewCannedPrevOutputFetcher(p.script, value))
	w, err := txscript.TaprootWitnessSignature(tx, hashes, 0, value, p.script, txscript.SigHashDefault, p.key)
	if err != nil {
		t.Fatal(err)
	}
	tx.TxIn[0].Witness = w
	return tx
}

// pick finds an output of the player, spent or not, so that there are conflicts and replacements too.
func (p *player) pick(t *rapid.T) (op wire.OutPoint, value int64) {
	type output struct {
		op    wire.OutPoint
		value int64
	}
	var all []output
	for _, tx := range p.made {
		for i, out := range tx.TxOut {
			if bytes.Equal(out.PkScript, p.script) && out.Value > 10_000 {
				all = append(all, output{wire.OutPoint{Hash: tx.TxHash(), Index: uint32(i)}, out.Value})
			}
		}
	}
	o := rapid.SampledFrom(all).Draw(t, "output") // the first payment of the faucet is always one
	return o.op, o.value
}

func (p *player) fund(t *rapid.T) {
	id, err := p.n.Faucet(t.Context(), p.script, rapid.Int64Range(20_000, 1_000_000).Draw(t, "sat"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := p.n.Tx(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	p.made = append(p.made, info.Tx)
}

func (p *player) send(t *rapid.T) {
	op, value := p.pick(t)
	tx := p.spend(t, op, value)
	switch err := p.n.Broadcast(t.Context(), tx); {
	case err == nil:
		p.made = append(p.made, tx)
	case !errors.Is(err, chain.ErrRejected):
		t.Fatal(err)
	}
}

func (p *player) mine(t *rapid.T) {
	if _, err := p.n.Mine(rapid.IntRange(1, 4).Draw(t, "blocks")); err != nil {
		t.Fatal(err)
	}
}

func (p *player) reorg(t *rapid.T) {
	depth := rapid.IntRange(1, 110).Draw(t, "depth")
	o := ReorgOptions{Depth: depth, Length: depth + rapid.IntRange(1, 3).Draw(t, "more")}
	if rapid.Bool().Draw(t, "drop") {
		o.Drop = append(o.Drop, rapid.SampledFrom(p.made).Draw(t, "dropped").TxHash())
	}
	if rapid.Bool().Draw(t, "mine") {
		op, value := p.pick(t)
		o.Mine = append(o.Mine, p.spend(t, op, value))
	}
	before := maps.Clone(p.n.idx.txs)
	switch _, err := p.n.ReorgWith(o); {
	case err == nil:
		p.made = append(p.made, o.Mine...)
	case !errors.Is(err, ErrBlock):
		t.Fatal(err)
	}
	for id, e := range before {
		_, there := p.n.idx.txs[id]
		if there || blockchain.IsCoinBaseTx(e.tx) || len(o.Drop) > 0 {
			continue
		}
		if p.n.restore(e.tx) == nil {
			t.Fatalf("transaction %s was lost for no reason", id)
		}
	}
}

// block mines a transaction that may conflict with the mempool's.
func (p *player) block(t *rapid.T) {
	op, value := p.pick(t)
	tx := p.spend(t, op, value)
	switch _, err := p.n.MineBlock(tx); {
	case err == nil:
		p.made = append(p.made, tx)
	case !errors.Is(err, ErrBlock):
		t.Fatal(err)
	}
}

// scratch is a folder for one run of a property.
func scratch(t *rapid.T) string {
	dir, err := os.MkdirTemp("", "devnet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// snapshot is all that can be asked of a node, as a hash.
func snapshot(n *Node) (sum [32]byte) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	h := sha256.New()
	for _, b := range n.idx.main {
		h.Write(b.hash[:])
	}
	for _, e := range n.idx.mempool() {
		h.Write(e.id[:])
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(e.fee)))
	}
	return [32]byte(h.Sum(nil))
}

// TestPitfall38_RandomReorgs: after any sequence of payments, conflicts, replacements, blocks and reorgs the index
// says what consensus and mempool say, and a node that is opened again says the same.
func TestPitfall38_RandomReorgs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Dir: scratch(t), MineOnTx: rapid.IntRange(0, 3).Draw(t, "mine on tx") == 0}
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := &player{n: n}
		p.key, _ = btcec.PrivKeyFromBytes([]byte{31: 5})
		if p.script, err = txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(p.key.PubKey())); err != nil {
			t.Fatal(err)
		}
		p.fund(t)
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			step := rapid.SampledFrom([]string{"fund", "send", "send", "send", "mine", "block", "reorg"}).Draw(t, "step")
			map[string]func(*rapid.T){"fund": p.fund, "send": p.send, "mine": p.mine, "block": p.block, "reorg": p.reorg}[step](t)
		}
		agree(t, n)
		before := snapshot(n)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err = New(cfg); err != nil {
			t.Fatal(err)
		}
		agree(t, n)
		if snapshot(n) != before {
			t.Fatal("the node is another one after it was opened again")
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
