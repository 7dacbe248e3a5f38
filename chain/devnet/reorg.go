package devnet

import (
	"context"
	"fmt"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// ReorgOptions describes a reorg.
type ReorgOptions struct {
	// Depth is how many blocks are undone, at least 1.
	Depth int
	// Length is how many blocks the new branch has, more than Depth: only a branch with more work wins.
	Length int
	// Drop names transactions that do not return to the mempool, as if nobody sent them again. What spends from
	// them goes too.
	Drop []chainhash.Hash
	// Mine are transactions in the new branch's first block, parents before children: one that spends what an
	// undone transaction spent replaces it for good.
	Mine []*wire.MsgTx
}

// Reorg undoes depth blocks and builds a branch of newLen blocks instead. What was in the undone blocks returns to
// the mempool where it is still valid. Errors: ErrRange, chain.ErrUnavailable.
func (n *Node) Reorg(depth, newLen int) error {
	_, err := n.ReorgWith(ReorgOptions{Depth: depth, Length: newLen})
	return err
}

// ReorgWith is Reorg with a say in what becomes of the transactions; it returns the new branch's hashes. The whole
// reorg is durable at once. Errors: ErrRange, ErrBlock, chain.ErrUnavailable.
func (n *Node) ReorgWith(o ReorgOptions) (hashes []chainhash.Hash, err error) {
	err = n.write(context.Background(), func() ([]record, error) {
		tip := n.idx.tip()
		if o.Depth < 1 || uint64(o.Depth) > uint64(tip.height) {
			return nil, fmt.Errorf("%w: %d blocks can't be undone at height %d", ErrRange, o.Depth, tip.height)
		}
		if o.Length <= o.Depth || o.Length > maxMine {
			return nil, fmt.Errorf("%w: a branch of %d blocks does not replace %d", ErrRange, o.Length, o.Depth)
		}
		frame, err := n.branch(n.idx.main[int(tip.height)-o.Depth], o)
		if err != nil {
			return nil, err
		}
		if err := n.apply(frame); err != nil {
			if n.idx.tip() != tip {
				n.fail(err) // half of the reorg happened and none of it is in the journal
			}
			return nil, err
		}
		for _, b := range n.idx.main[int(tip.height)-o.Depth+1:] {
			hashes = append(hashes, b.hash)
		}
		return frame, nil
	})
	return hashes, err
}

// branch makes the records of a reorg onto a parent.
func (n *Node) branch(parent *block, o ReorgOptions) (frame []record, err error) {
	for _, h := range o.Drop {
		frame = append(frame, record{kindDrop, h[:]})
	}
	outputs := map[chainhash.Hash]*wire.MsgTx{}
	past := append([]*block{}, n.idx.main[:parent.height+1]...)
	for i := range o.Length {
		var txs []*wire.MsgTx
		if i == 0 {
			txs = o.Mine
		}
		msg, err := n.assemble(past[len(past)-1], txs, outputs)
		if err != nil {
			return nil, err
		}
		b := &block{hash: msg.BlockHash(), height: uint32(len(past)), msg: msg}
		past = append(past, b)
		b.median = medianTime(past)
		r, err := blockRecord(msg)
		if err != nil {
			return nil, err
		}
		frame = append(frame, r)
	}
	return frame, nil
}

// undone is what a reorg in progress has taken out of blocks and mempool.
type undone struct {
	active bool
	txs    []*wire.MsgTx // of undone blocks, oldest first
	pool   []*wire.MsgTx // of the mempool, in the order of arrival
}

// begin empties the mempool before the first block is undone.
func (u *undone) begin(n *Node) {
	if u.active {
		return
	}
	u.active = true
	for _, e := range n.idx.mempool() {
		u.pool = append(u.pool, e.tx)
	}
	for _, tx := range u.pool {
		if e, ok := n.idx.pending[tx.TxHash()]; ok {
			n.idx.evict(e)
		}
		n.pool.RemoveTransaction(btcutil.NewTx(tx), true)
	}
}

// refill gives the mempool back what a reorg took, where it is still valid and not to be dropped.
func (n *Node) refill(drop map[chainhash.Hash]bool) {
	u := n.undone
	n.undone = undone{}
	for _, tx := range append(u.txs, u.pool...) {
		id := tx.TxHash()
		if _, known := n.idx.txs[id]; known {
			continue
		}
		if drop[id] {
			n.log.Info("devnet: a transaction is dropped by the reorg", "txid", id)
			continue
		}
		if err := n.restore(tx); err != nil {
			n.log.Info("devnet: a transaction does not survive the reorg", "txid", id, "reason", err)
		}
	}
}

// restore takes a transaction back into the mempool. Its fee was accepted once and is not judged again.
func (n *Node) restore(tx *wire.MsgTx) error {
	missing, _, err := n.pool.MaybeAcceptTransaction(btcutil.NewTx(tx), false, false)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("devnet: it spends from %s, which is unknown or spent", missing[0])
	}
	n.idx.accept(tx)
	return nil
}
