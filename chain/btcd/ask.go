package btcd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
	"github.com/spillway/spillway/chain/internal/scan"
)

// errNoIndex says that the node has no index of transactions.
var errNoIndex = errors.New("btcd: no index of transactions")

// Tx implements chain.Backend. Without --txindex a confirmed transaction is found by one of its first outputs while
// that is unspent, or by a script that it pays or spends and that was asked about or hinted at.
func (c *Client) Tx(ctx context.Context, txid chainhash.Hash) (info chain.TxInfo, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return info, err
	}
	info, err = c.quickly(ctx, txid)
	if !errors.Is(err, errNoIndex) {
		return info, err
	}
	err = c.scan.At(ctx, func(v scan.View) error {
		info, err = c.txAt(ctx, v, txid)
		return err
	})
	return info, err
}

// txAt finds a transaction without the node's index.
func (c *Client) txAt(ctx context.Context, v scan.View, txid chainhash.Hash) (chain.TxInfo, error) {
	if f, ok := v.Tx(txid); ok {
		return f.Info(), nil
	}
	// It may have gone from the mempool into a block, or back, between two of these questions.
	info, err := c.quickly(ctx, txid)
	if !errors.Is(err, errNoIndex) {
		return info, err
	}
	return c.byCoin(ctx, v, txid)
}

// quickly finds what is in the mempool or in the node's index of transactions. Errors: chain.ErrNotFound, errNoIndex.
func (c *Client) quickly(ctx context.Context, txid chainhash.Hash) (info chain.TxInfo, err error) {
	var r struct {
		Hex       string `json:"hex"`
		BlockHash string `json:"blockhash"`
	}
	err = c.rpc.call(ctx, &r, "getrawtransaction", txid.String(), 1)
	switch {
	case isCode(err, codeNotFound) && strings.Contains(err.Error(), "txindex"):
		return info, errNoIndex
	case isCode(err, codeNotFound):
		return info, fmt.Errorf("%w: transaction %s", chain.ErrNotFound, txid)
	case err != nil:
		return info, said.Failed(err)
	}
	if info.Tx, err = decode(r.Hex, txid); err != nil || r.BlockHash == "" {
		return info, err
	}
	if info.BlockHash, err = parseHash(r.BlockHash); err != nil {
		return info, err
	}
	var b struct {
		Height *int64 `json:"height"`
	}
	if err := c.rpc.call(ctx, &b, "getblockheader", r.BlockHash); err != nil {
		return info, said.Failed(err)
	}
	if b.Height == nil || *b.Height < 0 || *b.Height > 1<<31-1 {
		return info, nonsense("block %s has no height", r.BlockHash)
	}
	info.Confirmed, info.Height = true, uint32(*b.Height)
	if hash, err := c.blockHash(ctx, info.Height); err != nil || hash != info.BlockHash {
		return chain.TxInfo{}, fmt.Errorf("%w: transaction %s", chain.ErrNotFound, txid) // a reorg undid it
	}
	return info, nil
}

func decode(text string, txid chainhash.Hash) (*wire.MsgTx, error) {
	tx := wire.NewMsgTx(0)
	if err := tx.Deserialize(hex.NewDecoder(strings.NewReader(text))); err != nil {
		return nil, nonsense("transaction %s: %v", txid, err)
	}
	if tx.TxHash() != txid {
		return nil, nonsense("asked for %s, got %s", txid, tx.TxHash())
	}
	return tx, nil
}

// txOut is what is asked of gettxout.
type txOut struct {
	Best          string `json:"bestblock"`
	Confirmations int64  `json:"confirmations"`
}

// unspent asks the node's set of unspent outputs, with those of the mempool or without; nil: it is not there.
func (c *Client) unspent(ctx context.Context, op wire.OutPoint, mempool bool) (*txOut, error) {
	var out *txOut
	err := c.rpc.call(ctx, &out, "gettxout", op.Hash.String(), op.Index, mempool)
	if isCode(err, codeNotFound) || err != nil && strings.Contains(err.Error(), "does not exist") {
		return nil, nil
	}
	return out, said.Failed(err)
}

