package bitcoind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
)

// rawTx is what is asked of getrawtransaction.
type rawTx struct {
	Hex           string `json:"hex"`
	BlockHash     string `json:"blockhash"`
	Confirmations int64  `json:"confirmations"`
}

// Tx implements chain.Backend. Without -txindex a confirmed transaction is found in the window, and before it while
// one of its first outputs is unspent.
func (c *Client) Tx(ctx context.Context, txid chainhash.Hash) (info chain.TxInfo, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return info, err
	}
	if info, err = c.atOnce(ctx, txid); err == nil || !errors.Is(err, chain.ErrNotFound) {
		return info, err
	}
	give, err := c.take(ctx)
	if err != nil {
		return info, err
	}
	defer give()
	for range 3 {
		if err := c.sync(ctx); err != nil {
			return info, err
		}
		if p, err := c.inWindow(ctx, txid); err != nil {
			return info, err
		} else if p != nil {
			return p.info(), nil
		}
		// It may have gone from the mempool into a block, or back, between two of these questions.
		if info, err = c.atOnce(ctx, txid); err == nil || !errors.Is(err, chain.ErrNotFound) {
			return info, err
		}
		tip, err := c.Tip(ctx)
		if err != nil {
			return info, err
		}
		if _, was := c.win.tip(); was == tip.Hash {
			break
		}
	}
	return info, fmt.Errorf("%w: transaction %s", chain.ErrNotFound, txid)
}

// atOnce finds a transaction without reading blocks: in the mempool, in the node's index, or by an output that is
// unspent, as that of an open channel is. Errors: chain.ErrNotFound, ErrBeyond.
func (c *Client) atOnce(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error) {
	info, err := c.quickly(ctx, txid)
	if errors.Is(err, chain.ErrNotFound) {
		info, err = c.byCoin(ctx, txid)
	}
	return info, err
}

// quickly finds what is in the mempool or in the node's index of transactions. Errors: chain.ErrNotFound.
func (c *Client) quickly(ctx context.Context, txid chainhash.Hash) (info chain.TxInfo, err error) {
	var r rawTx
	err = c.rpc.call(ctx, &r, "getrawtransaction", txid.String(), 1)
	if isCode(err, codeNotFound) {
		return info, fmt.Errorf("%w: transaction %s", chain.ErrNotFound, txid)
	}
	if err != nil {
		return info, said.Failed(err)
	}
	return c.located(ctx, r, txid)
}

// located reads a transaction and the place of its block.
func (c *Client) located(ctx context.Context, r rawTx, txid chainhash.Hash) (info chain.TxInfo, err error) {
	if info.Tx, err = decode(r.Hex, txid); err != nil || r.BlockHash == "" {
		return info, err
	}
	if r.Confirmations < 1 { // the index keeps what a reorg has undone
		return chain.TxInfo{}, fmt.Errorf("%w: transaction %s", chain.ErrNotFound, txid)
	}
	if info.BlockHash, err = parseHash(r.BlockHash); err != nil {
		return info, err
	}
	tip, err := c.header(ctx, info.BlockHash)
	info.Confirmed, info.Height = true, tip.Height
	return info, err
}

// inWindow finds a transaction in the window; nil: it is not there.
func (c *Client) inWindow(ctx context.Context, txid chainhash.Hash) (found *place, err error) {
	err = c.search(ctx, c.win.txid(txid), 0, func(tx *wire.MsgTx) bool { return tx.TxHash() == txid }, func(p place) bool {
		found = &p
		return false
	})
	return found, err
}

// txOut is what is asked of gettxout.
type txOut struct {
	Best          string      `json:"bestblock"`
	Confirmations int64       `json:"confirmations"`
	Value         json.Number `json:"value"`
	Script        struct {
		Hex string `json:"hex"`
	} `json:"scriptPubKey"`
}

// firstOutputs is how many of a transaction's outputs are tried to find it by one that is unspent.
const firstOutputs = 4

// byCoin finds a transaction in a block by one of its outputs. Errors: chain.ErrNotFound, ErrBeyond where the node has
// pruned the block.
func (c *Client) byCoin(ctx context.Context, txid chainhash.Hash) (info chain.TxInfo, err error) {
	for i := range firstOutputs {
		var out *txOut
		if err := c.rpc.call(ctx, &out, "gettxout", txid.String(), i, false); err != nil {
			return info, said.Failed(err)
		}
		if out == nil || out.Confirmations < 1 {
			continue
		}
		best, err := parseHash(out.Best)
		if err != nil {
			return info, err
		}
		tip, err := c.header(ctx, best)
		if err != nil {
			return info, err
		}
		height := int64(tip.Height) - out.Confirmations + 1
		if height < 0 {
			return info, nonsense("%s has more confirmations than there are blocks", txid)
		}
		hash, err := c.BlockHash(ctx, uint32(height))
		if err != nil {
			return info, said.Failed(err)
		}
		var r rawTx
		switch err := c.rpc.call(ctx, &r, "getrawtransaction", txid.String(), 1, hash.String()); {
		case isCode(err, codeMisc):
			return info, fmt.Errorf("%w: %w: transaction %s in block %d: %w", chain.ErrUnavailable, ErrBeyond, txid, height, err)
		case isCode(err, codeNotFound):
			continue // a reorg came between
		case err != nil:
			return info, said.Failed(err)
		}
		return c.located(ctx, r, txid)
	}
	return info, fmt.Errorf("%w: transaction %s", chain.ErrNotFound, txid)
}

