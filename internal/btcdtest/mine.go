package btcdtest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	maturity   = 100
	fundingFee = 1_000 // sat
	manyCoins  = 200
)

// coin is a block reward that Pay spends, each once: payments of different calls have nothing in common, so that a
// reorg may drop any of them.
type coin struct {
	out   wire.OutPoint
	value int64 // sat
}

// Mine mines blocks, the first with what the mempool holds.
func (n *Node) Mine(blocks int) {
	n.t.Helper()
	txs := n.poolTxs()
	for range blocks {
		n.submit(n.block(txs))
		txs = nil
	}
}

// MineTxs mines one block with exactly these transactions.
func (n *Node) MineTxs(txs ...*wire.MsgTx) {
	n.t.Helper()
	n.submit(n.block(txs))
}

// block makes a block on the best chain's tip and appends its header.
func (n *Node) block(txs []*wire.MsgTx) *wire.MsgBlock {
	n.t.Helper()
	height := int32(len(n.headers))
	n.branch++
	note, err := txscript.NewScriptBuilder().AddInt64(int64(height)).AddData(binary.BigEndian.AppendUint32(nil, n.branch)).Script()
	if err != nil {
		n.t.Fatal(err)
	}
	reward := wire.NewMsgTx(2)
	reward.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Index: wire.MaxPrevOutIndex}, SignatureScript: note,
		Sequence: wire.MaxTxInSequenceNum, Witness: wire.TxWitness{make([]byte, 32)}})
	reward.AddTxOut(wire.NewTxOut(blockchain.CalcBlockSubsidy(height, &chaincfg.RegressionNetParams), n.script))
	all := []*btcutil.Tx{btcutil.NewTx(reward)}
	for _, tx := range txs {
		all = append(all, btcutil.NewTx(tx))
	}
	root := blockchain.CalcMerkleRoot(all, true)
	commitment := chainhash.DoubleHashB(append(root[:], make([]byte, 32)...))
	reward.AddTxOut(wire.NewTxOut(0, append(slices.Clone(blockchain.WitnessMagicBytes), commitment...)))
	all[0] = btcutil.NewTx(reward)
	prev := n.headers[len(n.headers)-1]
	b := wire.NewMsgBlock(&wire.BlockHeader{Version: 0x20000000, PrevBlock: prev.BlockHash(), MerkleRoot: blockchain.CalcMerkleRoot(all, false),
		Timestamp: n.time(), Bits: prev.Bits})
	b.Transactions = append([]*wire.MsgTx{reward}, txs...)
	target := blockchain.CompactToBig(b.Header.Bits)
	for {
		hash := b.BlockHash()
		if blockchain.HashToBig(&hash).Cmp(target) <= 0 {
			break
		}
		b.Header.Nonce++
	}
	n.headers = append(n.headers, b.Header)
	return b
}

// time is that of the next block: now, or as soon after the median of the last eleven as is allowed.
func (n *Node) time() time.Time {
	var last []int64
	for _, h := range n.headers[max(0, len(n.headers)-11):] {
		last = append(last, h.Timestamp.Unix())
	}
	slices.Sort(last)
	return time.Unix(max(time.Now().Unix(), last[len(last)/2]+1), 0)
}

func (n *Node) submit(b *wire.MsgBlock) {
	n.t.Helper()
	var buf bytes.Buffer
	if err := b.Serialize(&buf); err != nil {
		n.t.Fatal(err)
	}
	raw := hex.EncodeToString(buf.Bytes())
	n.raw = append(n.raw, raw)
	var refused *string
	n.call(&refused, "submitblock", raw)
	if refused != nil {
		n.t.Fatalf("block %d: %s", len(n.headers)-1, *refused)
	}
}

// submitAgain gives the best chain to a node that has lost it: btcd forgets a regtest chain at every start.
func (n *Node) submitAgain() {
	n.t.Helper()
	for from := 0; from < len(n.raw); from += 500 {
		var asks []request
		for _, raw := range n.raw[from:min(from+500, len(n.raw))] {
			asks = append(asks, request{"2.0", len(asks), "submitblock", []any{raw}})
		}
		var answers []struct {
			Result *string
			Error  *Error
		}
		if err := n.post(asks, &answers); err != nil {
			n.t.Fatalf("the blocks from %d on: %v", from, err)
		}
		for i, a := range answers {
			if a.Error != nil || a.Result != nil {
				n.t.Fatalf("block %d: %v, %v", from+i+1, a.Error, a.Result)
			}
		}
	}
	if got := n.Height(); got != int64(len(n.raw)) {
		n.t.Fatalf("the tip is %d, not %d", got, len(n.raw))
	}
}

