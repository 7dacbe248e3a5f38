package bitcoind

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
)

// maxAnswer bounds an answer in bytes: a mempool of a million transactions, or a batch of blocks in hex.
const maxAnswer = 128 << 20

// maxBatch is how many calls travel in one request.
const maxBatch = 256

// tries is how often a request is sent that a busy node puts off.
const tries = 5

// refusal is an error that the node answered with.
type refusal struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *refusal) Error() string { return fmt.Sprintf("%s (%d)", clip(e.Message), e.Code) }

func isCode(err error, code int) bool {
	var r *refusal
	return errors.As(err, &r) && r.Code == code
}

func nonsense(format string, args ...any) error {
	return fmt.Errorf("%w: %w: %s", chain.ErrUnavailable, ErrNonsense, fmt.Sprintf(format, args...))
}

// clip makes a node's text fit for a log.
func clip(s string) string { return said.Clip(s, 500) }

func parseHash(s string) (chainhash.Hash, error) {
	h, ok := said.Hash(s)
	if !ok {
		return h, nonsense("%q is not a hash", clip(s))
	}
	return h, nil
}

// rpc sends calls to a node.
type rpc struct {
	url, name string
	cookie    string
	timeout   time.Duration
	http      *http.Client

	mu         sync.Mutex
	user, pass string
}

func newRPC(cfg Config) (*rpc, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: the URL cannot be read", ErrConfig) // its text may hold a password
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("%w: %q is not the http or https URL of a node", ErrConfig, u.Redacted())
	}
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	if cfg.HTTP != nil {
		own := *cfg.HTTP
		client = &own
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &rpc{url: u.String(), name: "bitcoind://" + u.Host, cookie: cfg.Cookie, timeout: cfg.Timeout, http: client,
		user: cfg.User, pass: cfg.Password}, nil
}

type request struct {
	Version string `json:"jsonrpc"`
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  []any  `json:"params"`
}

type response struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *refusal        `json:"error"`
}

// call asks one thing. Errors: *refusal, chain.ErrUnavailable.
func (r *rpc) call(ctx context.Context, into any, method string, params ...any) error {
	return r.callFor(ctx, r.timeout, into, method, params...)
}

// callFor is call with a time of its own.
func (r *rpc) callFor(ctx context.Context, limit time.Duration, into any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := r.send(ctx, limit, method, request{"1.0", 0, method, params})
	if err != nil {
		return err
	}
	var a response
	if err := json.Unmarshal(body, &a); err != nil {
		return nonsense("%s: %v", method, err)
	}
	return a.read(method, into)
}

func (a response) read(method string, into any) error {
	if a.Error != nil {
		return fmt.Errorf("bitcoind: %s: %w", method, a.Error)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(a.Result, into); err != nil {
		return nonsense("%s: %v", method, err)
	}
	return nil
}

// batch asks the same of many things, in their order. each gets the answer number i.
func (r *rpc) batch(ctx context.Context, method string, params [][]any, each func(i int, a response) error) error {
	for from := 0; from < len(params); from += maxBatch {
		part := params[from:min(from+maxBatch, len(params))]
		asks := make([]request, len(part))
		for i, p := range part {
			asks[i] = request{"1.0", i, method, p}
		}
		body, err := r.send(ctx, r.timeout, method, asks)
		if err != nil {
			return err
		}
		var answers []response
		if err := json.Unmarshal(body, &answers); err != nil {
			return nonsense("%s: %v", method, err)
		}
		seen := make([]bool, len(part))
		for _, a := range answers {
			if a.ID < 0 || a.ID >= len(part) || seen[a.ID] {
				return nonsense("%s: an answer to nothing", method)
			}
			seen[a.ID] = true
			if err := each(from+a.ID, a); err != nil {
				return err
			}
		}
		if len(answers) != len(part) {
			return nonsense("%s: %d answers to %d questions", method, len(answers), len(part))
		}
	}
	return nil
}

// send posts a request and gives the answer's bytes: again with the cookie as it is now where the node refuses the
// credentials, and again after a moment where it is busy.
func (r *rpc) send(ctx context.Context, limit time.Duration, method string, ask any) ([]byte, error) {
	raw, err := json.Marshal(ask)
	if err != nil {
		return nil, fmt.Errorf("bitcoind: ask %s: %w", method, err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	fresh := false
	for try := 1; ; try++ {
		user, pass, read, err := r.credentials(fresh)
		if err != nil {
			return nil, said.Unavailable(method, err)
		}
		fresh = fresh || read
		status, body, err := r.once(ctx, raw, user, pass)
		switch {
		case err != nil:
			return nil, said.Unavailable(method, err)
		case status == http.StatusOK || status == http.StatusInternalServerError || status == http.StatusNotFound || status == http.StatusBadRequest:
			return body, nil // an error is in the body
		case status == http.StatusUnauthorized || status == http.StatusForbidden:
			if r.cookie == "" || fresh {
				return nil, said.Unavailable(method, ErrAuth)
			}
			fresh = true
		case status == http.StatusServiceUnavailable && try < tries:
			if err := pause(ctx, 50*time.Millisecond<<try); err != nil {
				return nil, said.Unavailable(method, err)
			}
		default:
			return nil, said.Unavailable(method, fmt.Errorf("status %d: %s", status, clip(string(body))))
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// credentials are those to send; fresh has the cookie read again. read says that it was.
func (r *rpc) credentials(fresh bool) (user, pass string, read bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cookie != "" && (fresh || r.user == "") {
		raw, err := os.ReadFile(r.cookie)
		if err != nil {
			return "", "", false, fmt.Errorf("%w: the cookie file: %w", ErrAuth, err)
		}
		user, pass, ok := strings.Cut(strings.TrimSpace(string(raw)), ":")
		if !ok || user == "" {
			return "", "", false, fmt.Errorf("%w: %s is no cookie file", ErrAuth, r.cookie)
		}
		r.user, r.pass, read = user, pass, true
	}
	return r.user, r.pass, read, nil
}

func (r *rpc) once(ctx context.Context, raw []byte, user, pass string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(raw))
	if err != nil {
		return 0, nil, err
	}
	req.SetBasicAuth(user, pass)
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("%w: an answer longer than %d bytes", ErrNonsense, maxAnswer)
	}
	return resp.StatusCode, body, err
}
