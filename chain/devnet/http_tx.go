package devnet

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// Codes of a bitcoind's sendrawtransaction.
const (
	rpcDecode   = -22
	rpcMissing  = -25
	rpcRejected = -26
	rpcKnown    = -27
)

type statusJSON struct {
	Confirmed   bool   `json:"confirmed"`
	BlockHeight uint32 `json:"block_height,omitempty"`
	BlockHash   string `json:"block_hash,omitempty"`
	BlockTime   int64  `json:"block_time,omitempty"`
}

type outputJSON struct {
	Script  string `json:"scriptpubkey"`
	Asm     string `json:"scriptpubkey_asm"`
	Type    string `json:"scriptpubkey_type"`
	Address string `json:"scriptpubkey_address,omitempty"`
	Value   int64  `json:"value"`
}

type inputJSON struct {
	Txid       string      `json:"txid"`
	Vout       uint32      `json:"vout"`
	Prevout    *outputJSON `json:"prevout"`
	ScriptSig  string      `json:"scriptsig"`
	Asm        string      `json:"scriptsig_asm"`
	Witness    []string    `json:"witness,omitempty"`
	IsCoinbase bool        `json:"is_coinbase"`
	Sequence   uint32      `json:"sequence"`
	Redeem     string      `json:"inner_redeemscript_asm,omitempty"`
	Script     string      `json:"inner_witnessscript_asm,omitempty"`
}

type txJSON struct {
	Txid     string       `json:"txid"`
	Version  int32        `json:"version"`
	Locktime uint32       `json:"locktime"`
	Vin      []inputJSON  `json:"vin"`
	Vout     []outputJSON `json:"vout"`
	Size     int          `json:"size"`
	Weight   int64        `json:"weight"`
	Sigops   int          `json:"sigops"`
	Fee      int64        `json:"fee"`
	Status   statusJSON   `json:"status"`
}

func (e *entry) status() statusJSON {
	if !e.confirmed() {
		return statusJSON{}
	}
	return statusJSON{true, e.block.height, e.block.hash.String(), e.block.msg.Header.Timestamp.Unix()}
}

func (e *entry) json(params *chaincfg.Params) txJSON {
	coinbase := blockchain.IsCoinBaseTx(e.tx)
	j := txJSON{
		Txid: e.id.String(), Version: e.tx.Version, Locktime: e.tx.LockTime, Size: e.tx.SerializeSize(),
		Weight: e.weight(), Sigops: e.sigops(coinbase), Fee: e.fee, Status: e.status(),
		Vin: []inputJSON{}, Vout: []outputJSON{},
	}
	for i, in := range e.tx.TxIn {
		v := inputJSON{
			Txid: in.PreviousOutPoint.Hash.String(), Vout: in.PreviousOutPoint.Index, IsCoinbase: coinbase,
			ScriptSig: hexOf(in.SignatureScript), Asm: asm(in.SignatureScript), Sequence: in.Sequence,
		}
		if e.prev[i] != nil {
			p := toOutput(e.prev[i], params)
			v.Prevout = &p
			v.Redeem, v.Script = innerScripts(in, e.prev[i].PkScript)
		}
		for _, w := range in.Witness {
			v.Witness = append(v.Witness, hexOf(w))
		}
		j.Vin = append(j.Vin, v)
	}
	for _, out := range e.tx.TxOut {
		j.Vout = append(j.Vout, toOutput(out, params))
	}
	return j
}

// sigops is the transaction's signature operation cost (BIP141).
func (e *entry) sigops(coinbase bool) int {
	view := blockchain.NewUtxoViewpoint()
	for i, in := range e.tx.TxIn {
		if e.prev[i] != nil {
			view.Entries()[in.PreviousOutPoint] = blockchain.NewUtxoEntry(e.prev[i], 0, false)
		}
	}
	cost, err := blockchain.GetSigOpCost(btcutil.NewTx(e.tx), coinbase, view, true, true)
	if err != nil {
		return 0 // an input of an undone branch's transaction is unknown
	}
	return cost
}

// prevouts finds what a transaction spends, nil where that is unknown.
func (x *index) prevouts(tx *wire.MsgTx) []*wire.TxOut {
	all := make([]*wire.TxOut, len(tx.TxIn))
	for i, in := range tx.TxIn {
		if e, ok := x.txs[in.PreviousOutPoint.Hash]; ok && in.PreviousOutPoint.Index < uint32(len(e.tx.TxOut)) {
			all[i] = e.tx.TxOut[in.PreviousOutPoint.Index]
		}
	}
	return all
}

func toOutput(out *wire.TxOut, params *chaincfg.Params) outputJSON {
	o := outputJSON{Script: hexOf(out.PkScript), Asm: asm(out.PkScript), Type: scriptType(out.PkScript), Value: out.Value}
	_, addrs, _, err := txscript.ExtractPkScriptAddrs(out.PkScript, params)
	if err == nil && len(addrs) == 1 && o.Type != "p2pk" && o.Type != "multisig" {
		o.Address = addrs[0].EncodeAddress()
	}
	return o
}

// viewTx answers about one transaction.
func (n *Node) viewTx(r *http.Request, fn func(*index, *entry) (any, error)) (any, error) {
	id, err := pathHash(r, "txid")
	if err != nil {
		return nil, err
	}
	return n.view(r, func(x *index) (any, error) {
		e, ok := x.txs[id]
		if !ok {
			return nil, httpErrorf(http.StatusNotFound, "Transaction not found")
		}
		return fn(x, e)
	})
}

