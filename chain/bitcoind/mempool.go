package bitcoind

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
)

// mempool finds unconfirmed transactions by the scripts that they pay. Its holder has the turn.
type mempool struct {
	looked time.Time
	begun  bool
	txs    map[chainhash.Hash][]uint64            // the scripts that each pays, as items of the window
	paid   map[uint64]map[chainhash.Hash]struct{} // the other way round
}

func newMempool() mempool {
	return mempool{txs: map[chainhash.Hash][]uint64{}, paid: map[uint64]map[chainhash.Hash]struct{}{}}
}

func (m *mempool) add(id chainhash.Hash, scripts []uint64) {
	m.txs[id] = scripts
	for _, s := range scripts {
		if m.paid[s] == nil {
			m.paid[s] = map[chainhash.Hash]struct{}{}
		}
		m.paid[s][id] = struct{}{}
	}
}

func (m *mempool) remove(id chainhash.Hash) {
	for _, s := range m.txs[id] {
		if delete(m.paid[s], id); len(m.paid[s]) == 0 {
			delete(m.paid, s)
		}
	}
	delete(m.txs, id)
}

// items are the scripts that a transaction pays.
func (w *window) items(tx *wire.MsgTx) []uint64 {
	all := make([]uint64, len(tx.TxOut))
	for i, out := range tx.TxOut {
		all[i] = w.paid(out.PkScript)
	}
	return all
}

// lookAtMempool brings the index of the mempool up to now, unless it was done a moment ago.
func (c *Client) lookAtMempool(ctx context.Context) error {
	m, now := &c.pool, c.cfg.Now()
	if !c.moved.Swap(false) && m.begun && now.Sub(m.looked) < c.cfg.MempoolEvery && !now.Before(m.looked) {
		return nil
	}
	var list []string
	if err := c.rpc.call(ctx, &list, "getrawmempool"); err != nil {
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
			asks = append(asks, []any{text})
		}
	}
	for id := range m.txs {
		if _, ok := there[id]; !ok {
			m.remove(id)
		}
	}
	if len(asks) > 10_000 {
		c.cfg.Logger.Info("bitcoind: reading the mempool", "transactions", len(asks))
	}
	err := c.rpc.batch(ctx, "getrawtransaction", asks, func(i int, a response) error {
		var text string
		err := a.read("getrawtransaction", &text)
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
			m.add(id, c.win.items(tx))
		}
		return err
	})
	if err != nil {
		return err
	}
	m.begun, m.looked = true, now
	return nil
}

// pendingTo are the unconfirmed transactions that pay a script.
func (c *Client) pendingTo(ctx context.Context, pkScript []byte) (all []*wire.MsgTx, err error) {
	if err := c.lookAtMempool(ctx); err != nil {
		return nil, err
	}
	for id := range c.pool.paid[c.win.paid(pkScript)] {
		info, err := c.quickly(ctx, id)
		if errors.Is(err, chain.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if pays(pkScript)(info.Tx) {
			all = append(all, info.Tx)
		}
	}
	return all, nil
}

// WatchScripts implements chain.ScriptWatcher: where coins may be older than the window, those of all scripts are
// searched for at once in the node's set of unspent outputs, which takes minutes on mainnet.
func (c *Client) WatchScripts(ctx context.Context, scripts ...[]byte) error {
	if err := c.CheckNetwork(ctx); err != nil {
		return err
	}
	give, err := c.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	if err := c.sync(ctx); err != nil {
		return err
	}
	return c.findOld(ctx, scripts...)
}

// scanned is what is asked of scantxoutset.
type scanned struct {
	Success  bool `json:"success"`
	Unspents []struct {
		Txid   string      `json:"txid"`
		Vout   uint32      `json:"vout"`
		Script string      `json:"scriptPubKey"`
		Amount json.Number `json:"amount"`
		Height uint32      `json:"height"`
	} `json:"unspents"`
}

// busyPause is how long a search waits for another one that the node is at.
const busyPause = 500 * time.Millisecond

// findOld finds, once for each script, the coins of blocks before the window.
func (c *Client) findOld(ctx context.Context, scripts ...[]byte) error {
	if c.win.base <= c.cfg.Birthday {
		return nil
	}
	var ask []string
	for _, s := range scripts {
		if !c.old[string(s)] {
			ask = append(ask, "raw("+hex.EncodeToString(s)+")")
		}
	}
	if len(ask) == 0 {
		return nil
	}
	c.cfg.Logger.Info("bitcoind: searching the set of unspent outputs", "scripts", len(ask), "before", c.win.base)
	var found scanned
	limit, cancel := context.WithTimeout(ctx, c.cfg.ScanTimeout)
	defer cancel()
	for {
		err := c.rpc.callFor(limit, c.cfg.ScanTimeout, &found, "scantxoutset", "start", ask)
		if err == nil {
			break
		}
		if !isCode(err, codeParameter) { // a search is at work already
			return said.Failed(err)
		}
		if err := pause(limit, busyPause); err != nil {
			return said.Unavailable("scantxoutset", err)
		}
	}
	if !found.Success {
		return said.Unavailable("scantxoutset", errors.New("the search was ended"))
	}
	return c.keepOld(found, scripts)
}

func (c *Client) keepOld(found scanned, scripts [][]byte) error {
	for _, s := range scripts {
		if c.coins[string(s)] == nil {
			c.coins[string(s)] = map[wire.OutPoint]candidate{}
		}
	}
	for _, u := range found.Unspents {
		id, err := parseHash(u.Txid)
		if err != nil {
			return err
		}
		script, err := hex.DecodeString(u.Script)
		if err != nil {
			return nonsense("scantxoutset: a script is not in hex")
		}
		value, err := sat(u.Amount)
		if err != nil {
			return err
		}
		if known := c.coins[string(script)]; known != nil && u.Height < c.win.base {
			op := wire.OutPoint{Hash: id, Index: u.Vout}
			known[op] = candidate{op: op, value: value, height: u.Height}
		}
	}
	for _, s := range scripts {
		c.old[string(s)] = true
	}
	return nil
}
