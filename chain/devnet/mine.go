package devnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/mining"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Mine mines so many blocks, 1 to 10,000, with what the mempool holds, and returns their hashes.
// Errors: ErrRange, chain.ErrUnavailable.
func (n *Node) Mine(blocks int) ([]chainhash.Hash, error) {
	if blocks < 1 || blocks > maxMine {
		return nil, fmt.Errorf("%w: %d blocks, at least 1 and at most %d can be mined at once", ErrRange, blocks, maxMine)
	}
	hashes := make([]chainhash.Hash, 0, blocks)
	err := n.write(context.Background(), func() ([]record, error) {
		frame := make([]record, 0, blocks)
		for range blocks {
			r, err := n.mineOne()
			if err != nil {
				return frame, err
			}
			frame = append(frame, r)
			hashes = append(hashes, n.idx.tip().hash)
		}
		return frame, nil
	})
	if err != nil {
		return nil, err
	}
	return hashes, nil
}

// MineBlock mines one block with exactly these transactions, parents before children, whatever the mempool holds
// and whatever policy says: only consensus rules apply, as with a miner that takes transactions directly.
// Errors: ErrBlock, chain.ErrUnavailable.
func (n *Node) MineBlock(txs ...*wire.MsgTx) (hash chainhash.Hash, err error) {
	err = n.write(context.Background(), func() ([]record, error) {
		b, err := n.assemble(n.idx.tip(), txs, map[chainhash.Hash]*wire.MsgTx{})
		if err != nil {
			return nil, err
		}
		if err := n.connect(b); err != nil {
			return nil, err
		}
		hash = n.idx.tip().hash
		r, err := blockRecord(b)
		return []record{r}, err
	})
	return hash, err
}

// mineOne mines a block from the mempool and connects it. The node's lock is held.
func (n *Node) mineOne() (record, error) {
	t, err := n.gen.NewBlockTemplate(n.faucet.addr)
	if err != nil {
		return record{}, fmt.Errorf("devnet: make a block template: %w", err)
	}
	if err := n.solve(t.Block); err != nil {
		return record{}, err
	}
	if err := n.connect(t.Block); err != nil {
		return record{}, err
	}
	return blockRecord(t.Block)
}

// solve finds a nonce. On regtest every second one will do.
func (n *Node) solve(b *wire.MsgBlock) error {
	target := blockchain.CompactToBig(b.Header.Bits)
	for nonce := range uint32(1 << 20) {
		b.Header.Nonce = nonce
		hash := b.Header.BlockHash()
		if blockchain.HashToBig(&hash).Cmp(target) <= 0 {
			return nil
		}
	}
	return errors.New("devnet: no nonce solves the block")
}

// assemble makes a solved block on any known parent from given transactions. outputs holds transactions of the
// same branch that these may spend from, besides those of the best chain; the block's own are added to it.
func (n *Node) assemble(parent *block, txs []*wire.MsgTx, outputs map[chainhash.Hash]*wire.MsgTx) (*wire.MsgBlock, error) {
	height := int32(parent.height) + 1
	var fees int64
	all := make([]*btcutil.Tx, 1, len(txs)+1)
	for _, tx := range txs {
		fees += n.feeOf(tx, outputs)
		outputs[tx.TxHash()] = tx
		all = append(all, btcutil.NewTx(tx.Copy()))
	}
	n.nonce++
	sig, err := txscript.NewScriptBuilder().AddInt64(int64(height)).
		AddInt64(int64(len(n.idx.blocks))<<20 + int64(n.nonce)).Script()
	if err != nil {
		return nil, fmt.Errorf("devnet: make a coinbase: %w", err)
	}
	coinbase := wire.NewMsgTx(2)
	coinbase.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Index: wire.MaxPrevOutIndex},
		SignatureScript: sig, Sequence: wire.MaxTxInSequenceNum})
	coinbase.AddTxOut(wire.NewTxOut(blockchain.CalcBlockSubsidy(height, n.params)+max(0, fees), n.faucet.script))
	all[0] = btcutil.NewTx(coinbase)
	mining.AddWitnessCommitment(all[0], all)
	all[0] = btcutil.NewTx(coinbase) // its hash is that of the transaction with the commitment
	at := max(n.clock.AdjustedTime().Unix(), parent.median+1)
	b := wire.NewMsgBlock(&wire.BlockHeader{
		Version: 0x20000000, PrevBlock: parent.hash, MerkleRoot: blockchain.CalcMerkleRoot(all, false),
		Timestamp: time.Unix(at, 0), Bits: n.params.PowLimitBits,
	})
	for _, tx := range all {
		if err := b.AddTransaction(tx.MsgTx()); err != nil {
			return nil, fmt.Errorf("devnet: assemble a block: %w", err)
		}
	}
	return b, n.solve(b)
}

