package bitcoind

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
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
		return info, failed(err)
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
			return info, failed(err)
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
			return info, failed(err)
		}
		var r rawTx
		switch err := c.rpc.call(ctx, &r, "getrawtransaction", txid.String(), 1, hash.String()); {
		case isCode(err, codeMisc):
			return info, fmt.Errorf("%w: %w: transaction %s in block %d: %w", chain.ErrUnavailable, ErrBeyond, txid, height, err)
		case isCode(err, codeNotFound):
			continue // a reorg came between
		case err != nil:
			return info, failed(err)
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
	return out != nil, failed(err)
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
	return nil, 0, unavailable("spend", errMoving)
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
		return nil, failed(err)
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

// candidate is an output that pays a script and may be spent.
type candidate struct {
	op     wire.OutPoint
	value  int64
	height uint32 // 0: in the mempool
	hash   chainhash.Hash
	pos    int
}

// UTXOs implements chain.Backend.
func (c *Client) UTXOs(ctx context.Context, pkScript []byte) ([]chain.UTXO, error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return nil, err
	}
	give, err := c.take(ctx)
	if err != nil {
		return nil, err
	}
	defer give()
	for range 5 {
		found, err := c.candidates(ctx, pkScript)
		if err != nil {
			return nil, err
		}
		all, err := c.unspent(ctx, pkScript, found)
		if err != nil {
			return nil, err
		}
		tip, err := c.Tip(ctx)
		if err != nil {
			return nil, err
		}
		if _, was := c.win.tip(); was == tip.Hash {
			return all, nil
		}
	}
	return nil, unavailable("coins", errMoving)
}

// unspent keeps the candidates that neither a block nor the mempool spends.
func (c *Client) unspent(ctx context.Context, pkScript []byte, found []candidate) ([]chain.UTXO, error) {
	asks := make([][]any, len(found))
	for i, f := range found {
		asks[i] = []any{f.op.Hash.String(), f.op.Index, true}
	}
	kept := make([]*chain.UTXO, len(found))
	want := hex.EncodeToString(pkScript)
	err := c.rpc.batch(ctx, "gettxout", asks, func(i int, a response) error {
		var out *txOut
		if err := a.read("gettxout", &out); err != nil {
			return failed(err)
		}
		if out == nil {
			return nil
		}
		value, err := sat(out.Value)
		if err != nil {
			return err
		}
		if f := found[i]; value != f.value || out.Script.Hex != want {
			return nonsense("%s holds %d sat, not %d, or belongs to another script", f.op, value, f.value)
		}
		u := chain.UTXO{Outpoint: found[i].op, Value: value, PkScript: bytes.Clone(pkScript)}
		if u.Confirmed = out.Confirmations > 0; u.Confirmed {
			u.Height = found[i].height
		}
		if u.Confirmed && u.Height == 0 { // mined since: the next look has its block
			return nil
		}
		kept[i] = &u
		return nil
	})
	all := make([]chain.UTXO, 0, len(found))
	for _, u := range kept {
		if u != nil {
			all = append(all, *u)
		}
	}
	return all, err
}

