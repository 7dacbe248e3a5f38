package btcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/btcsuite/btcd/btcjson"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/rpcclient"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
)

// Codes of the node's RPC errors that mean something here.
const (
	codeRange    = -1 // a height beyond the tip
	codeNotFound = -5
	codeKnown    = -27
)

// isCode reports whether the node answered with an error of this code.
func isCode(err error, code int) bool {
	var r *btcjson.RPCError
	return errors.As(err, &r) && int(r.Code) == code
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

// dialed is the outcome of an attempt to connect.
type dialed struct {
	client *rpcclient.Client
	err    error
}

// rpc holds one websocket to a node, made when it is needed and made again when it was lost.
type rpc struct {
	cfg     Config
	lock    chan struct{} // holds one value
	client  *rpcclient.Client
	dialing chan dialed // an attempt is under way, and tells here how it ended
	closed  bool
}

func newRPC(cfg Config) *rpc {
	r := &rpc{cfg: cfg, lock: make(chan struct{}, 1)}
	r.lock <- struct{}{}
	return r
}

func (r *rpc) config() (*rpcclient.ConnConfig, error) {
	c := &rpcclient.ConnConfig{Host: r.cfg.Address, Endpoint: "ws", User: r.cfg.User, Pass: r.cfg.Password, DisableTLS: r.cfg.Plain,
		DisableAutoReconnect: true}
	if !r.cfg.Plain && r.cfg.CertFile != "" {
		var err error
		if c.Certificates, err = os.ReadFile(r.cfg.CertFile); err != nil {
			return nil, fmt.Errorf("the certificate of its RPC: %w", err)
		}
		if !bytes.Contains(c.Certificates, []byte("CERTIFICATE")) {
			return nil, fmt.Errorf("the certificate of its RPC: %s holds none", r.cfg.CertFile)
		}
	}
	return c, nil
}

// connect gives the connection; old is one that was found broken. One attempt is under way at a time, whoever waits
// for it.
func (r *rpc) connect(ctx context.Context, old *rpcclient.Client) (*rpcclient.Client, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.lock:
		defer func() { r.lock <- struct{}{} }()
	}
	if r.closed {
		return nil, errClosed
	}
	if r.client != nil && (r.client == old || r.client.Disconnected()) {
		r.client.Shutdown()
		r.client = nil
	}
	if r.client != nil {
		return r.client, nil
	}
	if r.dialing == nil {
		cfg, err := r.config()
		if err != nil {
			return nil, err
		}
		r.dialing = make(chan dialed, 1)
		go func(done chan<- dialed) {
			client, err := rpcclient.New(cfg, nil)
			done <- dialed{client, err}
		}(r.dialing)
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case d := <-r.dialing:
		r.dialing = nil
		if d.err != nil {
			return nil, d.err
		}
		r.client = d.client
		return d.client, nil
	}
}

var errClosed = errors.New("the client is closed")

// close ends the connection for good.
func (r *rpc) close() {
	<-r.lock
	defer func() { r.lock <- struct{}{} }()
	r.closed = true
	if r.client != nil {
		r.client.Shutdown()
		r.client.WaitForShutdown()
		r.client = nil
	}
	if r.dialing != nil {
		if d := <-r.dialing; d.err == nil {
			d.client.Shutdown()
			d.client.WaitForShutdown()
		}
		r.dialing = nil
	}
}

// call asks one thing. Errors: *btcjson.RPCError, chain.ErrUnavailable.
func (r *rpc) call(ctx context.Context, into any, method string, params ...any) error {
	return r.batch(ctx, method, [][]any{params}, func(_ int, a answer) error { return a.read(into) })
}

// answer is what came back for one question.
type answer struct {
	method string
	raw    json.RawMessage
	err    error
}

// read decodes an answer. Errors: *btcjson.RPCError, chain.ErrUnavailable.
func (a answer) read(into any) error {
	if a.err != nil {
		return fmt.Errorf("btcd: %s: %w", a.method, a.err)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(a.raw, into); err != nil {
		return nonsense("%s: %v", a.method, err)
	}
	return nil
}

// together is how many questions are under way at once.
const together = 32

// batch asks the same of many things at once; each gets the answer number i, in order. A connection that was lost is
// made again once: every question may be asked twice.
func (r *rpc) batch(ctx context.Context, method string, params [][]any, each func(i int, a answer) error) error {
	for from := 0; from < len(params); from += together {
		part := params[from:min(from+together, len(params))]
		answers, old, err := r.ask(ctx, nil, method, part)
		if lost(err) && ctx.Err() == nil {
			answers, _, err = r.ask(ctx, old, method, part)
		}
		if err != nil {
			return said.Unavailable(method, explained(err))
		}
		for i, a := range answers {
			if err := each(from+i, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// lost reports whether an error says that the connection broke.
func lost(err error) bool {
	return errors.Is(err, rpcclient.ErrClientDisconnect) || errors.Is(err, rpcclient.ErrClientShutdown)
}

// explained makes the errors of a connection those of this package.
func explained(err error) error {
	switch {
	case errors.Is(err, rpcclient.ErrInvalidAuth):
		return fmt.Errorf("%w: %w", ErrAuth, err)
	case strings.Contains(err.Error(), "x509:"), strings.Contains(err.Error(), "tls:"):
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return err
}

// ask sends questions down the connection and waits for all answers.
func (r *rpc) ask(ctx context.Context, old *rpcclient.Client, method string, params [][]any) ([]answer, *rpcclient.Client, error) {
	limit, cancel := context.WithTimeoutCause(ctx, r.cfg.Timeout, errSlow)
	defer cancel()
	client, err := r.connect(limit, old)
	if err != nil {
		return nil, nil, because(limit, err)
	}
	type received struct {
		i   int
		raw json.RawMessage
		err error
	}
	got := make(chan received, len(params))
	for i, p := range params {
		raw := make([]json.RawMessage, len(p))
		for j, v := range p {
			if raw[j], err = json.Marshal(v); err != nil {
				return nil, client, err
			}
		}
		future := client.RawRequestAsync(method, raw)
		go func() {
			raw, err := future.Receive()
			got <- received{i, raw, err}
		}()
	}
	answers := make([]answer, len(params))
	for range params {
		select {
		case g := <-got:
			if lost(g.err) {
				return nil, client, g.err
			}
			answers[g.i] = answer{method, g.raw, g.err}
		case <-limit.Done():
			if ctx.Err() == nil {
				client.Shutdown() // a node that answers nothing: the next question connects again
			}
			return nil, client, because(limit, limit.Err())
		}
	}
	for _, a := range answers {
		var refused *btcjson.RPCError
		if a.err != nil && !errors.As(a.err, &refused) {
			return nil, client, a.err
		}
	}
	return answers, client, nil
}

var errSlow = errors.New("the node does not answer in time")

// because is the cause of a context's end, next to the error of it.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}
