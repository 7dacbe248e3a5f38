package esplora

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

const (
	cached  = 512 // transactions and blocks that are remembered, each; their bytes never change
	maxSat  = 21_000_000 * 100_000_000
	longest = 2_000 // transactions of one script's history
	// smallestPage is the fewest transactions of a full page of history that any deployed Esplora gives.
	smallestPage = 10
)

// Tip implements chain.Backend.
func (c *Client) Tip(ctx context.Context) (tip chain.Tip, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return tip, err
	}
	body, err := c.get(ctx, "/blocks/tip/hash", maxText)
	if err != nil {
		return tip, unlessNotFound(err, "it knows no tip")
	}
	hash, err := parseHash(string(body))
	if err != nil {
		return tip, err
	}
	c.mu.Lock()
	tip, ok := c.blocks[hash]
	c.mu.Unlock()
	if ok {
		return tip, nil
	}
	return c.block(ctx, hash)
}

// block asks for a block's height and time.
func (c *Client) block(ctx context.Context, hash chainhash.Hash) (tip chain.Tip, err error) {
	body, err := c.get(ctx, "/block/"+hash.String(), maxJSON)
	if err != nil {
		return tip, unlessNotFound(err, "it does not know its own tip")
	}
	var b struct {
		ID        string  `json:"id"`
		Height    *uint32 `json:"height"`
		Timestamp *int64  `json:"timestamp"`
	}
	if err := parseJSON(body, &b); err != nil {
		return tip, err
	}
	id, err := parseHash(b.ID)
	switch {
	case err != nil:
		return tip, err
	case id != hash, b.Height == nil, b.Timestamp == nil, *b.Timestamp < 0, *b.Timestamp > math.MaxUint32:
		return tip, nonsense("block %s: another id, or no height or time", hash)
	}
	tip = chain.Tip{Height: *b.Height, Hash: hash, Time: time.Unix(*b.Timestamp, 0)}
	c.mu.Lock()
	defer c.mu.Unlock()
	remember(c.blocks, hash, tip)
	return tip, nil
}

// remember adds to a bounded map, in the place of any other entry when it is full.
func remember[V any](m map[chainhash.Hash]V, k chainhash.Hash, v V) {
	if _, ok := m[k]; !ok && len(m) >= cached {
		for old := range m {
			delete(m, old)
			break
		}
	}
	m[k] = v
}

// BlockHash implements chain.Backend.
func (c *Client) BlockHash(ctx context.Context, height uint32) (hash chainhash.Hash, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return hash, err
	}
	body, err := c.get(ctx, "/block-height/"+strconv.FormatUint(uint64(height), 10), maxText)
	if err != nil {
		return hash, refusedIs(err)
	}
	return parseHash(string(body))
}

// Tx implements chain.Backend.
func (c *Client) Tx(ctx context.Context, txid chainhash.Hash) (info chain.TxInfo, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return info, err
	}
	// An Esplora gives a status for any txid, "not confirmed" for one that it does not know; the bytes it has or not.
	if info.Tx, err = c.fetch(ctx, txid); err != nil {
		return info, err
	}
	body, err := c.get(ctx, "/tx/"+txid.String()+"/status", maxJSON)
	if err != nil {
		return chain.TxInfo{}, refusedIs(err)
	}
	var s status
	if err := parseJSON(body, &s); err != nil {
		return chain.TxInfo{}, err
	}
	if info.Confirmed, info.Height, info.BlockHash, err = s.parse(); err != nil {
		return chain.TxInfo{}, err
	}
	return info, nil
}

// fetch asks for a transaction's bytes. Errors: chain.ErrNotFound.
func (c *Client) fetch(ctx context.Context, txid chainhash.Hash) (*wire.MsgTx, error) {
	body, err := c.get(ctx, "/tx/"+txid.String()+"/hex", maxTxHex)
	if err != nil {
		return nil, refusedIs(err)
	}
	tx, err := parseTx(body, txid)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	remember(c.txs, txid, tx.Copy())
	return tx, nil
}

