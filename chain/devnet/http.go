package devnet

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
)

// Limits of the HTTP API.
const (
	maxTxBody    = 2 << 20          // bytes of POST /tx: twice the hex of the largest standard transaction
	maxJSONBody  = 64 << 10         // bytes of the devnet's own requests
	maxInFlight  = 128              // requests at once; more are told to come again
	bodyDeadline = 10 * time.Second // for a request's body
)

// httpError is an answer that is not 200, with the text that an Esplora gives as its body.
type httpError struct {
	status int
	text   string
}

func (e *httpError) Error() string { return e.text }

func httpErrorf(status int, format string, args ...any) error {
	return &httpError{status, fmt.Sprintf(format, args...)}
}

// handler answers one route: a string or []byte goes out as it is, anything else as JSON.
type handler func(r *http.Request) (any, error)

// Handler serves the Esplora HTTP API of the devnet, and GET /devnet, POST /faucet {address|script, sat},
// POST /mine {blocks} and POST /reorg {depth, length, drop} beside it. It has no authentication: it is for
// loopback, and its coins are worth nothing.
func (n *Node) Handler() http.Handler {
	mux := http.NewServeMux()
	for route, h := range map[string]handler{
		"GET /blocks/tip/height":         n.getTipHeight,
		"GET /blocks/tip/hash":           n.getTipHash,
		"GET /blocks":                    n.getBlocks,
		"GET /blocks/{start}":            n.getBlocks,
		"GET /block-height/{height}":     n.getBlockHeight,
		"GET /block/{hash}":              n.getBlock,
		"GET /block/{hash}/header":       n.getBlockHeader,
		"GET /block/{hash}/status":       n.getBlockStatus,
		"GET /block/{hash}/txids":        n.getBlockTxids,
		"GET /block/{hash}/txid/{index}": n.getBlockTxid,
		"GET /block/{hash}/txs":          n.getBlockTxs,
		"GET /block/{hash}/txs/{start}":  n.getBlockTxs,
		"GET /block/{hash}/raw":          n.getBlockRaw,
		"GET /tx/{txid}":                 n.getTx,
		"GET /tx/{txid}/hex":             n.getTxHex,
		"GET /tx/{txid}/raw":             n.getTxRaw,
		"GET /tx/{txid}/status":          n.getTxStatus,
		"GET /tx/{txid}/merkle-proof":    n.getMerkleProof,
		"GET /tx/{txid}/outspend/{vout}": n.getOutspend,
		"GET /tx/{txid}/outspends":       n.getOutspends,
		"POST /tx":                       n.postTx,
		"GET /mempool":                   n.getMempool,
		"GET /mempool/txids":             n.getMempoolTxids,
		"GET /mempool/recent":            n.getMempoolRecent,
		"GET /fee-estimates":             n.getFeeEstimates,
		"GET /devnet":                    n.getDevnet,
		"POST /faucet":                   n.postFaucet,
		"POST /mine":                     n.postMine,
		"POST /reorg":                    n.postReorg,
	} {
		mux.HandleFunc(route, n.serve(h))
	}
	for route, h := range map[string]handler{
		"":                      n.getScript,
		"/utxo":                 n.getScriptUTXO,
		"/txs":                  n.getScriptTxs,
		"/txs/chain":            n.getScriptTxsChain,
		"/txs/chain/{lastseen}": n.getScriptTxsChain,
		"/txs/mempool":          n.getScriptTxsMempool,
	} {
		for _, kind := range []string{"address", "scripthash"} {
			mux.HandleFunc("GET /"+kind+"/{id}"+route, func(w http.ResponseWriter, r *http.Request) {
				r.SetPathValue("kind", kind)
				n.serve(h)(w, r)
			})
		}
	}
	return limit(mux)
}

// limit bounds requests at once and the time that a body may take.
func limit(next http.Handler) http.Handler {
	slots := make(chan struct{}, maxInFlight)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "Too many requests", http.StatusServiceUnavailable)
			return
		}
		err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyDeadline))
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			http.Error(w, "Connection lost", http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (n *Node) serve(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := h(r)
		if err != nil {
			status, text := n.statusOf(err)
			http.Error(w, text, status)
			return
		}
		var body []byte
		switch a := answer.(type) {
		case string:
			w.Header().Set("Content-Type", "text/plain")
			body = []byte(a)
		case []byte:
			w.Header().Set("Content-Type", "application/octet-stream")
			body = a
		default:
			if body, err = json.Marshal(a); err != nil {
				n.log.Error("devnet: an answer is no JSON", "path", r.URL.Path, "err", err)
				http.Error(w, "Internal error", http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Header().Set("Cache-Control", "no-store")
		if _, err := w.Write(body); err != nil {
			n.log.Debug("devnet: an answer did not arrive", "path", r.URL.Path, "err", err)
		}
	}
}

// statusOf turns an error into an Esplora's status and body.
func (n *Node) statusOf(err error) (status int, text string) {
	var h *httpError
	switch {
	case errors.As(err, &h):
		return h.status, h.text
	case errors.Is(err, ErrRange), errors.Is(err, ErrBlock), errors.Is(err, ErrFaucetEmpty), errors.Is(err, chain.ErrRejected):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, chain.ErrUnavailable):
		return http.StatusServiceUnavailable, err.Error()
	}
	n.log.Error("devnet: a request failed", "err", err)
	return http.StatusInternalServerError, "Internal error"
}

// body reads a request's body up to a limit.
func body(r *http.Request, most int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	switch {
	case err != nil:
		return nil, httpErrorf(http.StatusBadRequest, "The body could not be read")
	case int64(len(raw)) > most:
		return nil, httpErrorf(http.StatusRequestEntityTooLarge, "The body is larger than %d bytes", most)
	}
	return raw, nil
}

// hash reads a txid or block hash of the path.
func pathHash(r *http.Request, name string) (chainhash.Hash, error) {
	s := r.PathValue(name)
	var h chainhash.Hash
	if len(s) != 2*chainhash.HashSize {
		return h, httpErrorf(http.StatusBadRequest, "Invalid hex string")
	}
	if err := chainhash.Decode(&h, s); err != nil {
		return h, httpErrorf(http.StatusBadRequest, "Invalid hex string")
	}
	return h, nil
}

func pathNumber(r *http.Request, name string) (uint32, error) {
	v, err := strconv.ParseUint(r.PathValue(name), 10, 32)
	if err != nil {
		return 0, httpErrorf(http.StatusBadRequest, "Invalid number")
	}
	return uint32(v), nil
}

// view runs fn with the index at rest.
func (n *Node) view(r *http.Request, fn func(*index) (any, error)) (answer any, err error) {
	err = n.read(r.Context(), func() error {
		answer, err = fn(n.idx)
		return err
	})
	return answer, err
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }
