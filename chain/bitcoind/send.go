package bitcoind

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
	"github.com/spillway/spillway/script"
)

const maxSat = 21_000_000 * 100_000_000

// parseFixed reads a decimal of at most eight places, in units of the eighth.
func parseFixed(s string) (v int64, ok bool) {
	whole, part, _ := strings.Cut(s, ".")
	if len(part) > 8 {
		if strings.Trim(part[8:], "0") != "" {
			return 0, false
		}
		part = part[:8]
	}
	digits := whole + part + strings.Repeat("0", 8-len(part))
	if whole == "" || len(digits) > 18 {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		v = v*10 + int64(d-'0')
	}
	return v, true
}

func encode(tx *wire.MsgTx) (string, error) {
	var buf bytes.Buffer
	if err := tx.Serialize(&buf); err != nil {
		return "", fmt.Errorf("bitcoind: serialize a transaction: %w", err)
	}
	return hex.EncodeToString(buf.Bytes()), nil
}

// codes by which the node refuses a transaction.
var refusals = []int{-22, -25, -26, -27}

// Broadcast implements chain.Backend.
func (c *Client) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if err := c.CheckNetwork(ctx); err != nil {
		return err
	}
	text, err := encode(tx)
	if err != nil {
		return err
	}
	err = c.rpc.call(ctx, nil, "sendrawtransaction", text)
	c.moved.Store(true)
	if err == nil {
		return nil
	}
	var r *refusal
	if !errors.As(err, &r) || !slices.Contains(refusals, r.Code) {
		return said.Failed(err)
	}
	return c.refused(ctx, tx, r.Message)
}

// refused is the error of a transaction that the node refused with a reason; nil where it knows it already.
func (c *Client) refused(ctx context.Context, tx *wire.MsgTx, reason string) error {
	known := []string{"txn-already-in-mempool", "txn-already-known", "txn-same-nonwitness-data-in-mempool", "already in utxo set", "already in block chain"}
	if slices.ContainsFunc(known, func(s string) bool { return strings.Contains(reason, s) }) {
		return nil
	}
	if strings.Contains(reason, "missingorspent") || strings.Contains(reason, "missing-inputs") {
		// What a block holds already, and has been spent from, is refused like what spends nothing that there is.
		_, err := c.Tx(ctx, tx.TxHash())
		if !errors.Is(err, chain.ErrNotFound) {
			return err
		}
	}
	return &chain.RejectError{Reason: clip(reason)}
}

// SubmitPackage implements chain.PackageSubmitter: parents and their child, which is last.
func (c *Client) SubmitPackage(ctx context.Context, txs ...*wire.MsgTx) error {
	if err := c.CheckNetwork(ctx); err != nil {
		return err
	}
	all := make([]string, len(txs))
	for i, tx := range txs {
		var err error
		if all[i], err = encode(tx); err != nil {
			return err
		}
	}
	var answer struct {
		Message string `json:"package_msg"`
		Results map[string]struct {
			Txid  string `json:"txid"`
			Error string `json:"error"`
		} `json:"tx-results"`
	}
	err := c.rpc.call(ctx, &answer, "submitpackage", all)
	c.moved.Store(true)
	var r *refusal
	if errors.As(err, &r) && (slices.Contains(refusals, r.Code) || r.Code == codeParameter || r.Code == codeMisc) {
		return &chain.RejectError{Reason: clip(r.Message)}
	}
	if err != nil {
		return said.Failed(err)
	}
	if answer.Message == "success" {
		return nil
	}
	for _, tx := range txs {
		one := answer.Results[tx.WitnessHash().String()]
		if one.Error == "" {
			continue
		}
		if err := c.refused(ctx, tx, one.Error); err != nil {
			var reject *chain.RejectError
			if errors.As(err, &reject) && one.Error != answer.Message {
				reject.Reason = clip(answer.Message + ": " + one.Error)
			}
			return err
		}
	}
	if answer.Message == "transaction failed" { // all that failed was known already
		return nil
	}
	return &chain.RejectError{Reason: clip(answer.Message)}
}

// FeeRate implements chain.Backend: the node's estimate, never below what its mempool takes. A node without an
// estimate is an error on mainnet; elsewhere what its mempool takes is enough.
func (c *Client) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return 0, err
	}
	floor, err := c.relayFloor(ctx)
	if err != nil {
		return 0, err
	}
	var e struct {
		Rate   *json.Number `json:"feerate"`
		Errors []string     `json:"errors"`
	}
	if err := c.rpc.call(ctx, &e, "estimatesmartfee", chain.ClampTarget(blocks), "conservative"); err != nil {
		return 0, said.Failed(err)
	}
	if e.Rate == nil {
		if c.cfg.Network == nil || c.cfg.Network.Name == chaincfg.MainNetParams.Name {
			return 0, said.Unavailable("estimatesmartfee", errors.New(clip("the node has no fee estimate: "+strings.Join(e.Errors, ", "))))
		}
		return c.clamp(floor), nil
	}
	rate, err := rate(*e.Rate)
	if err != nil {
		return 0, err
	}
	return c.clamp(max(rate, floor)), nil
}

// rate reads a fee rate in bitcoin per 1000 vB.
func rate(n json.Number) (script.FeeRate, error) {
	r, ok := said.Rate(n)
	if !ok {
		return 0, nonsense("%q is no fee rate", clip(string(n)))
	}
	return r, nil
}

// relayFloor is the least rate that the node's mempool takes now.
func (c *Client) relayFloor(ctx context.Context) (script.FeeRate, error) {
	var m struct {
		Min   json.Number `json:"mempoolminfee"`
		Relay json.Number `json:"minrelaytxfee"`
	}
	if err := c.rpc.call(ctx, &m, "getmempoolinfo"); err != nil {
		return 0, said.Failed(err)
	}
	floor, err := rate(m.Min)
	if err != nil {
		return 0, err
	}
	relay, err := rate(m.Relay)
	return max(floor, relay), err
}

func (c *Client) clamp(r script.FeeRate) script.FeeRate {
	r = max(r, c.cfg.MinFeeRate)
	if c.cfg.MaxFeeRate > 0 {
		r = min(r, c.cfg.MaxFeeRate)
	}
	return chain.ClampFeeRate(r)
}

// Health implements chain.HealthChecker.
func (c *Client) Health(ctx context.Context) (h chain.Health, err error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return h, err
	}
	info, err := c.info(ctx)
	if err != nil {
		return h, err
	}
	best, err := parseHash(info.Best)
	if err != nil {
		return h, err
	}
	tip, err := c.header(ctx, best)
	if err != nil {
		return h, err
	}
	var net struct {
		Connections int `json:"connections"`
	}
	if err := c.rpc.call(ctx, &net, "getnetworkinfo"); err != nil {
		return h, said.Failed(err)
	}
	var indexes map[string]struct {
		Synced bool `json:"synced"`
	}
	if err := c.rpc.call(ctx, &indexes, "getindexinfo"); err != nil {
		return h, said.Failed(err)
	}
	regtest := c.cfg.Network != nil && c.cfg.Network.Name == chaincfg.RegressionNetParams.Name
	h = chain.Health{Tip: tip, Headers: info.Headers, Peers: net.Connections, Index: indexes["txindex"].Synced,
		Syncing: info.Syncing && !regtest || info.Headers > tip.Height+behind, Oldest: max(info.PruneHeight, c.cfg.Birthday)}
	if tip.Height >= c.cfg.Window {
		h.Oldest = max(h.Oldest, tip.Height-c.cfg.Window+1)
	}
	return h, nil
}

// behind is how many blocks a node may lag behind its own headers.
const behind = 3

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

// Generate mines blocks that pay a script, on regtest. Errors: chain.ErrUnavailable.
func (c *Client) Generate(ctx context.Context, blocks int, pkScript []byte) error {
	if err := c.CheckNetwork(ctx); err != nil {
		return err
	}
	limit := time.Duration(blocks)*100*time.Millisecond + c.cfg.Timeout
	return said.Failed(c.rpc.callFor(ctx, limit, nil, "generatetodescriptor", blocks, "raw("+hex.EncodeToString(pkScript)+")"))
}
