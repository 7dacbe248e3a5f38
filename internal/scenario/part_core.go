package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// coreNetwork is a bitcoind as the chain of a story: its RPC with an entrance for each
// side, where what the side sends is taken down.
type coreNetwork struct {
	*core
	key    *btcec.PrivateKey
	script []byte

	mu     sync.Mutex
	sent   []sending
	rate   script.FeeRate // what every estimate is; 0: the node's own
	lax    []*wire.MsgTx  // what only the provider's own node has taken
	coins  []coreCoin
	branch int64
}

type coreCoin struct {
	op    wire.OutPoint
	value int64
}

// What the chain begins with.
const (
	coreBlocks  = 250
	coreMature  = 100
	coreSubsidy = 50 * 100_000_000 // up to block 150
	coreFee     = 1_000
)

// newCoreNetwork starts a bitcoind with coins for the faucet.
func newCoreNetwork(path, dir string, h *stagehand) (*coreNetwork, error) {
	c, err := startCore(path, dir, h.now)
	if err != nil {
		return nil, err
	}
	n := &coreNetwork{core: c}
	secret := [32]byte{31: 3}
	n.key, _ = btcec.PrivKeyFromBytes(secret[:])
	if n.script, err = txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(n.key.PubKey())); err != nil {
		return nil, err
	}
	hashes, err := n.mine(coreBlocks, n.script)
	if err != nil {
		return nil, err
	}
	for _, hash := range hashes[:coreBlocks-coreMature] {
		var b struct{ Tx []string }
		if err := n.rpc(&b, "getblock", hash); err != nil {
			return nil, err
		}
		id, err := chainhash.NewHashFromStr(b.Tx[0])
		if err != nil {
			return nil, err
		}
		n.coins = append(n.coins, coreCoin{wire.OutPoint{Hash: *id}, coreSubsidy})
	}
	n.coins = n.coins[:coreBlocks-coreMature-1] // the last one is of the first halving
	return n, nil
}

// fresh is a script that makes a block another one.
func (n *coreNetwork) fresh() []byte {
	n.branch++
	raw, err := txscript.NewScriptBuilder().AddInt64(n.branch + 1000).AddOp(txscript.OP_DROP).AddOp(txscript.OP_TRUE).Script()
	if err != nil {
		return []byte{txscript.OP_TRUE}
	}
	return raw
}

// orders are what the story can ask of the chain.
func (n *coreNetwork) orders() handlers {
	return handlers{
		"mine": on(func(_ context.Context, blocks int) (any, error) { return n.mine(blocks, n.script) }),
		"block": on(func(_ context.Context, raw []channel.Hex) (any, error) {
			txs := make([]string, len(raw))
			for i := range raw {
				txs[i] = raw[i].String()
			}
			err := n.block(n.script, txs)
			if refused := (*coreError)(nil); errors.As(err, &refused) {
				err = fmt.Errorf("%w: %w", devnet.ErrBlock, err)
			}
			return nil, err
		}),
		"reorg": on(func(_ context.Context, a reorgArgs) (any, error) { return nil, n.reorg(a.Depth, a.Drop, n.fresh) }),
		"rate": on(func(_ context.Context, rate script.FeeRate) (any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.rate = rate
			return nil, nil
		}),
		"faucet": on(func(_ context.Context, a faucetArgs) (any, error) { return n.pay(a.Script, a.Sat) }),
		"sent": on(func(context.Context, struct{}) (any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			all := n.sent
			n.sent = nil
			return all, nil
		}),
		"show": on(func(_ context.Context, raw channel.Hex) (any, error) {
			tx, err := channel.DecodeTx(raw)
			n.mu.Lock()
			defer n.mu.Unlock()
			n.lax = append(n.lax, tx)
			return nil, err
		}),
	}
}

// pay is the faucet.
func (n *coreNetwork) pay(pkScript []byte, sat int64) (id chainhash.Hash, err error) {
	tx := wire.NewMsgTx(2)
	prevouts := txscript.NewMultiPrevOutFetcher(nil)
	var total int64
	for total < sat+coreFee {
		if len(n.coins) == 0 {
			return id, errors.New("the faucet is dry")
		}
		coin := n.coins[0]
		n.coins = n.coins[1:]
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: coin.op, Sequence: wire.MaxTxInSequenceNum - 2})
		prevouts.AddPrevOut(coin.op, wire.NewTxOut(coin.value, n.script))
		total += coin.value
	}
	tx.AddTxOut(wire.NewTxOut(sat, pkScript))
	tx.AddTxOut(wire.NewTxOut(total-sat-coreFee, n.script))
	hashes := txscript.NewTxSigHashes(tx, prevouts)
	for i, in := range tx.TxIn {
		value := prevouts.FetchPrevOutput(in.PreviousOutPoint).Value
		if in.Witness, err = txscript.TaprootWitnessSignature(tx, hashes, i, value, n.script, txscript.SigHashDefault, n.key); err != nil {
			return id, err
		}
	}
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		return id, err
	}
	return tx.TxHash(), n.rpc(nil, "sendrawtransaction", raw.String())
}