// feeOf is a transaction's fee, or 0 where an output that it spends is unknown: consensus refuses the block then.
func (n *Node) feeOf(tx *wire.MsgTx, outputs map[chainhash.Hash]*wire.MsgTx) (fee int64) {
	for _, in := range tx.TxIn {
		from := outputs[in.PreviousOutPoint.Hash]
		if e, ok := n.idx.txs[in.PreviousOutPoint.Hash]; ok && from == nil {
			from = e.tx
		}
		if from == nil || in.PreviousOutPoint.Index >= uint32(len(from.TxOut)) {
			return 0
		}
		fee += from.TxOut[in.PreviousOutPoint.Index].Value
	}
	for _, out := range tx.TxOut {
		fee -= out.Value
	}
	return fee
}

// connect gives a block to consensus. The block's own time is the present meanwhile: the node is its only miner
// and accepts its log whatever the clock says today. The node's lock is held. Errors: ErrBlock.
func (n *Node) connect(b *wire.MsgBlock) error {
	n.clock.fix(b.Header.Timestamp)
	defer n.clock.release()
	_, orphan, err := n.chain.ProcessBlock(btcutil.NewBlock(b), blockchain.BFNone)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBlock, err)
	case orphan:
		return fmt.Errorf("%w: its parent is unknown", ErrBlock)
	}
	n.clock.floor.Store(n.idx.tip().msg.Header.Timestamp.Unix())
	return nil
}

// follow keeps the index and the mempool in step with consensus; blockchain calls it for each block that is
// connected or disconnected, within ProcessBlock.
func (n *Node) follow(note *blockchain.Notification) {
	b, ok := note.Data.(*btcutil.Block)
	if !ok {
		return
	}
	switch note.Type {
	case blockchain.NTBlockConnected:
		for _, e := range n.idx.connect(b.MsgBlock()) {
			n.log.Info("devnet: a block conflicts with a transaction of the mempool", "txid", e.id)
			n.pool.RemoveTransaction(btcutil.NewTx(e.tx), true)
		}
		for _, tx := range b.Transactions()[1:] {
			n.pool.RemoveTransaction(tx, false)
		}
	case blockchain.NTBlockDisconnected:
		n.undone.begin(n)
		n.undone.txs = append(n.idx.disconnect(), n.undone.txs...)
	}
}

func decodeTx(raw []byte) (*wire.MsgTx, error) {
	var tx wire.MsgTx
	r := bytes.NewReader(raw)
	if err := tx.Deserialize(r); err != nil {
		return nil, fmt.Errorf("devnet: read a transaction: %w", err)
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("devnet: %d bytes follow the transaction", r.Len())
	}
	return &tx, nil
}

func txRecord(tx *wire.MsgTx) (record, error) {
	var buf bytes.Buffer
	if err := tx.Serialize(&buf); err != nil {
		return record{}, fmt.Errorf("devnet: serialize a transaction: %w", err)
	}
	return record{kindTx, buf.Bytes()}, nil
}
