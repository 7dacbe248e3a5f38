package btcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
)

// Generate mines blocks that pay a script, the first with what the mempool holds, on regtest: btcd's own generate pays
// only the addresses that it was started with. The fees are left to nobody. Errors: ErrConfig elsewhere,
// chain.ErrUnavailable.
func (c *Client) Generate(ctx context.Context, blocks int, pkScript []byte) error {
	if !c.cfg.regtest() {
		return fmt.Errorf("%w: blocks are made on regtest only", ErrConfig)
	}
	for range blocks {
		if err := c.generate(ctx, pkScript); err != nil {
			return err
		}
	}
	return nil
}

// medianBlocks is how many blocks the median time is of.
const medianBlocks = 11

func (c *Client) generate(ctx context.Context, pkScript []byte) error {
	tip, err := c.Tip(ctx)
	if err != nil {
		return err
	}
	top, after, err := c.newest(ctx, tip)
	if err != nil {
		return err
	}
	txs, err := c.waiting(ctx)
	if err != nil {
		return err
	}
	reward, err := c.reward(int32(tip.Height+1), pkScript, txs)
	if err != nil {
		return err
	}
	all := append([]*wire.MsgTx{reward}, txs...)
	b := wire.NewMsgBlock(&wire.BlockHeader{Version: 0x20000000, PrevBlock: tip.Hash, MerkleRoot: root(all, false),
		Timestamp: after, Bits: top.Bits})
	b.Transactions = all
	target := blockchain.CompactToBig(top.Bits)
	for hash := b.BlockHash(); blockchain.HashToBig(&hash).Cmp(target) > 0; hash = b.BlockHash() {
		b.Header.Nonce++
	}
	var buf bytes.Buffer
	if err := b.Serialize(&buf); err != nil {
		return fmt.Errorf("btcd: serialize a block: %w", err)
	}
	var refused *string
	if err := c.rpc.call(ctx, &refused, "submitblock", hex.EncodeToString(buf.Bytes())); err != nil {
		return said.Failed(err)
	}
	if refused != nil {
		return nonsense("submitblock: %s", clip(*refused))
	}
	c.pool.moved.Store(true)
	return nil
}

// newest is the tip's header, and the time of a block on it: now, or as soon after the median as is allowed.
func (c *Client) newest(ctx context.Context, tip chain.Tip) (top wire.BlockHeader, after time.Time, err error) {
	var times []int64
	hash := tip.Hash
	for i := range medianBlocks {
		h, err := c.header(ctx, hash)
		if err != nil {
			return top, after, err
		}
		if i == 0 {
			top = h
		}
		times = append(times, h.Timestamp.Unix())
		if hash = h.PrevBlock; hash == (chainhash.Hash{}) {
			break
		}
	}
	slices.Sort(times)
	return top, time.Unix(max(c.cfg.Now().Unix(), times[len(times)/2]+1), 0), nil
}

// waiting are the mempool's transactions, each after those that it spends from.
func (c *Client) waiting(ctx context.Context) (all []*wire.MsgTx, err error) {
	var ids []string
	if err := c.rpc.call(ctx, &ids, "getrawmempool"); err != nil {
		return nil, said.Failed(err)
	}
	left := map[chainhash.Hash]*wire.MsgTx{}
	for _, text := range ids {
		id, err := parseHash(text)
		if err != nil {
			return nil, err
		}
		var raw string
		if err := c.rpc.call(ctx, &raw, "getrawtransaction", text, 0); isCode(err, codeNotFound) {
			continue // it has left the mempool
		} else if err != nil {
			return nil, said.Failed(err)
		}
		if left[id], err = decode(raw, id); err != nil {
			return nil, err
		}
	}
	for len(left) > 0 {
		before := len(left)
		for id, tx := range left {
			if !slices.ContainsFunc(tx.TxIn, func(in *wire.TxIn) bool { return left[in.PreviousOutPoint.Hash] != nil }) {
				all = append(all, tx)
				delete(left, id)
			}
		}
		if len(left) == before {
			return nil, nonsense("the mempool's transactions spend each other in a circle")
		}
	}
	return all, nil
}

// reward is the first transaction of a block, which commits to the witnesses of the others.
func (c *Client) reward(height int32, pkScript []byte, txs []*wire.MsgTx) (*wire.MsgTx, error) {
	// The time makes two blocks at one height differ.
	note, err := txscript.NewScriptBuilder().AddInt64(int64(height)).AddData(binary.BigEndian.AppendUint64(nil, uint64(c.cfg.Now().UnixNano()))).Script()
	if err != nil {
		return nil, fmt.Errorf("btcd: a block reward: %w", err)
	}
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Index: wire.MaxPrevOutIndex}, SignatureScript: note,
		Sequence: wire.MaxTxInSequenceNum, Witness: wire.TxWitness{make([]byte, 32)}})
	tx.AddTxOut(wire.NewTxOut(blockchain.CalcBlockSubsidy(height, c.cfg.Network), pkScript))
	witnesses := root(append([]*wire.MsgTx{tx}, txs...), true)
	commitment := chainhash.DoubleHashB(append(witnesses[:], make([]byte, 32)...))
	tx.AddTxOut(wire.NewTxOut(0, append(slices.Clone(blockchain.WitnessMagicBytes), commitment...)))
	return tx, nil
}

func root(txs []*wire.MsgTx, witness bool) chainhash.Hash {
	all := make([]*btcutil.Tx, len(txs))
	for i, tx := range txs {
		all[i] = btcutil.NewTx(tx)
	}
	return blockchain.CalcMerkleRoot(all, witness)
}