// Spend implements chain.Backend. What a block before the window spends is ErrBeyond where the node can tell that the
// output ever was: by its index of transactions, or by another output of its transaction that is unspent. Without
// either it is told as unknown.
func (c *Client) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return nil, err
	}
	if there, err := c.unspentNow(ctx, op); there || err != nil {
		return nil, err
	}
	give, err := c.take(ctx)
	if err != nil {
		return nil, err
	}
	defer give()
	info, vin, err := c.spender(ctx, op)
	if err != nil || info == nil {
		return nil, err
	}
	return &chain.Spend{Txid: info.Tx.TxHash(), Vin: vin, Confirmed: info.Confirmed, Height: info.Height}, nil
}

// unspentNow reports whether an output is there and neither a block nor the mempool spends it.
func (c *Client) unspentNow(ctx context.Context, op wire.OutPoint) (bool, error) {
	var out *txOut
	err := c.rpc.call(ctx, &out, "gettxout", op.Hash.String(), op.Index, true)
	return out != nil, said.Failed(err)
}

// spender finds the transaction that spends an output; nil: none does, or the output is unknown.
func (c *Client) spender(ctx context.Context, op wire.OutPoint) (*chain.TxInfo, uint32, error) {
	for range 5 {
		if there, err := c.unspentNow(ctx, op); there || err != nil {
			return nil, 0, err
		}
		info, err := c.mempoolSpender(ctx, op)
		if err != nil {
			return nil, 0, err
		}
		if info == nil {
			if err := c.sync(ctx); err != nil {
				return nil, 0, err
			}
			if info, err = c.blockSpender(ctx, op); err != nil {
				return nil, 0, err
			}
		}
		if info != nil {
			for i, in := range info.Tx.TxIn {
				if in.PreviousOutPoint == op {
					return info, uint32(i), nil
				}
			}
			return nil, 0, nonsense("%s does not spend %s", info.Tx.TxHash(), op)
		}
		if same, err := c.stillNobody(ctx, op); same || err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, said.Unavailable("spend", errMoving)
}

// stillNobody reports whether an output that nothing was found to spend is unknown, and the chain is where it was.
func (c *Client) stillNobody(ctx context.Context, op wire.OutPoint) (bool, error) {
	tip, err := c.Tip(ctx)
	if err != nil {
		return false, err
	}
	if _, was := c.win.tip(); was != tip.Hash {
		return false, nil
	}
	if info, err := c.mempoolSpender(ctx, op); err != nil || info != nil {
		return false, err
	}
	if c.win.base == 0 {
		return true, nil
	}
	info, err := c.atOnce(ctx, op.Hash)
	switch {
	case errors.Is(err, chain.ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	case info.Confirmed && info.Height < c.win.base && op.Index < uint32(len(info.Tx.TxOut)):
		return false, fmt.Errorf("%w: %w: %s was spent before block %d", chain.ErrUnavailable, ErrBeyond, op, c.win.base)
	}
	return true, nil
}

// mempoolSpender is the unconfirmed transaction that spends an output; nil: none does.
func (c *Client) mempoolSpender(ctx context.Context, op wire.OutPoint) (*chain.TxInfo, error) {
	ask := []map[string]any{{"txid": op.Hash.String(), "vout": op.Index}}
	var answer []struct {
		Spender string `json:"spendingtxid"`
	}
	if err := c.rpc.call(ctx, &answer, "gettxspendingprevout", ask); err != nil {
		return nil, said.Failed(err)
	}
	if len(answer) != 1 {
		return nil, nonsense("gettxspendingprevout: %d answers to one question", len(answer))
	}
	if answer[0].Spender == "" {
		return nil, nil
	}
	txid, err := parseHash(answer[0].Spender)
	if err != nil {
		return nil, err
	}
	info, err := c.quickly(ctx, txid)
	if errors.Is(err, chain.ErrNotFound) {
		return nil, nil // it has left the mempool meanwhile; the blocks know
	}
	return &info, err
}

func (c *Client) blockSpender(ctx context.Context, op wire.OutPoint) (found *chain.TxInfo, err error) {
	err = c.search(ctx, c.win.spent(op), 0, func(tx *wire.MsgTx) bool {
		return slices.ContainsFunc(tx.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == op })
	}, func(p place) bool {
		info := p.info()
		found = &info
		return false
	})
	return found, err
}