// firstOutputs is how many of a transaction's outputs are tried to find it by one that is unspent.
const firstOutputs = 4

// byCoin finds a transaction in a block by one of its outputs. Errors: chain.ErrNotFound.
func (c *Client) byCoin(ctx context.Context, v scan.View, txid chainhash.Hash) (info chain.TxInfo, err error) {
	for i := range uint32(firstOutputs) {
		out, err := c.unspent(ctx, wire.OutPoint{Hash: txid, Index: i}, false)
		if err != nil {
			return info, err
		}
		if out == nil || out.Confirmations < 1 || out.Best != v.Tip.Hash.String() {
			continue
		}
		height := int64(v.Tip.Height) - out.Confirmations + 1
		if height < 0 {
			return info, nonsense("%s has more confirmations than there are blocks", txid)
		}
		hash, err := c.blockHash(ctx, uint32(height))
		if err != nil {
			return info, said.Failed(err)
		}
		block, err := v.Block(ctx, hash)
		if err != nil {
			return info, err
		}
		for _, tx := range block.Transactions {
			if tx.TxHash() == txid {
				for _, out := range tx.TxOut { // so that it is still found when they are spent
					c.scan.Hint(out.PkScript)
				}
				return scan.Found{Tx: tx, Height: uint32(height), Block: hash}.Info(), nil
			}
		}
	}
	return info, fmt.Errorf("%w: transaction %s", chain.ErrNotFound, txid)
}

// Spend implements chain.Backend. What a block spends is found where the transaction of the output is.
func (c *Client) Spend(ctx context.Context, op wire.OutPoint) (spend *chain.Spend, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return nil, err
	}
	if spend, err = c.mempoolSpend(ctx, op); spend != nil || err != nil {
		return spend, err
	}
	if out, err := c.unspent(ctx, op, true); err != nil {
		return nil, err
	} else if out != nil { // unless it was spent between the two questions
		return c.mempoolSpend(ctx, op)
	}
	err = c.scan.At(ctx, func(v scan.View) error {
		spend, err = c.spendAt(ctx, v, op)
		return err
	})
	return spend, err
}

// spendAt finds what spends an output, in a block first.
func (c *Client) spendAt(ctx context.Context, v scan.View, op wire.OutPoint) (*chain.Spend, error) {
	f, vin, spent, known, err := v.Spend(ctx, op, nil)
	if err != nil {
		return nil, err
	}
	if !known {
		parent, err := c.txAt(ctx, v, op.Hash)
		if err != nil && !errors.Is(err, chain.ErrNotFound) {
			return nil, err
		}
		if err == nil && parent.Confirmed {
			at := scan.Found{Tx: parent.Tx, Height: parent.Height, Block: parent.BlockHash}
			if f, vin, spent, _, err = v.Spend(ctx, op, &at); err != nil {
				return nil, err
			}
		}
	}
	if spent {
		return &chain.Spend{Txid: f.Tx.TxHash(), Vin: vin, Confirmed: true, Height: f.Height}, nil
	}
	return c.mempoolSpend(ctx, op)
}

// mempoolSpend is the unconfirmed input that spends an output; nil: none does.
func (c *Client) mempoolSpend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	spends, err := c.mempoolSpends(ctx, op)
	if err != nil || len(spends) == 0 {
		return nil, err
	}
	return &chain.Spend{Txid: spends[0].tx.TxHash(), Vin: spends[0].vin}, nil
}

// spender is an unconfirmed transaction and the input of it that spends an output.
type spender struct {
	op  wire.OutPoint
	tx  *wire.MsgTx
	vin uint32
}