// candidates are the outputs that pay a script: confirmed ones by height, then those in the mempool.
func (c *Client) candidates(ctx context.Context, pkScript []byte) ([]candidate, error) {
	if err := c.sync(ctx); err != nil {
		return nil, err
	}
	if err := c.findOld(ctx, pkScript); err != nil {
		return nil, err
	}
	known := c.coins[string(pkScript)]
	if known == nil {
		known = map[wire.OutPoint]candidate{}
		c.coins[string(pkScript)] = known
	}
	now := map[wire.OutPoint]candidate{}
	err := c.search(ctx, c.win.paid(pkScript), 0, pays(pkScript), func(p place) bool {
		id := p.tx.TxHash()
		for i, out := range p.tx.TxOut {
			if bytes.Equal(out.PkScript, pkScript) {
				op := wire.OutPoint{Hash: id, Index: uint32(i)}
				now[op] = candidate{op, out.Value, p.height, p.hash, i}
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for op, k := range known { // of blocks that have left the window; what a reorg undid is not among them
		if _, again := now[op]; !again && k.height < c.win.base {
			now[op] = k
		}
	}
	c.coins[string(pkScript)] = now
	all := make([]candidate, 0, len(now))
	for _, k := range now {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.height, b.height), bytes.Compare(a.op.Hash[:], b.op.Hash[:]), cmp.Compare(a.op.Index, b.op.Index))
	})
	pending, err := c.pendingTo(ctx, pkScript)
	if err != nil {
		return nil, err
	}
	for _, tx := range pending {
		id := tx.TxHash()
		for i, out := range tx.TxOut {
			op := wire.OutPoint{Hash: id, Index: uint32(i)}
			if _, mined := now[op]; !mined && bytes.Equal(out.PkScript, pkScript) {
				all = append(all, candidate{op: op, value: out.Value})
			}
		}
	}
	return all, nil
}

func pays(pkScript []byte) func(*wire.MsgTx) bool {
	return func(tx *wire.MsgTx) bool {
		return slices.ContainsFunc(tx.TxOut, func(out *wire.TxOut) bool { return bytes.Equal(out.PkScript, pkScript) })
	}
}

// History implements chain.Backend: what the window and the mempool hold, and of what is older what still has coins
// and was not pruned.
func (c *Client) History(ctx context.Context, pkScript []byte) ([]chain.TxInfo, error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return nil, err
	}
	give, err := c.take(ctx)
	if err != nil {
		return nil, err
	}
	defer give()
	for range 5 {
		all, err := c.history(ctx, pkScript)
		if err != nil {
			return nil, err
		}
		tip, err := c.Tip(ctx)
		if err != nil {
			return nil, err
		}
		if _, was := c.win.tip(); was == tip.Hash {
			return all, nil
		}
	}
	return nil, unavailable("history", errMoving)
}

func (c *Client) history(ctx context.Context, pkScript []byte) ([]chain.TxInfo, error) {
	found, err := c.candidates(ctx, pkScript)
	if err != nil {
		return nil, err
	}
	infos := map[chainhash.Hash]chain.TxInfo{}
	for _, f := range found {
		if _, ok := infos[f.op.Hash]; !ok {
			info, err := c.known(ctx, f)
			if errors.Is(err, chain.ErrNotFound) || errors.Is(err, ErrBeyond) {
				continue
			}
			if err != nil {
				return nil, err
			}
			infos[f.op.Hash] = info
		}
		by, _, err := c.spender(ctx, f.op)
		if err != nil {
			return nil, err
		}
		if by != nil {
			infos[by.Tx.TxHash()] = *by
		}
	}
	all := make([]chain.TxInfo, 0, len(infos))
	for _, i := range infos {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b chain.TxInfo) int {
		if a.Confirmed != b.Confirmed {
			if a.Confirmed {
				return 1
			}
			return -1
		}
		x, y := a.Tx.TxHash(), b.Tx.TxHash()
		return cmp.Or(cmp.Compare(b.Height, a.Height), bytes.Compare(x[:], y[:]))
	})
	return all, nil
}

// known is the transaction of a candidate. Errors: chain.ErrNotFound, ErrBeyond.
func (c *Client) known(ctx context.Context, f candidate) (chain.TxInfo, error) {
	switch {
	case f.height == 0:
		return c.quickly(ctx, f.op.Hash)
	case f.height >= c.win.base:
		p, err := c.inWindow(ctx, f.op.Hash)
		if err != nil || p == nil {
			return chain.TxInfo{}, cmp.Or(err, error(chain.ErrNotFound))
		}
		return p.info(), nil
	}
	hash, err := c.BlockHash(ctx, f.height)
	if err != nil {
		return chain.TxInfo{}, err
	}
	var r rawTx
	switch err := c.rpc.call(ctx, &r, "getrawtransaction", f.op.Hash.String(), 1, hash.String()); {
	case isCode(err, codeMisc):
		return chain.TxInfo{}, fmt.Errorf("%w: block %d", ErrBeyond, f.height)
	case isCode(err, codeNotFound):
		return chain.TxInfo{}, chain.ErrNotFound
	case err != nil:
		return chain.TxInfo{}, failed(err)
	}
	return c.located(ctx, r, f.op.Hash)
}