// MineCoins mines block rewards for so many calls of Pay, and what matures them.
func (n *Node) MineCoins(count int) {
	n.t.Helper()
	txs := n.poolTxs()
	for range count {
		b := n.block(txs)
		n.submit(b)
		txs = nil
		n.coins = append(n.coins, coin{wire.OutPoint{Hash: b.Transactions[0].TxHash()}, b.Transactions[0].TxOut[0].Value})
	}
	n.Mine(maturity)
}

// Pay pays an amount (sat) to a script and leaves that in the mempool.
func (n *Node) Pay(pkScript []byte, sat int64) wire.OutPoint {
	n.t.Helper()
	if len(n.coins) == 0 {
		n.MineCoins(manyCoins)
	}
	c := n.coins[0]
	n.coins = n.coins[1:]
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: c.out, Sequence: 0xfffffffd})
	tx.AddTxOut(wire.NewTxOut(sat, pkScript))
	tx.AddTxOut(wire.NewTxOut(c.value-sat-fundingFee, n.script))
	n.sign(tx, c.value)
	if err := n.Send(tx); err != nil {
		n.t.Fatalf("payment: %v", err)
	}
	return wire.OutPoint{Hash: tx.TxHash()}
}

// Send hands a transaction to the node's mempool. Errors: *Error.
func (n *Node) Send(tx *wire.MsgTx) error {
	n.t.Helper()
	var buf bytes.Buffer
	if err := tx.Serialize(&buf); err != nil {
		n.t.Fatal(err)
	}
	return n.RPC(nil, "sendrawtransaction", hex.EncodeToString(buf.Bytes()))
}

// InMempool reports whether a transaction is in the mempool.
func (n *Node) InMempool(txid chainhash.Hash) bool {
	n.t.Helper()
	var ids []string
	n.call(&ids, "getrawmempool")
	return slices.Contains(ids, txid.String())
}

// Reorg puts a branch of length blocks in the place of the newest depth blocks, as another miner's longer branch
// would: the first holds the transactions of mine, the others none. What was undone returns to the mempool, without
// those in drop and what spends from them.
func (n *Node) Reorg(depth, length int, drop []chainhash.Hash, mine []*wire.MsgTx) {
	n.t.Helper()
	back := n.blockTxs(len(n.headers) - depth)
	back = append(back, n.poolTxs()...)
	n.headers, n.raw = n.headers[:len(n.headers)-depth], n.raw[:len(n.raw)-depth]
	for range length {
		n.submit(n.block(mine))
		mine = nil
	}
	if got := n.Height(); got != int64(len(n.headers)-1) {
		n.t.Fatalf("after the reorg the tip is %d, not %d", got, len(n.headers)-1)
	}
	if len(drop) > 0 {
		n.Restart() // nothing else empties a mempool
	}
	n.sendAgain(back, drop)
}

// sendAgain gives transactions back to the mempool, as far as it takes them.
func (n *Node) sendAgain(txs []*wire.MsgTx, drop []chainhash.Hash) {
	for progress := true; progress; {
		progress = false
		txs = slices.DeleteFunc(txs, func(tx *wire.MsgTx) bool {
			if slices.Contains(drop, tx.TxHash()) || n.Send(tx) == nil {
				progress = true
				return true
			}
			return false
		})
	}
}

// blockTxs are the transactions of the best chain's blocks from a height on, without the block rewards.
func (n *Node) blockTxs(from int) (all []*wire.MsgTx) {
	n.t.Helper()
	for _, h := range n.headers[from:] {
		var raw string
		n.call(&raw, "getblock", h.BlockHash().String(), 0)
		var b wire.MsgBlock
		if err := b.Deserialize(hex.NewDecoder(strings.NewReader(raw))); err != nil {
			n.t.Fatal(err)
		}
		all = append(all, b.Transactions[1:]...)
	}
	return all
}

// poolTxs are the transactions of the mempool, each after those that it spends from.
func (n *Node) poolTxs() (all []*wire.MsgTx) {
	n.t.Helper()
	var ids []string
	n.call(&ids, "getrawmempool")
	waiting := map[chainhash.Hash]*wire.MsgTx{}
	for _, id := range ids {
		var raw string
		if err := n.RPC(&raw, "getrawtransaction", id, 0); err != nil {
			continue // replaced meanwhile
		}
		tx := wire.NewMsgTx(0)
		if err := tx.Deserialize(hex.NewDecoder(strings.NewReader(raw))); err != nil {
			n.t.Fatal(err)
		}
		waiting[tx.TxHash()] = tx
	}
	for len(waiting) > 0 {
		for id, tx := range waiting {
			if !slices.ContainsFunc(tx.TxIn, func(in *wire.TxIn) bool { return waiting[in.PreviousOutPoint.Hash] != nil }) {
				all = append(all, tx)
				delete(waiting, id)
			}
		}
	}
	return all
}