func (n *Node) getTx(r *http.Request) (any, error) {
	return n.viewTx(r, func(_ *index, e *entry) (any, error) { return e.json(n.params), nil })
}

func (n *Node) getTxRaw(r *http.Request) (any, error) {
	return n.viewTx(r, func(_ *index, e *entry) (any, error) {
		var buf bytes.Buffer
		err := e.tx.Serialize(&buf)
		return buf.Bytes(), err
	})
}

func (n *Node) getTxHex(r *http.Request) (any, error) {
	raw, err := n.getTxRaw(r)
	if err != nil {
		return nil, err
	}
	b, ok := raw.([]byte)
	if !ok {
		return nil, errors.New("devnet: a raw transaction is no bytes")
	}
	return hexOf(b), nil
}

// getTxStatus answers for an unknown transaction as an Esplora does: it is not confirmed.
func (n *Node) getTxStatus(r *http.Request) (any, error) {
	id, err := pathHash(r, "txid")
	if err != nil {
		return nil, err
	}
	return n.view(r, func(x *index) (any, error) {
		if e, ok := x.txs[id]; ok {
			return e.status(), nil
		}
		return statusJSON{}, nil
	})
}

type proofJSON struct {
	BlockHeight uint32   `json:"block_height"`
	Merkle      []string `json:"merkle"`
	Pos         int      `json:"pos"`
}

func (n *Node) getMerkleProof(r *http.Request) (any, error) {
	return n.viewTx(r, func(_ *index, e *entry) (any, error) {
		if !e.confirmed() {
			return nil, httpErrorf(http.StatusNotFound, "Transaction not found or is unconfirmed")
		}
		p := proofJSON{BlockHeight: e.block.height, Merkle: []string{}, Pos: e.pos}
		row := make([]chainhash.Hash, len(e.block.msg.Transactions))
		for i, tx := range e.block.msg.Transactions {
			row[i] = tx.TxHash()
		}
		for at := e.pos; len(row) > 1; at /= 2 {
			if len(row)%2 == 1 {
				row = append(row, row[len(row)-1])
			}
			p.Merkle = append(p.Merkle, row[at^1].String())
			next := make([]chainhash.Hash, len(row)/2)
			for i := range next {
				next[i] = chainhash.DoubleHashH(append(row[2*i][:], row[2*i+1][:]...))
			}
			row = next
		}
		return p, nil
	})
}

type outspendJSON struct {
	Spent  bool        `json:"spent"`
	Txid   string      `json:"txid,omitempty"`
	Vin    *uint32     `json:"vin,omitempty"`
	Status *statusJSON `json:"status,omitempty"`
}

func (x *index) outspend(op wire.OutPoint) outspendJSON {
	s, ok := x.spends[op]
	if !ok {
		return outspendJSON{}
	}
	status := s.by.status()
	return outspendJSON{true, s.by.id.String(), &s.vin, &status}
}

func (n *Node) getOutspend(r *http.Request) (any, error) {
	id, err := pathHash(r, "txid")
	if err != nil {
		return nil, err
	}
	vout, err := pathNumber(r, "vout")
	if err != nil {
		return nil, err
	}
	return n.view(r, func(x *index) (any, error) { return x.outspend(wire.OutPoint{Hash: id, Index: vout}), nil })
}

func (n *Node) getOutspends(r *http.Request) (any, error) {
	return n.viewTx(r, func(x *index, e *entry) (any, error) {
		all := make([]outspendJSON, len(e.tx.TxOut))
		for i := range all {
			all[i] = x.outspend(wire.OutPoint{Hash: e.id, Index: uint32(i)})
		}
		return all, nil
	})
}

// postTx takes a transaction in hex and answers with its txid, or with the words of the refusal as an Esplora
// passes on those of its node.
func (n *Node) postTx(r *http.Request) (any, error) {
	text, err := body(r, maxTxBody)
	if err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, rpcError(rpcDecode, "TX decode failed. Make sure the tx has at least one input.")
	}
	tx, err := decodeTx(raw)
	if err != nil {
		return nil, rpcError(rpcDecode, "TX decode failed. Make sure the tx has at least one input.")
	}
	info, err := n.Tx(r.Context(), tx.TxHash())
	switch {
	case err == nil && info.Confirmed:
		return nil, rpcError(rpcKnown, "Transaction outputs already in utxo set")
	case err != nil && !errors.Is(err, chain.ErrNotFound):
		return nil, err
	}
	var reject *chain.RejectError
	err = n.Broadcast(r.Context(), tx)
	switch {
	case errors.As(err, &reject) && bytes.HasPrefix([]byte(reject.Reason), []byte("bad-txns-inputs-missingorspent")):
		return nil, rpcError(rpcMissing, reject.Reason)
	case errors.As(err, &reject):
		return nil, rpcError(rpcRejected, reject.Reason)
	case err != nil:
		return nil, err
	}
	return tx.TxHash().String(), nil
}

func rpcError(code int, message string) error {
	detail, err := json.Marshal(map[string]any{"code": code, "message": message})
	if err != nil {
		return fmt.Errorf("devnet: describe a refusal: %w", err)
	}
	return httpErrorf(http.StatusBadRequest, "sendrawtransaction RPC error: %s", detail)
}