// mempoolSpends are the unconfirmed inputs that spend any of some outputs.
func (c *Client) mempoolSpends(ctx context.Context, ops ...wire.OutPoint) (all []spender, err error) {
	if len(ops) == 0 {
		return nil, nil
	}
	asks := make([]map[string]any, len(ops))
	for i, op := range ops {
		asks[i] = map[string]any{"txid": op.Hash.String(), "vout": op.Index}
	}
	var answers []struct {
		Spender string `json:"spendingtxid"`
	}
	if err := c.rpc.call(ctx, &answers, "gettxspendingprevout", asks); err != nil {
		return nil, said.Failed(err)
	}
	if len(answers) != len(ops) {
		return nil, nonsense("gettxspendingprevout: %d answers to %d questions", len(answers), len(ops))
	}
	for i, a := range answers {
		if a.Spender == "" {
			continue
		}
		txid, err := parseHash(a.Spender)
		if err != nil {
			return nil, err
		}
		info, err := c.quickly(ctx, txid)
		if errors.Is(err, chain.ErrNotFound) || errors.Is(err, errNoIndex) || err == nil && info.Confirmed {
			continue // it has left the mempool meanwhile; the blocks know
		}
		if err != nil {
			return nil, err
		}
		vin := slices.IndexFunc(info.Tx.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == ops[i] })
		if vin < 0 {
			return nil, nonsense("%s does not spend %s", txid, ops[i])
		}
		all = append(all, spender{ops[i], info.Tx, uint32(vin)})
	}
	return all, nil
}

// UTXOs implements chain.Backend.
func (c *Client) UTXOs(ctx context.Context, pkScript []byte) (all []chain.UTXO, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return nil, err
	}
	err = c.scan.At(ctx, func(v scan.View) error {
		if all, err = v.Coins(ctx, pkScript); err != nil {
			return err
		}
		pending, err := c.pendingTo(ctx, v, pkScript)
		if err != nil {
			return err
		}
		for _, tx := range pending {
			all = append(all, paid(tx, pkScript)...)
		}
		spends, err := c.mempoolSpends(ctx, outpoints(all)...)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(u chain.UTXO) bool {
			return slices.ContainsFunc(spends, func(s spender) bool { return s.op == u.Outpoint })
		})
		return nil
	})
	return all, err
}

func outpoints(coins []chain.UTXO) []wire.OutPoint {
	all := make([]wire.OutPoint, len(coins))
	for i, u := range coins {
		all[i] = u.Outpoint
	}
	return all
}

// paid are the outputs of an unconfirmed transaction that pay a script.
func paid(tx *wire.MsgTx, pkScript []byte) (all []chain.UTXO) {
	for i, out := range tx.TxOut {
		if bytes.Equal(out.PkScript, pkScript) {
			all = append(all, chain.UTXO{Outpoint: wire.OutPoint{Hash: tx.TxHash(), Index: uint32(i)}, Value: out.Value, PkScript: bytes.Clone(pkScript)})
		}
	}
	return all
}

// History implements chain.Backend: what the blocks that are looked through and the mempool hold.
func (c *Client) History(ctx context.Context, pkScript []byte) (all []chain.TxInfo, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return nil, err
	}
	err = c.scan.At(ctx, func(v scan.View) error {
		found, err := v.History(ctx, pkScript)
		if err != nil {
			return err
		}
		coins, err := v.Coins(ctx, pkScript)
		if err != nil {
			return err
		}
		pending, err := c.pendingTo(ctx, v, pkScript)
		if err != nil {
			return err
		}
		waiting := map[chainhash.Hash]*wire.MsgTx{}
		for _, tx := range pending {
			waiting[tx.TxHash()] = tx
			coins = append(coins, paid(tx, pkScript)...)
		}
		spends, err := c.mempoolSpends(ctx, outpoints(coins)...)
		if err != nil {
			return err
		}
		for _, s := range spends {
			waiting[s.tx.TxHash()] = s.tx
		}
		all = all[:0]
		for _, tx := range waiting {
			all = append(all, chain.TxInfo{Tx: tx})
		}
		slices.SortFunc(all, func(a, b chain.TxInfo) int {
			x, y := a.Tx.TxHash(), b.Tx.TxHash()
			return bytes.Compare(x[:], y[:])
		})
		for _, f := range found {
			all = append(all, f.Info())
		}
		return nil
	})
	return all, err
}
