package bitcoindtest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// coins are the block rewards that Pay spends, each once: payments of different
// calls have nothing in common, so that a reorg may drop any of them.
const coins = 300

type coin struct {
	out   wire.OutPoint
	value int64 // sat
}

// MineCoins mines block rewards for so many calls of Pay, and what matures them.
func (n *Node) MineCoins(count int) {
	n.t.Helper()
	from := n.Height() + 1
	n.Mine(count)
	for h := from; h < from+int64(count); h++ {
		var block struct{ Tx []string }
		n.call(&block, "getblock", n.BlockHash(h))
		var out struct{ Value json.Number }
		n.call(&out, "gettxout", block.Tx[0], 0)
		btc, err := out.Value.Float64()
		if err != nil {
			n.t.Fatal(err)
		}
		id, err := chainhash.NewHashFromStr(block.Tx[0])
		if err != nil {
			n.t.Fatal(err)
		}
		n.coins = append(n.coins, coin{wire.OutPoint{Hash: *id}, int64(btc*1e8 + 0.5)})
	}
	n.Mine(maturity)
}

// Pay pays an amount (sat) to a script and leaves that in the mempool.
func (n *Node) Pay(pkScript []byte, sat int64) wire.OutPoint {
	n.t.Helper()
	if len(n.coins) == 0 {
		n.MineCoins(coins)
	}
	c := n.coins[0]
	n.coins = n.coins[1:]
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: c.out, Sequence: 0xfffffffd})
	tx.AddTxOut(wire.NewTxOut(sat, pkScript))
	tx.AddTxOut(wire.NewTxOut(c.value-sat-fundingFee, n.purse.script))
	hashes := txscript.NewTxSigHashes(tx, txscript.NewCannedPrevOutputFetcher(n.purse.script, c.value))
	sig, err := txscript.RawTxInTaprootSignature(tx, hashes, 0, c.value, n.purse.script, []byte{}, txscript.SigHashDefault, n.purse.key)
	if err != nil {
		n.t.Fatal(err)
	}
	tx.TxIn[0].Witness = wire.TxWitness{sig}
	if err := n.Send(tx); err != nil {
		n.t.Fatalf("payment: %v", err)
	}
	return wire.OutPoint{Hash: tx.TxHash()}
}

// Reorg undoes depth blocks and puts a branch of length blocks in their place,
// the first of which holds the transactions of mine, the others none. What was
// undone returns to the mempool, without those in drop and what spends from them.
func (n *Node) Reorg(depth, length int, drop []chainhash.Hash, mine []*wire.MsgTx) {
	n.t.Helper()
	first := n.Height() - int64(depth) + 1
	back := n.blockTxs(first)
	back = append(back, n.poolTxs()...)
	n.call(nil, "invalidateblock", n.BlockHash(first))
	if len(drop)+len(mine) > 0 {
		n.Restart() // nothing else empties a mempool
	}
	raw := make([]string, len(mine))
	for i, tx := range mine {
		raw[i] = n.encode(tx)
	}
	for range length {
		n.branch++ // blocks that were undone must not come again
		n.call(nil, "generateblock", fmt.Sprintf("raw(04%08x)", n.branch), raw)
		raw = []string{}
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

// blockTxs are the transactions of the blocks from a height on, without the
// block rewards.
func (n *Node) blockTxs(from int64) (all []*wire.MsgTx) {
	n.t.Helper()
	for h := from; h <= n.Height(); h++ {
		var block struct {
			Tx []struct{ Hex string }
		}
		n.call(&block, "getblock", n.BlockHash(h), 2)
		for _, tx := range block.Tx[1:] {
			all = append(all, n.decode(tx.Hex))
		}
	}
	return all
}

func (n *Node) poolTxs() (all []*wire.MsgTx) {
	n.t.Helper()
	var ids []string
	n.call(&ids, "getrawmempool")
	for _, id := range ids {
		all = append(all, n.Tx(id))
	}
	return all
}

func (n *Node) decode(raw string) *wire.MsgTx {
	n.t.Helper()
	tx := wire.NewMsgTx(0)
	if err := tx.Deserialize(hex.NewDecoder(strings.NewReader(raw))); err != nil {
		n.t.Fatal(err)
	}
	return tx
}
