package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// network is the chain, with an entrance for each side: it takes down who sent what.
type network struct {
	*devnet.Node
	mu   sync.Mutex
	sent []sending
	lax  map[wire.OutPoint]*wire.MsgTx // by what it spends: what only the provider's own node has taken
}

// sending is a transaction that a side gave to the network, and what became of it.
type sending struct {
	By      Side        `json:"by"`
	Tx      channel.Hex `json:"tx"`
	Refused string      `json:"refused,omitempty"`
	Taken   bool        `json:"taken"`
}

// entrance is the chain as one side reaches it.
type entrance struct {
	*network
	by Side
}

// Broadcast implements chain.Backend.
func (e entrance) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	err := e.Node.Broadcast(ctx, tx)
	raw, coding := channel.EncodeTx(tx)
	if coding != nil {
		return errors.Join(err, coding)
	}
	s := sending{By: e.by, Tx: raw, Taken: err == nil}
	if reject := (*chain.RejectError)(nil); errors.As(err, &reject) {
		s.Refused = reject.Reason
	} else if err != nil {
		s.Refused = err.Error()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.network.sent = append(e.network.sent, s)
	return err
}

// orders are what the story can ask of the chain.
func (n *network) orders() handlers {
	return handlers{
		"mine": on(func(_ context.Context, blocks int) (any, error) { return n.Mine(blocks) }),
		"block": on(func(_ context.Context, raw []channel.Hex) (any, error) {
			txs := make([]*wire.MsgTx, len(raw))
			for i := range raw {
				var err error
				if txs[i], err = channel.DecodeTx(raw[i]); err != nil {
					return nil, err
				}
			}
			_, err := n.MineBlock(txs...)
			return nil, err
		}),
		"reorg": on(func(_ context.Context, a reorgArgs) (any, error) {
			_, err := n.ReorgWith(devnet.ReorgOptions{Depth: a.Depth, Length: a.Depth + 1, Drop: []chainhash.Hash{a.Drop}})
			return nil, err
		}),
		"rate": on(func(_ context.Context, rate script.FeeRate) (any, error) {
			n.SetFeeRate(rate)
			return nil, nil
		}),
		"faucet": on(func(ctx context.Context, a faucetArgs) (any, error) {
			return n.Faucet(ctx, a.Script, a.Sat)
		}),
		"sent": on(func(context.Context, struct{}) (any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			all := n.sent
			n.sent = nil
			return all, nil
		}),
		"show": on(n.show),
	}
}

type (
	reorgArgs struct {
		Depth int            `json:"depth"`
		Drop  chainhash.Hash `json:"drop"`
	}
	faucetArgs struct {
		Script channel.Hex `json:"script"`
		Sat    int64       `json:"sat"`
	}
)

// show puts a transaction into the mempool of the provider's own node alone: one that
// relays what cannot be mined yet.
func (n *network) show(_ context.Context, raw channel.Hex) (any, error) {
	tx, err := channel.DecodeTx(raw)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lax == nil {
		n.lax = map[wire.OutPoint]*wire.MsgTx{}
	}
	for _, in := range tx.TxIn {
		n.lax[in.PreviousOutPoint] = tx
	}
	return nil, nil
}

// shown finds what the lax node alone has taken.
func (e entrance) shown(match func(op wire.OutPoint, tx *wire.MsgTx) bool) *wire.MsgTx {
	if e.by != Payee {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for op, tx := range e.lax {
		if match(op, tx) {
			return tx
		}
	}
	return nil
}

// Spend implements chain.Backend.
func (e entrance) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	s, err := e.Node.Spend(ctx, op)
	if err != nil || s != nil {
		return s, err
	}
	tx := e.shown(func(spent wire.OutPoint, _ *wire.MsgTx) bool { return spent == op })
	if tx == nil {
		return nil, nil
	}
	for i, in := range tx.TxIn {
		if in.PreviousOutPoint == op {
			return &chain.Spend{Txid: tx.TxHash(), Vin: uint32(i)}, nil
		}
	}
	return nil, nil
}

// Tx implements chain.Backend.
func (e entrance) Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error) {
	info, err := e.Node.Tx(ctx, txid)
	if !errors.Is(err, chain.ErrNotFound) {
		return info, err
	}
	if tx := e.shown(func(_ wire.OutPoint, tx *wire.MsgTx) bool { return tx.TxHash() == txid }); tx != nil {
		return chain.TxInfo{Tx: tx}, nil
	}
	return info, err
}

// serve is the devnet's Esplora as one side reaches it: what the side sends is
// taken down, and the provider's own node shows what it alone has taken.
func (e entrance) serve(esplora http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", esplora)
	mux.HandleFunc("POST /tx", e.postTx)
	mux.HandleFunc("GET /tx/{txid}/outspend/{vout}", func(w http.ResponseWriter, r *http.Request) {
		hash, err := chainhash.NewHashFromStr(r.PathValue("txid"))
		var vout uint32
		if _, scan := fmt.Sscan(r.PathValue("vout"), &vout); err != nil || scan != nil {
			esplora.ServeHTTP(w, r)
			return
		}
		op := wire.OutPoint{Hash: *hash, Index: vout}
		if on, err := e.Node.Spend(r.Context(), op); err != nil || on != nil {
			esplora.ServeHTTP(w, r)
			return
		}
		if s, err := e.Spend(r.Context(), op); err == nil && s != nil {
			answerJSON(w, map[string]any{"spent": true, "txid": s.Txid.String(), "vin": s.Vin, "status": map[string]any{"confirmed": false}})
			return
		}
		esplora.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /tx/{txid}/{what}", func(w http.ResponseWriter, r *http.Request) {
		hash, err := chainhash.NewHashFromStr(r.PathValue("txid"))
		if err != nil {
			esplora.ServeHTTP(w, r)
			return
		}
		tx := e.shown(func(_ wire.OutPoint, tx *wire.MsgTx) bool { return tx.TxHash() == *hash })
		_, unknown := e.Node.Tx(r.Context(), *hash)
		switch raw, err := channel.EncodeTx(orEmpty(tx)); {
		case tx == nil, err != nil, unknown == nil:
			esplora.ServeHTTP(w, r)
		case r.PathValue("what") == "hex":
			fmt.Fprint(w, raw.String())
		case r.PathValue("what") == "status":
			answerJSON(w, map[string]any{"confirmed": false})
		default:
			esplora.ServeHTTP(w, r)
		}
	})
	return mux
}

func orEmpty(tx *wire.MsgTx) *wire.MsgTx {
	if tx == nil {
		return wire.NewMsgTx(2)
	}
	return tx
}

// postTx is Esplora's POST /tx, in its words.
func (e entrance) postTx(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var raw channel.Hex
	if err := raw.UnmarshalText([]byte(strings.TrimSpace(string(body)))); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	tx, err := channel.DecodeTx(raw)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var reject *chain.RejectError
	switch err := e.Broadcast(r.Context(), tx); {
	case errors.As(err, &reject):
		http.Error(w, "sendrawtransaction RPC error: "+rpcError(reject.Reason), http.StatusBadRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		fmt.Fprint(w, tx.TxHash().String())
	}
}

// rpcError is a refusal as a node wraps it.
func rpcError(reason string) string {
	raw, err := json.Marshal(map[string]any{"code": -26, "message": reason})
	if err != nil {
		return reason
	}
	return string(raw)
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	raw, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := w.Write(raw); err != nil {
		return // the side that asked is gone
	}
}
