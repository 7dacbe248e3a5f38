package devnet

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/btcsuite/btcd/chainhash/v2"
)

func (n *Node) getMempool(r *http.Request) (any, error) {
	return n.view(r, func(*index) (any, error) {
		all := n.byRate()
		var vsize, fees int64
		histogram := [][2]float64{}
		for _, e := range all {
			vsize += e.vsize()
			fees += e.fee
			rate := float64(e.rate()) / 1000
			if i := len(histogram) - 1; i >= 0 && histogram[i][0] == rate {
				histogram[i][1] += float64(e.vsize())
			} else {
				histogram = append(histogram, [2]float64{rate, float64(e.vsize())})
			}
		}
		return map[string]any{"count": len(all), "vsize": vsize, "total_fee": fees, "fee_histogram": histogram}, nil
	})
}

func (n *Node) getMempoolTxids(r *http.Request) (any, error) {
	return n.view(r, func(x *index) (any, error) {
		ids := []string{}
		for _, e := range x.mempool() {
			ids = append(ids, e.id.String())
		}
		return ids, nil
	})
}

func (n *Node) getMempoolRecent(r *http.Request) (any, error) {
	type recent struct {
		Txid  string `json:"txid"`
		Fee   int64  `json:"fee"`
		Vsize int64  `json:"vsize"`
		Value int64  `json:"value"`
	}
	return n.view(r, func(x *index) (any, error) {
		all := []recent{}
		for _, e := range slices.Backward(x.mempool()) {
			t := recent{Txid: e.id.String(), Fee: e.fee, Vsize: e.vsize()}
			for _, out := range e.tx.TxOut {
				t.Value += out.Value
			}
			if all = append(all, t); len(all) == recentMempool {
				break
			}
		}
		return all, nil
	})
}

// getFeeEstimates answers in sat/vB, for the targets that an Esplora names.
func (n *Node) getFeeEstimates(r *http.Request) (any, error) {
	return n.view(r, func(*index) (any, error) {
		all, dearest := map[string]float64{}, n.byRate()
		for target := 1; target <= 1008; target++ {
			if target <= 25 || target == 144 || target == 504 || target == 1008 {
				all[strconv.Itoa(target)] = float64(n.estimate(target, dearest)) / 1000
			}
		}
		return all, nil
	})
}

// getDevnet is how a client knows that this is a devnet and not just any regtest Esplora.
func (n *Node) getDevnet(r *http.Request) (any, error) {
	return n.view(r, func(x *index) (any, error) {
		return map[string]any{"devnet": "spillway", "network": n.params.Name, "height": x.tip().height}, nil
	})
}

// decode reads a small JSON object, with no field that is unknown.
func decode(r *http.Request, into any) error {
	raw, err := body(r, maxJSONBody)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return httpErrorf(http.StatusBadRequest, "Invalid JSON: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return httpErrorf(http.StatusBadRequest, "Invalid JSON: more than one value")
	}
	return nil
}

func (n *Node) postFaucet(r *http.Request) (any, error) {
	var q struct {
		Address string `json:"address"`
		Script  string `json:"script"`
		Sat     int64  `json:"sat"`
	}
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	var script []byte
	var err error
	switch {
	case (q.Address == "") == (q.Script == ""):
		return nil, httpErrorf(http.StatusBadRequest, "Either an address or a script is needed")
	case q.Address != "":
		script, err = addressScript(q.Address, n.params)
	default:
		script, err = hex.DecodeString(q.Script)
	}
	if err != nil {
		return nil, httpErrorf(http.StatusBadRequest, "Invalid address or script: %v", err)
	}
	id, err := n.Faucet(r.Context(), script, q.Sat)
	if err != nil {
		return nil, err
	}
	return map[string]any{"txid": id.String(), "sat": q.Sat}, nil
}

func (n *Node) postMine(r *http.Request) (any, error) {
	q := struct {
		Blocks int `json:"blocks"`
	}{1}
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	hashes, err := n.Mine(q.Blocks)
	if err != nil {
		return nil, err
	}
	return n.mined(r, hashes)
}

func (n *Node) mined(r *http.Request, hashes []chainhash.Hash) (any, error) {
	tip, err := n.Tip(r.Context())
	if err != nil {
		return nil, err
	}
	return map[string]any{"hashes": texts(hashes), "height": tip.Height, "hash": tip.Hash.String()}, nil
}

func texts(hashes []chainhash.Hash) []string {
	all := make([]string, len(hashes))
	for i := range hashes {
		all[i] = hashes[i].String()
	}
	return all
}

// postReorg takes {depth, length, drop, mine}: length is depth+1 unless it is given, drop lists txids, mine lists
// transactions in hex.
func (n *Node) postReorg(r *http.Request) (any, error) {
	var q struct {
		Depth  int      `json:"depth"`
		Length int      `json:"length"`
		Drop   []string `json:"drop"`
		Mine   []string `json:"mine"`
	}
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	o := ReorgOptions{Depth: q.Depth, Length: q.Length}
	if o.Length == 0 {
		o.Length = o.Depth + 1
	}
	for _, s := range q.Drop {
		h, err := chainhash.NewHashFromStr(s)
		if err != nil {
			return nil, httpErrorf(http.StatusBadRequest, "Invalid txid %q", s)
		}
		o.Drop = append(o.Drop, *h)
	}
	for _, s := range q.Mine {
		raw, err := hex.DecodeString(s)
		if err != nil {
			return nil, httpErrorf(http.StatusBadRequest, "Invalid transaction hex")
		}
		tx, err := decodeTx(raw)
		if err != nil {
			return nil, httpErrorf(http.StatusBadRequest, "Invalid transaction: %v", err)
		}
		o.Mine = append(o.Mine, tx)
	}
	hashes, err := n.ReorgWith(o)
	if err != nil {
		return nil, err
	}
	return n.mined(r, hashes)
}
