package devnet

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
)

// scriptOf reads the address or the script hash of a path.
func (n *Node) scriptOf(r *http.Request) (hash [32]byte, err error) {
	id := r.PathValue("id")
	switch r.PathValue("kind") {
	case "address":
		script, err := addressScript(id, n.params)
		if err != nil {
			return hash, httpErrorf(http.StatusBadRequest, "Invalid Bitcoin address")
		}
		return sha256.Sum256(script), nil
	case "scripthash":
		raw, err := hex.DecodeString(id)
		if err != nil || len(raw) != len(hash) {
			return hash, httpErrorf(http.StatusBadRequest, "Invalid hex string")
		}
		return [32]byte(raw), nil
	}
	return hash, httpErrorf(http.StatusNotFound, "endpoint does not exist %q", r.URL.Path)
}

func addressScript(s string, params *chaincfg.Params) ([]byte, error) {
	addr, err := address.DecodeAddress(s, params)
	if err != nil {
		return nil, err
	}
	if !addr.IsForNet(params) {
		return nil, address.ErrUnknownAddressType
	}
	return txscript.PayToAddrScript(addr)
}

// viewScript answers about one script.
func (n *Node) viewScript(r *http.Request, fn func(*index, [32]byte) (any, error)) (any, error) {
	h, err := n.scriptOf(r)
	if err != nil {
		return nil, err
	}
	return n.view(r, func(x *index) (any, error) { return fn(x, h) })
}

type statsJSON struct {
	FundedCount int   `json:"funded_txo_count"`
	FundedSum   int64 `json:"funded_txo_sum"`
	SpentCount  int   `json:"spent_txo_count"`
	SpentSum    int64 `json:"spent_txo_sum"`
	TxCount     int   `json:"tx_count"`
}

func (s *statsJSON) add(e *entry, hash [32]byte) {
	s.TxCount++
	for _, p := range e.prev {
		if p != nil && sha256.Sum256(p.PkScript) == hash {
			s.SpentCount++
			s.SpentSum += p.Value
		}
	}
	for _, o := range e.tx.TxOut {
		if sha256.Sum256(o.PkScript) == hash {
			s.FundedCount++
			s.FundedSum += o.Value
		}
	}
}

func (n *Node) getScript(r *http.Request) (any, error) {
	return n.viewScript(r, func(x *index, h [32]byte) (any, error) {
		var chainStats, mempoolStats statsJSON
		for _, e := range x.scripts[h] {
			if e.confirmed() {
				chainStats.add(e, h)
			} else {
				mempoolStats.add(e, h)
			}
		}
		return map[string]any{r.PathValue("kind"): r.PathValue("id"), "chain_stats": chainStats, "mempool_stats": mempoolStats}, nil
	})
}

type utxoJSON struct {
	Txid   string     `json:"txid"`
	Vout   uint32     `json:"vout"`
	Status statusJSON `json:"status"`
	Value  int64      `json:"value"`
}

func (n *Node) getScriptUTXO(r *http.Request) (any, error) {
	return n.viewScript(r, func(x *index, h [32]byte) (any, error) {
		all := []utxoJSON{}
		for _, c := range x.coins(h) {
			all = append(all, utxoJSON{c.op.Hash.String(), c.op.Index, c.e.status(), c.out.Value})
		}
		return all, nil
	})
}

// txs turns entries into JSON, at most so many.
func (n *Node) txs(entries []*entry, most int) []txJSON {
	all := []txJSON{}
	for _, e := range entries[:min(most, len(entries))] {
		all = append(all, e.json(n.params))
	}
	return all
}

// split parts a history at its first confirmed entry.
func split(history []*entry) (pending, confirmed []*entry) {
	for i, e := range history {
		if e.confirmed() {
			return history[:i], history[i:]
		}
	}
	return history, nil
}

func (n *Node) getScriptTxs(r *http.Request) (any, error) {
	return n.viewScript(r, func(x *index, h [32]byte) (any, error) {
		pending, confirmed := split(x.history(h))
		return append(n.txs(pending, mempoolPage), n.txs(confirmed, txsPage)...), nil
	})
}

func (n *Node) getScriptTxsMempool(r *http.Request) (any, error) {
	return n.viewScript(r, func(x *index, h [32]byte) (any, error) {
		pending, _ := split(x.history(h))
		return n.txs(pending, mempoolPage), nil
	})
}

func (n *Node) getScriptTxsChain(r *http.Request) (any, error) {
	return n.viewScript(r, func(x *index, h [32]byte) (any, error) {
		_, confirmed := split(x.history(h))
		last := strings.ToLower(r.PathValue("lastseen"))
		if last == "" {
			return n.txs(confirmed, txsPage), nil
		}
		for i, e := range confirmed {
			if e.id.String() == last {
				return n.txs(confirmed[i+1:], txsPage), nil
			}
		}
		return nil, httpErrorf(http.StatusUnprocessableEntity, "last_seen_txid not found")
	})
}
