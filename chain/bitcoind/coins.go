package bitcoind

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
)

// candidate is an output that pays a script and may be spent.
type candidate struct {
	op     wire.OutPoint
	value  int64
	height uint32 // 0: in the mempool
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
	return nil, said.Unavailable("coins", errMoving)
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
			return said.Failed(err)
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
				now[op] = candidate{op, out.Value, p.height}
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
	return nil, said.Unavailable("history", errMoving)
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
		return chain.TxInfo{}, said.Failed(err)
	}
	return c.located(ctx, r, f.op.Hash)
}
