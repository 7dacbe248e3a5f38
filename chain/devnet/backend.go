package devnet

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

// Tip implements chain.Backend.
func (n *Node) Tip(ctx context.Context) (tip chain.Tip, err error) {
	err = n.read(ctx, func() error {
		b := n.idx.tip()
		tip = chain.Tip{Height: b.height, Hash: b.hash, Time: b.msg.Header.Timestamp}
		return nil
	})
	return tip, err
}

// BlockHash implements chain.Backend.
func (n *Node) BlockHash(ctx context.Context, height uint32) (hash chainhash.Hash, err error) {
	err = n.read(ctx, func() error {
		if uint64(height) >= uint64(len(n.idx.main)) {
			return fmt.Errorf("%w: no block at height %d, the tip is %d", chain.ErrNotFound, height, len(n.idx.main)-1)
		}
		hash = n.idx.main[height].hash
		return nil
	})
	return hash, err
}

// Tx implements chain.Backend.
func (n *Node) Tx(ctx context.Context, txid chainhash.Hash) (info chain.TxInfo, err error) {
	err = n.read(ctx, func() error {
		e, ok := n.idx.txs[txid]
		if !ok {
			return fmt.Errorf("%w: transaction %s", chain.ErrNotFound, txid)
		}
		info = e.info()
		return nil
	})
	return info, err
}

// Spend implements chain.Backend.
func (n *Node) Spend(ctx context.Context, op wire.OutPoint) (spend *chain.Spend, err error) {
	err = n.read(ctx, func() error {
		if s, ok := n.idx.spends[op]; ok {
			spend = &chain.Spend{Txid: s.by.id, Vin: s.vin}
			if s.by.confirmed() {
				spend.Confirmed, spend.Height = true, s.by.block.height
			}
		}
		return nil
	})
	return spend, err
}

// UTXOs implements chain.Backend.
func (n *Node) UTXOs(ctx context.Context, pkScript []byte) (all []chain.UTXO, err error) {
	err = n.read(ctx, func() error {
		for _, c := range n.idx.coins(sha256.Sum256(pkScript)) {
			u := chain.UTXO{Outpoint: c.op, Value: c.out.Value, PkScript: bytes.Clone(c.out.PkScript)}
			if c.e.confirmed() {
				u.Confirmed, u.Height = true, c.e.block.height
			}
			all = append(all, u)
		}
		return nil
	})
	return all, err
}

// History implements chain.Backend.
func (n *Node) History(ctx context.Context, pkScript []byte) (all []chain.TxInfo, err error) {
	err = n.read(ctx, func() error {
		for _, e := range n.idx.history(sha256.Sum256(pkScript)) {
			all = append(all, e.info())
		}
		return nil
	})
	return all, err
}

// Broadcast implements chain.Backend. With Config.MineOnTx the transaction is in a block when this returns.
func (n *Node) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	return n.write(ctx, func() ([]record, error) {
		if _, known := n.idx.txs[tx.TxHash()]; known {
			return nil, nil
		}
		return n.submit(tx.Copy())
	})
}

// submit takes a new transaction and mines it where that is configured.
func (n *Node) submit(tx *wire.MsgTx) (frame []record, err error) {
	r, err := txRecord(tx)
	if err != nil {
		return nil, &chain.RejectError{Reason: err.Error()}
	}
	if err := n.accept(tx); err != nil {
		return nil, err
	}
	frame = append(frame, r)
	if !n.cfg.MineOnTx {
		return frame, nil
	}
	if r, err = n.mineOne(); err != nil {
		return frame, err
	}
	return append(frame, r), nil
}

// accept gives a transaction to the mempool and the index. Errors: *chain.RejectError.
func (n *Node) accept(tx *wire.MsgTx) error {
	var conflicts []*entry
	for _, in := range tx.TxIn {
		if s, ok := n.idx.spends[in.PreviousOutPoint]; ok && !s.by.confirmed() {
			conflicts = append(conflicts, s.by)
		}
	}
	if _, err := n.pool.ProcessTransaction(btcutil.NewTx(tx), false, true, 0); err != nil {
		return &chain.RejectError{Reason: reason(err)}
	}
	for _, c := range conflicts {
		for _, e := range n.idx.evict(c) {
			n.log.Info("devnet: a transaction is replaced", "txid", e.id, "by", tx.TxHash())
		}
	}
	n.idx.accept(tx)
	return nil
}

// SetFeeRate sets the least rate that FeeRate answers, to act out a fee market; 0 goes back to what the mempool
// alone says. It is not kept across a restart.
func (n *Node) SetFeeRate(rate script.FeeRate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fee = rate
}

// FeeRate implements chain.Backend: what it takes to be among the next so many full blocks of the present mempool.
func (n *Node) FeeRate(ctx context.Context, blocks int) (rate script.FeeRate, err error) {
	err = n.read(ctx, func() error {
		rate = n.estimate(blocks, n.byRate())
		return nil
	})
	return rate, err
}

// byRate lists the mempool with the dearest first.
func (n *Node) byRate() []*entry {
	all := n.idx.mempool()
	slices.SortStableFunc(all, func(a, b *entry) int { return cmp.Compare(b.rate(), a.rate()) })
	return all
}

func (n *Node) estimate(blocks int, dearest []*entry) script.FeeRate {
	room := int64(chain.ClampTarget(blocks)) * (blockchain.MaxBlockWeight - 4_000)
	rate := n.fee
	for _, e := range dearest {
		if room -= e.weight(); room < 0 {
			rate = max(rate, script.FeeRate(e.rate()+1))
			break
		}
	}
	return chain.ClampFeeRate(rate)
}

// Capabilities implements chain.Backend.
func (n *Node) Capabilities() chain.Capabilities {
	return chain.Capabilities{Mempool: true, FeeEstimates: true, RejectReasons: true}
}