// maxAsk bounds a request of a side's.
const maxAsk = 4 << 20

// serve is the node's RPC as one side reaches it.
func (n *coreNetwork) serve(by Side) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAsk))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var ask struct {
			ID     json.RawMessage   `json:"id"`
			Method string            `json:"method"`
			Params []json.RawMessage `json:"params"`
		}
		single := !bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) && json.Unmarshal(body, &ask) == nil
		n.mu.Lock()
		rate := n.rate
		n.mu.Unlock()
		if single && ask.Method == "estimatesmartfee" && rate > 0 {
			answerJSON(w, map[string]any{"id": ask.ID, "error": nil, "result": map[string]any{"blocks": 1, "feerate": float64(rate) / 1e8}})
			return
		}
		if result, ok := n.shown(by, ask.Method, ask.Params); single && ok {
			answerJSON(w, map[string]any{"id": ask.ID, "error": nil, "result": result})
			return
		}
		resp, err := n.post(r.Context(), body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		answer, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		if single && ask.Method == "sendrawtransaction" && len(ask.Params) > 0 {
			n.note(by, ask.Params[0], answer)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(resp.StatusCode)
		if _, err := w.Write(answer); err != nil {
			return // the side that asked is gone
		}
	}
}

// shown answers for the provider's own node, which relays what cannot be mined yet,
// where that has taken something that no other node has.
func (n *coreNetwork) shown(by Side, method string, params []json.RawMessage) (result any, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if by != Payee || len(n.lax) == 0 {
		return nil, false
	}
	switch method {
	case "getrawtransaction":
		var txid string
		if len(params) == 0 || json.Unmarshal(params[0], &txid) != nil {
			return nil, false
		}
		for _, tx := range n.lax {
			if raw, err := channel.EncodeTx(tx); err == nil && tx.TxID() == txid && n.rpc(nil, method, txid) != nil {
				return map[string]any{"hex": raw.String()}, true
			}
		}
	case "gettxout": // of an output that such a transaction spends
		var txid string
		var vout uint32
		var mempool bool
		if len(params) == 3 && json.Unmarshal(params[0], &txid) == nil && json.Unmarshal(params[1], &vout) == nil && json.Unmarshal(params[2], &mempool) == nil && mempool {
			return nil, n.laxSpender(txid, vout) != ""
		}
	case "gettxspendingprevout":
		var ops []struct {
			Txid string `json:"txid"`
			Vout uint32 `json:"vout"`
		}
		if len(params) == 1 && json.Unmarshal(params[0], &ops) == nil && len(ops) == 1 {
			if by := n.laxSpender(ops[0].Txid, ops[0].Vout); by != "" {
				return []map[string]any{{"txid": ops[0].Txid, "vout": ops[0].Vout, "spendingtxid": by}}, true
			}
		}
	}
	return nil, false
}

// laxSpender is what spends an output for the provider's own node alone; empty: nothing.
func (n *coreNetwork) laxSpender(txid string, vout uint32) string {
	for _, tx := range n.lax {
		for _, in := range tx.TxIn {
			if in.PreviousOutPoint.Hash.String() != txid || in.PreviousOutPoint.Index != vout {
				continue
			}
			var out *json.RawMessage
			if err := n.rpc(&out, "gettxout", txid, vout, true); err == nil && out != nil {
				return tx.TxID() // no other node knows a spend
			}
		}
	}
	return ""
}

// note takes down what a side sent, and what the node said.
func (n *coreNetwork) note(by Side, param json.RawMessage, answer []byte) {
	var s sending
	var said struct{ Error *coreError }
	if json.Unmarshal(param, &s.Tx) != nil || json.Unmarshal(answer, &said) != nil {
		return // the node refuses what is no transaction
	}
	s.By, s.Taken = by, said.Error == nil || strings.Contains(said.Error.Message, "already")
	if !s.Taken {
		s.Refused = said.Error.Message
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent = append(n.sent, s)
}

// newCoreSight is a bitcoind as a side sees it.
func newCoreSight(url string) (*bitcoind.Client, error) {
	return bitcoind.New(bitcoind.Config{URL: url, User: "side", Password: "of the story", Network: devnet.Params()})
}
