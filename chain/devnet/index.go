package devnet

import (
	"cmp"
	"crypto/sha256"
	"slices"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// block is a block that the node has connected once; it stays known when a reorg undoes it.
type block struct {
	hash   chainhash.Hash
	height uint32
	msg    *wire.MsgBlock
	size   int // bytes
	weight int64
	median int64 // median time past after this block, unix seconds
}

// entry is a transaction of the best chain or of the mempool.
type entry struct {
	id      chainhash.Hash
	tx      *wire.MsgTx
	block   *block // nil in the mempool
	pos     int    // position in its block
	arrived uint64 // counts what came into the index, the order of the mempool
	fee     int64  // sat; 0 for a coinbase
	prev    []*wire.TxOut
	scripts [][32]byte // hashes of the scripts it pays to or spends from
}

func (e *entry) confirmed() bool { return e.block != nil }

func (e *entry) info() chain.TxInfo {
	i := chain.TxInfo{Tx: e.tx.Copy()}
	if e.confirmed() {
		i.Confirmed, i.Height, i.BlockHash = true, e.block.height, e.block.hash
	}
	return i
}

func (e *entry) vsize() int64 { return (e.weight() + 3) / 4 }

func (e *entry) weight() int64 { return blockchain.GetTransactionWeight(btcutil.NewTx(e.tx)) }

// rate is the fee rate in sat per 1000 vB, rounded down.
func (e *entry) rate() int64 { return e.fee * 1000 / e.vsize() }

type spender struct {
	by  *entry
	vin uint32
}

// index finds blocks, transactions and spends of the best chain and the mempool. It decides nothing: it follows
// what blockchain and mempool have decided. Its callers hold the node's lock.
type index struct {
	main    []*block // by height
	blocks  map[chainhash.Hash]*block
	txs     map[chainhash.Hash]*entry
	pending map[chainhash.Hash]*entry // the mempool's part of txs
	spends  map[wire.OutPoint]spender
	scripts map[[32]byte]map[chainhash.Hash]*entry
	arrived uint64
}

func newIndex(genesis *wire.MsgBlock) *index {
	x := &index{
		blocks:  map[chainhash.Hash]*block{},
		txs:     map[chainhash.Hash]*entry{},
		pending: map[chainhash.Hash]*entry{},
		spends:  map[wire.OutPoint]spender{},
		scripts: map[[32]byte]map[chainhash.Hash]*entry{},
	}
	// The genesis block's coinbase can't be spent, so it is no transaction of the index.
	x.push(genesis)
	return x
}

func (x *index) tip() *block { return x.main[len(x.main)-1] }

// push appends a block to the best chain, without its transactions.
func (x *index) push(msg *wire.MsgBlock) *block {
	b := &block{hash: msg.BlockHash(), height: uint32(len(x.main)), msg: msg, size: msg.SerializeSize(),
		weight: blockchain.GetBlockWeight(btcutil.NewBlock(msg))}
	x.main = append(x.main, b)
	b.median = medianTime(x.main)
	x.blocks[b.hash] = b
	return b
}

// medianTime is the median of the newest eleven timestamps (BIP113).
func medianTime(blocks []*block) int64 {
	last := blocks[max(0, len(blocks)-11):]
	times := make([]int64, len(last))
	for i, b := range last {
		times[i] = b.msg.Header.Timestamp.Unix()
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// connect takes a block to the end of the best chain and returns the mempool transactions that it made
// impossible, children before parents.
func (x *index) connect(msg *wire.MsgBlock) (evicted []*entry) {
	b := x.push(msg)
	for pos, tx := range msg.Transactions {
		id := tx.TxHash()
		if old, ok := x.txs[id]; ok {
			old.tx, old.block, old.pos = tx, b, pos
			delete(x.pending, id)
			continue
		}
		for _, in := range tx.TxIn {
			if s, ok := x.spends[in.PreviousOutPoint]; ok {
				evicted = append(evicted, x.evict(s.by)...)
			}
		}
		e := x.add(id, tx)
		e.block, e.pos = b, pos
	}
	return evicted
}

// disconnect takes the tip away and returns its transactions without the coinbase, in the block's order. The
// mempool must be empty.
func (x *index) disconnect() (undone []*wire.MsgTx) {
	b := x.tip()
	txs := b.msg.Transactions
	for i := len(txs) - 1; i >= 0; i-- {
		if e, ok := x.txs[txs[i].TxHash()]; ok {
			x.remove(e)
		}
	}
	x.main = x.main[:len(x.main)-1]
	return txs[1:]
}

// accept takes a transaction into the mempool's part.
func (x *index) accept(tx *wire.MsgTx) *entry {
	e := x.add(tx.TxHash(), tx)
	x.pending[e.id] = e
	return e
}

func (x *index) add(id chainhash.Hash, tx *wire.MsgTx) *entry {
	x.arrived++
	e := &entry{id: id, tx: tx, arrived: x.arrived, prev: make([]*wire.TxOut, len(tx.TxIn))}
	touched := map[[32]byte]bool{}
	for i, in := range tx.TxIn {
		from, ok := x.txs[in.PreviousOutPoint.Hash]
		if !ok || in.PreviousOutPoint.Index >= uint32(len(from.tx.TxOut)) {
			continue // a coinbase's input
		}
		e.prev[i] = from.tx.TxOut[in.PreviousOutPoint.Index]
		e.fee += e.prev[i].Value
		touched[sha256.Sum256(e.prev[i].PkScript)] = true
		x.spends[in.PreviousOutPoint] = spender{e, uint32(i)}
	}
	for _, out := range tx.TxOut {
		e.fee -= out.Value
		touched[sha256.Sum256(out.PkScript)] = true
	}
	if blockchain.IsCoinBaseTx(tx) {
		e.fee = 0
	}
	for s := range touched {
		if x.scripts[s] == nil {
			x.scripts[s] = map[chainhash.Hash]*entry{}
		}
		x.scripts[s][id] = e
		e.scripts = append(e.scripts, s)
	}
	x.txs[id] = e
	return e
}

func (x *index) remove(e *entry) {
	for _, in := range e.tx.TxIn {
		if s, ok := x.spends[in.PreviousOutPoint]; ok && s.by == e {
			delete(x.spends, in.PreviousOutPoint)
		}
	}
	for _, s := range e.scripts {
		delete(x.scripts[s], e.id)
		if len(x.scripts[s]) == 0 {
			delete(x.scripts, s)
		}
	}
	delete(x.txs, e.id)
	delete(x.pending, e.id)
}

// evict removes a mempool transaction and all that spend from it, and returns them children first.
func (x *index) evict(e *entry) (gone []*entry) {
	if x.pending[e.id] != e {
		return nil
	}
	for i := range e.tx.TxOut {
		if s, ok := x.spends[wire.OutPoint{Hash: e.id, Index: uint32(i)}]; ok {
			gone = append(gone, x.evict(s.by)...)
		}
	}
	x.remove(e)
	return append(gone, e)
}

// mempool lists the unconfirmed transactions in the order of their arrival.
func (x *index) mempool() []*entry {
	all := make([]*entry, 0, len(x.pending))
	for _, e := range x.pending {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.arrived, b.arrived) })
	return all
}

// history lists what touches a script: unconfirmed first, then newest block first.
func (x *index) history(scripthash [32]byte) []*entry {
	all := make([]*entry, 0, len(x.scripts[scripthash]))
	for _, e := range x.scripts[scripthash] {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int {
		switch {
		case a.confirmed() != b.confirmed():
			if a.confirmed() {
				return 1
			}
			return -1
		case !a.confirmed():
			return cmp.Compare(b.arrived, a.arrived)
		}
		return cmp.Or(cmp.Compare(b.block.height, a.block.height), cmp.Compare(b.pos, a.pos))
	})
	return all
}

type coin struct {
	op  wire.OutPoint
	out *wire.TxOut
	e   *entry
}

// coins lists the unspent outputs of a script: confirmed ones first, by height.
func (x *index) coins(scripthash [32]byte) (all []coin) {
	h := x.history(scripthash)
	for _, e := range h {
		for i, out := range e.tx.TxOut {
			op := wire.OutPoint{Hash: e.id, Index: uint32(i)}
			if _, spent := x.spends[op]; spent || sha256.Sum256(out.PkScript) != scripthash {
				continue
			}
			if txscript.IsUnspendable(out.PkScript) {
				continue
			}
			all = append(all, coin{op, out, e})
		}
	}
	slices.SortStableFunc(all, func(a, b coin) int {
		if a.e.confirmed() != b.e.confirmed() {
			if a.e.confirmed() {
				return -1
			}
			return 1
		}
		if !a.e.confirmed() {
			return cmp.Compare(a.e.arrived, b.e.arrived)
		}
		return cmp.Or(cmp.Compare(a.e.block.height, b.e.block.height), cmp.Compare(a.e.pos, b.e.pos))
	})
	return all
}
