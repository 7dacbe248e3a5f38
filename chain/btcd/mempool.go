package btcd

import (
	"context"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain/internal/said"
	"github.com/spillway/spillway/chain/internal/scan"
)

// mempool finds unconfirmed transactions by the scripts that they pay, which it keeps as hashes that are seeded by
// the process. It is used within the scanner's questions, one at a time.
type mempool struct {
	seed   maphash.Seed
	looked time.Time
	begun  bool
	moved  atomic.Bool                            // something was sent since the last look
	txs    map[chainhash.Hash][]uint64            // the scripts that each pays
	paid   map[uint64]map[chainhash.Hash]struct{} // the other way round
}

func newMempool() mempool {
	return mempool{seed: maphash.MakeSeed(), txs: map[chainhash.Hash][]uint64{}, paid: map[uint64]map[chainhash.Hash]struct{}{}}
}

func (m *mempool) item(pkScript []byte) uint64 { return maphash.Bytes(m.seed, pkScript) }

func (m *mempool) add(tx *wire.MsgTx) {
	id := tx.TxHash()
	for _, out := range tx.TxOut {
		item := m.item(out.PkScript)
		if m.paid[item] == nil {
			m.paid[item] = map[chainhash.Hash]struct{}{}
		}
		m.paid[item][id] = struct{}{}
		m.txs[id] = append(m.txs[id], item)
	}
}

func (m *mempool) remove(id chainhash.Hash) {
	for _, item := range m.txs[id] {
		if delete(m.paid[item], id); len(m.paid[item]) == 0 {
			delete(m.paid, item)
		}
	}
	delete(m.txs, id)
}

// lookAtMempool brings the mempool up to now, unless it was done a moment ago.
func (c *Client) lookAtMempool(ctx context.Context) error {
	m, now := &c.pool, c.cfg.Now()
	if !m.moved.Swap(false) && m.begun && now.Sub(m.looked) < c.cfg.MempoolEvery && !now.Before(m.looked) {
		return nil
	}
	var list []string
	if err := c.rpc.call(ctx, &list, "getrawmempool"); err != nil {
		m.moved.Store(true)
		return said.Failed(err)
	}
	there := make(map[chainhash.Hash]struct{}, len(list))
	var asks [][]any
	for _, text := range list {
		id, err := parseHash(text)
		if err != nil {
			return err
		}
		there[id] = struct{}{}
		if _, known := m.txs[id]; !known {
			asks = append(asks, []any{text, 0})
		}
	}
	for id := range m.txs {
		if _, ok := there[id]; !ok {
			m.remove(id)
		}
	}
	if len(asks) > 10_000 {
		c.cfg.Logger.Info("btcd: reading the mempool", "transactions", len(asks))
	}
	err := c.rpc.batch(ctx, "getrawtransaction", asks, func(i int, a answer) error {
		var text string
		err := a.read(&text)
		if isCode(err, codeNotFound) {
			return nil // gone meanwhile
		}
		if err != nil {
			return said.Failed(err)
		}
		id, err := parseHash(asks[i][0].(string))
		if err != nil {
			return err
		}
		tx, err := decode(text, id)
		if err == nil {
			m.add(tx)
		}
		return err
	})
	if err != nil {
		m.moved.Store(true)
		return err
	}
	m.begun, m.looked = true, now
	return nil
}

// pendingTo are the unconfirmed transactions that pay a script.
func (c *Client) pendingTo(ctx context.Context, _ scan.View, pkScript []byte) (all []*wire.MsgTx, err error) {
	if err := c.lookAtMempool(ctx); err != nil {
		return nil, err
	}
	var asks [][]any
	for id := range c.pool.paid[c.pool.item(pkScript)] {
		asks = append(asks, []any{id.String(), 1})
	}
	err = c.rpc.batch(ctx, "getrawtransaction", asks, func(i int, a answer) error {
		var r struct {
			Hex       string `json:"hex"`
			BlockHash string `json:"blockhash"`
		}
		err := a.read(&r)
		if isCode(err, codeNotFound) || err == nil && r.BlockHash != "" {
			return nil // it has left the mempool
		}
		if err != nil {
			return said.Failed(err)
		}
		id, err := parseHash(asks[i][0].(string))
		if err != nil {
			return err
		}
		tx, err := decode(r.Hex, id)
		if err == nil && len(paid(tx, pkScript)) > 0 {
			all = append(all, tx)
		}
		return err
	})
	return all, err
}