// known gives a transaction's bytes, which never change, from memory or from the server.
func (c *Client) known(ctx context.Context, txid chainhash.Hash) (*wire.MsgTx, error) {
	c.mu.Lock()
	tx, ok := c.txs[txid]
	c.mu.Unlock()
	if ok {
		return tx, nil
	}
	return c.fetch(ctx, txid)
}

// Spend implements chain.Backend. The spending transaction's bytes are asked for: they must spend the output.
func (c *Client) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return nil, err
	}
	body, err := c.get(ctx, fmt.Sprintf("/tx/%s/outspend/%d", op.Hash, op.Index), maxJSON)
	if errors.Is(err, chain.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, refusedIs(err)
	}
	var o struct {
		Spent  *bool   `json:"spent"`
		Txid   string  `json:"txid"`
		Vin    *uint32 `json:"vin"`
		Status *status `json:"status"`
	}
	if err := parseJSON(body, &o); err != nil {
		return nil, err
	}
	switch {
	case o.Spent == nil:
		return nil, nonsense("%s: it does not say whether it is spent", op)
	case !*o.Spent:
		return nil, nil
	case o.Vin == nil:
		return nil, nonsense("%s: it is spent by no input", op)
	}
	s := &chain.Spend{Vin: *o.Vin}
	if s.Txid, err = parseHash(o.Txid); err != nil {
		return nil, err
	}
	if s.Confirmed, s.Height, _, err = o.Status.parse(); err != nil {
		return nil, err
	}
	tx, err := c.known(ctx, s.Txid)
	if err != nil {
		return nil, unlessNotFound(err, "it does not know the transaction that spends "+op.String())
	}
	if uint64(s.Vin) >= uint64(len(tx.TxIn)) || tx.TxIn[s.Vin].PreviousOutPoint != op {
		return nil, nonsense("input %d of %s does not spend %s", s.Vin, s.Txid, op)
	}
	return s, nil
}

func scriptPath(pkScript []byte) string {
	h := sha256.Sum256(pkScript)
	return "/scripthash/" + hex.EncodeToString(h[:])
}

// UTXOs implements chain.Backend. Each coin's amount and script are compared with its transaction's bytes.
func (c *Client) UTXOs(ctx context.Context, pkScript []byte) ([]chain.UTXO, error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return nil, err
	}
	body, err := c.get(ctx, scriptPath(pkScript)+"/utxo", maxPage)
	if err != nil {
		return nil, unlessNotFound(err, "it lists no coins by script hash")
	}
	var list []struct {
		Txid   string  `json:"txid"`
		Vout   *uint32 `json:"vout"`
		Value  *int64  `json:"value"`
		Status *status `json:"status"`
	}
	if err := parseJSON(body, &list); err != nil {
		return nil, err
	}
	all := make([]chain.UTXO, 0, len(list))
	for _, l := range list {
		u := chain.UTXO{PkScript: bytes.Clone(pkScript)}
		if u.Outpoint.Hash, err = parseHash(l.Txid); err != nil {
			return nil, err
		}
		if l.Vout == nil || l.Value == nil {
			return nil, nonsense("a coin of %s has no index or value", u.Outpoint.Hash)
		}
		u.Outpoint.Index, u.Value = *l.Vout, *l.Value
		if u.Confirmed, u.Height, _, err = l.Status.parse(); err != nil {
			return nil, err
		}
		gone, err := c.checkCoin(ctx, u)
		if err != nil {
			return nil, err
		}
		if !gone {
			all = append(all, u)
		}
	}
	sortCoins(all)
	return all, nil
}

// checkCoin compares a coin with its transaction. gone says that the transaction has left the mempool meanwhile.
func (c *Client) checkCoin(ctx context.Context, u chain.UTXO) (gone bool, err error) {
	tx, err := c.known(ctx, u.Outpoint.Hash)
	if errors.Is(err, chain.ErrNotFound) && !u.Confirmed {
		return true, nil
	}
	if err != nil {
		return false, unlessNotFound(err, "it does not know the transaction of a coin")
	}
	if uint64(u.Outpoint.Index) >= uint64(len(tx.TxOut)) {
		return false, nonsense("%s does not exist", u.Outpoint)
	}
	out := tx.TxOut[u.Outpoint.Index]
	if out.Value != u.Value || u.Value < 0 || u.Value > maxSat || !bytes.Equal(out.PkScript, u.PkScript) {
		return false, nonsense("%s holds %d sat, not %d, or belongs to another script", u.Outpoint, out.Value, u.Value)
	}
	return false, nil
}

// Broadcast implements chain.Backend.
func (c *Client) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if err := c.CheckNetwork(ctx); err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := tx.Serialize(&buf); err != nil {
		return fmt.Errorf("esplora: serialize a transaction: %w", err)
	}
	txid := tx.TxHash()
	body, err := c.do(ctx, http.MethodPost, "/tx", "text/plain", []byte(hex.EncodeToString(buf.Bytes())), maxJSON)
	var refused *statusError
	switch {
	case err == nil:
		if got, err := parseHash(string(body)); err != nil || got != txid {
			return nonsense("%s was broadcast, it answers with %q", txid, clip(body))
		}
		return nil
	case !errors.As(err, &refused) || errors.Is(err, chain.ErrUnavailable):
		return unlessNotFound(err, "it takes no transactions")
	}
	// A node refuses what a block holds already, each in its own words. What is known is no refusal.
	_, err = c.fetch(ctx, txid)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, chain.ErrNotFound):
		return &chain.RejectError{Reason: rejectReason(refused.text)}
	}
	return err
}

// rejectReason takes the node's message out of what an Esplora wraps around it, in JSON or as "error -26: message".
func rejectReason(text string) string {
	_, inner, ok := strings.Cut(text, "RPC error")
	if !ok {
		return text
	}
	inner = strings.TrimLeft(inner, ": ")
	var j struct {
		Message string `json:"message"`
	}
	if json.Unmarshal([]byte(inner), &j) == nil && j.Message != "" {
		return j.Message
	}
	if code, message, ok := strings.Cut(inner, ":"); ok {
		if _, err := strconv.Atoi(code); err == nil {
			return strings.TrimSpace(message)
		}
	}
	return inner
}

// FeeRate implements chain.Backend: the estimate for the longest target that is no longer than asked.
func (c *Client) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return 0, err
	}
	body, err := c.get(ctx, "/fee-estimates", maxJSON)
	if err != nil {
		return 0, unlessNotFound(err, "it gives no fee estimates")
	}
	var estimates map[string]float64
	if err := parseJSON(body, &estimates); err != nil {
		return 0, err
	}
	best, soonest := 0, 0
	for name := range estimates {
		target, err := strconv.Atoi(name)
		if err != nil || target < 1 || strconv.Itoa(target) != name {
			return 0, nonsense("a fee estimate for %q blocks", clip([]byte(name)))
		}
		if target <= chain.ClampTarget(blocks) {
			best = max(best, target)
		}
		if soonest == 0 || target < soonest {
			soonest = target
		}
	}
	if best == 0 {
		best = soonest
	}
	if best == 0 { // a node that has seen no fees knows none: on a test chain the floor is right
		if c.cfg.Network != nil && c.cfg.Network.Name == chaincfg.RegressionNetParams.Name {
			return c.clamp(chain.MinFeeRate), nil
		}
		return 0, fmt.Errorf("%w: the server has no fee estimates", chain.ErrUnavailable)
	}
	perVB := estimates[strconv.Itoa(best)]
	if perVB < 0 {
		return 0, nonsense("a fee of %g sat/vB", perVB)
	}
	most := float64(chain.MaxFeeRate)
	return c.clamp(script.FeeRate(math.Min(most, math.Ceil(perVB*1000)))), nil
}

func (c *Client) clamp(r script.FeeRate) script.FeeRate {
	r = max(r, c.cfg.MinFeeRate)
	if c.cfg.MaxFeeRate > 0 {
		r = min(r, c.cfg.MaxFeeRate)
	}
	return chain.ClampFeeRate(r)
}
