package esplora

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
	"github.com/spillway/spillway/script"
)

// Limits of answers, in bytes.
const (
	maxText  = 4 << 10
	maxJSON  = 1 << 20
	maxPage  = 32 << 20 // a page of history: 25 transactions in JSON
	maxTxHex = 2*wire.MaxBlockPayload + 1
	maxPause = 5 * time.Second // of what a busy server asks for between two tries
)

// statusError is an answer of 4xx that is no "not found": the server understood and refused.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.text) }

func unavailable(path string, err error) error {
	return fmt.Errorf("%w: %s: %w", chain.ErrUnavailable, path, err)
}

func nonsense(format string, args ...any) error {
	return fmt.Errorf("%w: %w: %s", chain.ErrUnavailable, ErrNonsense, fmt.Sprintf(format, args...))
}

// unlessNotFound turns a "not found" that can't be into nonsense.
func unlessNotFound(err error, what string) error {
	if errors.Is(err, chain.ErrNotFound) {
		return nonsense("%s", what)
	}
	return refusedIs(err)
}

// refusedIs turns a refusal into unavailability: the question was a right one.
func refusedIs(err error) error {
	var refused *statusError
	if errors.As(err, &refused) {
		return fmt.Errorf("%w: %w", chain.ErrUnavailable, err)
	}
	return err
}

func (c *Client) get(ctx context.Context, path string, most int64) ([]byte, error) {
	return c.do(ctx, http.MethodGet, path, "", nil, most)
}

// do sends a request, again where a busy server puts it off, and gives the body of a 200.
// Errors: chain.ErrNotFound, *statusError, chain.ErrUnavailable.
func (c *Client) do(ctx context.Context, method, path, kind string, send []byte, most int64) (body []byte, err error) {
	for try := 1; ; try++ {
		var pause time.Duration
		body, pause, err = c.once(ctx, method, path, kind, send, most)
		if pause == 0 || try >= c.cfg.Tries {
			return body, err
		}
		if serr := c.cfg.Sleep(ctx, pause); serr != nil {
			return nil, unavailable(path, serr)
		}
	}
}

// once sends a request; a pause above zero says that it may be sent again after it.
func (c *Client) once(ctx context.Context, method, path, kind string, send []byte, most int64) (_ []byte, pause time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(send))
	if err != nil {
		return nil, 0, unavailable(path, err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	req.Header.Set("User-Agent", "spillway")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, 0, unavailable(path, err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, 0, unavailable(path, err)
	}
	if int64(len(body)) > most {
		return nil, 0, nonsense("%s: the answer is longer than %d bytes", path, most)
	}
	switch s := resp.StatusCode; {
	case s == http.StatusOK:
		return body, 0, nil
	case s == http.StatusNotFound:
		return nil, 0, fmt.Errorf("%w: %s", chain.ErrNotFound, path)
	case s == http.StatusTooManyRequests, s == http.StatusBadGateway, s == http.StatusServiceUnavailable, s == http.StatusGatewayTimeout:
		return nil, pauseOf(resp), unavailable(path, &statusError{s, clip(body)})
	case s >= 400 && s < 500 && s != http.StatusRequestTimeout:
		return nil, 0, fmt.Errorf("esplora: %s: %w", path, &statusError{s, clip(body)})
	default:
		return nil, 0, unavailable(path, errors.New("status "+strconv.Itoa(s)))
	}
}

// pauseOf is how long a busy server wants to be left alone.
func pauseOf(resp *http.Response) time.Duration {
	pause := time.Second
	if s, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil && s > 0 {
		pause = time.Duration(s) * time.Second
	}
	return min(pause, maxPause)
}

// clip makes a server's text fit for a log: one line of at most 500 printable bytes.
func clip(body []byte) string { return said.Clip(string(body), 500) }

// parseJSON reads one JSON value and nothing after it; unknown fields are other servers' additions.
func parseJSON(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return nonsense("%v", err)
	}
	return nil
}

func parseHash(s string) (h chainhash.Hash, err error) {
	s = strings.TrimSpace(s)
	if len(s) != 2*chainhash.HashSize {
		return h, nonsense("%q is not a hash", clip([]byte(s)))
	}
	if err := chainhash.Decode(&h, s); err != nil {
		return h, nonsense("%q is not a hash", s)
	}
	return h, nil
}

// parseTx reads a transaction in hex that must have this txid. One of 64 bytes without witnesses is refused: it can
// be taken for an inner node of a Merkle tree (CVE-2017-12842), and no node relays it.
func parseTx(text []byte, txid chainhash.Hash) (*wire.MsgTx, error) {
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, nonsense("transaction %s is not in hex", txid)
	}
	tx, err := script.DecodeTx(raw)
	if err != nil {
		return nil, nonsense("transaction %s: %v", txid, err)
	}
	switch {
	case tx.TxHash() != txid:
		return nil, nonsense("transaction %s was asked for, the bytes are those of %s", txid, tx.TxHash())
	case tx.SerializeSizeStripped() == 64:
		return nil, nonsense("transaction %s has 64 bytes", txid)
	}
	return tx, nil
}

// status is where an Esplora says that a transaction is.
type status struct {
	Confirmed *bool   `json:"confirmed"`
	Height    *uint32 `json:"block_height"`
	Hash      string  `json:"block_hash"`
}

// parse checks that a status is whole.
func (s *status) parse() (confirmed bool, height uint32, hash chainhash.Hash, err error) {
	switch {
	case s == nil || s.Confirmed == nil:
		return false, 0, hash, nonsense("a status does not say whether it is confirmed")
	case !*s.Confirmed:
		return false, 0, hash, nil
	case s.Height == nil:
		return false, 0, hash, nonsense("a confirmed transaction has no height")
	}
	hash, err = parseHash(s.Hash)
	return true, *s.Height, hash, err
}
