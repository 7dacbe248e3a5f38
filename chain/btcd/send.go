package btcd

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/btcjson"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
	"github.com/spillway/spillway/script"
)

// Broadcast implements chain.Backend.
func (c *Client) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if err := c.CheckNetwork(ctx); err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := tx.Serialize(&buf); err != nil {
		return fmt.Errorf("btcd: serialize a transaction: %w", err)
	}
	for _, out := range tx.TxOut {
		c.scan.Hint(out.PkScript)
	}
	err := c.rpc.call(ctx, nil, "sendrawtransaction", hex.EncodeToString(buf.Bytes()))
	c.pool.moved.Store(true)
	var r *btcjson.RPCError
	switch {
	case err == nil, isCode(err, codeKnown):
		return nil
	case !errors.As(err, &r):
		return said.Failed(err)
	case strings.Contains(r.Message, "already have transaction"):
		return nil
	}
	switch r.Code {
	case btcjson.ErrRPCDeserialization, btcjson.ErrRPCTxError, btcjson.ErrRPCTxRejected:
		return c.refused(ctx, tx, r.Message)
	}
	return said.Failed(err)
}

// refused is the error of a transaction that the node refused with a reason; nil where it knows it already: what a
// block holds, and has been spent from, is refused like what spends nothing that there is.
func (c *Client) refused(ctx context.Context, tx *wire.MsgTx, reason string) error {
	if strings.Contains(reason, "orphan") || strings.Contains(reason, "already") {
		if _, err := c.Tx(ctx, tx.TxHash()); !errors.Is(err, chain.ErrNotFound) {
			return err
		}
	}
	return &chain.RejectError{Reason: clip(strings.TrimPrefix(reason, "TX rejected: "))}
}

// deepest is how far ahead btcd estimates.
const deepest = 25

// FeeRate implements chain.Backend: the node's estimate, never below what it relays. A node without an estimate, as
// after its first start, is an error on mainnet; elsewhere what it relays is enough.
func (c *Client) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return 0, err
	}
	var info struct {
		Relay json.Number `json:"relayfee"`
	}
	if err := c.rpc.call(ctx, &info, "getinfo"); err != nil {
		return 0, said.Failed(err)
	}
	floor, err := rate(info.Relay)
	if err != nil {
		return 0, err
	}
	var estimate json.Number
	err = c.rpc.call(ctx, &estimate, "estimatefee", min(deepest, chain.ClampTarget(blocks)))
	var r *btcjson.RPCError
	switch {
	case errors.As(err, &r):
		if c.cfg.Network == nil || c.cfg.Network.Name == chaincfg.MainNetParams.Name {
			return 0, said.Unavailable("estimatefee", errors.New(clip("the node has no fee estimate: "+r.Message)))
		}
		return c.clamp(floor), nil
	case err != nil:
		return 0, said.Failed(err)
	}
	guess, err := rate(estimate)
	if err != nil {
		return 0, err
	}
	return c.clamp(max(guess, floor)), nil
}

// rate reads a fee rate in bitcoin per 1000 vB.
func rate(n json.Number) (script.FeeRate, error) {
	r, ok := said.Rate(n)
	if !ok {
		return 0, nonsense("%q is no fee rate", clip(string(n)))
	}
	return r, nil
}

func (c *Client) clamp(r script.FeeRate) script.FeeRate {
	r = max(r, c.cfg.MinFeeRate)
	if c.cfg.MaxFeeRate > 0 {
		r = min(r, c.cfg.MaxFeeRate)
	}
	return chain.ClampFeeRate(r)
}

// behind is how many blocks a node may lag behind what its peers say.
const behind = 3

// Health implements chain.HealthChecker.
func (c *Client) Health(ctx context.Context) (h chain.Health, err error) {
	if h.Tip, err = c.Tip(ctx); err != nil {
		return h, err
	}
	var peers []struct {
		Height int64 `json:"currentheight"`
		Start  int64 `json:"startingheight"`
	}
	if err := c.rpc.call(ctx, &peers, "getpeerinfo"); err != nil {
		return h, said.Failed(err)
	}
	h.Peers, h.Headers = len(peers), h.Tip.Height
	var tops []int64
	for _, p := range peers {
		tops = append(tops, max(p.Height, p.Start))
	}
	if slices.Sort(tops); len(tops) > 0 { // the middle one: a peer may say anything
		h.Headers = max(h.Headers, uint32(min(max(0, tops[(len(tops)-1)/2]), 1<<31-1)))
	}
	h.Syncing = h.Headers > h.Tip.Height+behind
	_, err = c.quickly(ctx, chainhash.Hash{})
	h.Index = errors.Is(err, chain.ErrNotFound)
	if err != nil && !h.Index && !errors.Is(err, errNoIndex) {
		return h, err
	}
	if h.Oldest = c.cfg.Birthday; h.Oldest == 0 && h.Tip.Height >= c.cfg.Window {
		h.Oldest = h.Tip.Height - c.cfg.Window + 1
	}
	return h, nil
}

// Waiting is how many transactions are in the node's mempool. Errors: chain.ErrUnavailable.
func (c *Client) Waiting(ctx context.Context) (int, error) {
	var m struct {
		Size int `json:"size"`
	}
	if err := c.CheckNetwork(ctx); err != nil {
		return 0, err
	}
	err := c.rpc.call(ctx, &m, "getmempoolinfo")
	return m.Size, said.Failed(err)
}
