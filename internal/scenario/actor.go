package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// Node is the chain of a story, as a part that somebody plays.
const Node Side = "chain"

// actor is a part of a story that takes orders: in this process, or in one of its own.
type actor interface {
	// order has something done; args and result go as JSON. Errors: those of the
	// order, with their sentinels; errDead.
	order(ctx context.Context, do string, args, result any) error
	// kill ends it as a loss of power does.
	kill() error
	// died reports whether it was killed, or killed itself; it waits for that.
	died() bool
	// pid is its process; 0: it has none of its own.
	pid() int
}

// handler carries out one kind of order.
type handler func(ctx context.Context, args json.RawMessage) (any, error)

// on makes a handler of a function with typed arguments.
func on[A any](f func(context.Context, A) (any, error)) handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var a A
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &a); err != nil {
				return nil, fmt.Errorf("the order is not understood: %w", err)
			}
		}
		return f(ctx, a)
	}
}

// handlers are all orders that a part knows.
type handlers map[string]handler

func (h handlers) do(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
	f, ok := h[name]
	if !ok {
		return nil, fmt.Errorf("there is no order %q", name)
	}
	result, err := f(ctx, args)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

// order implements actor: everything passes as JSON, as it does between processes.
func (h handlers) order(ctx context.Context, do string, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	answer, err := h.do(ctx, do, raw)
	if err != nil || result == nil {
		return err
	}
	return json.Unmarshal(answer, result)
}

// Errors of actors.
var (
	// errDead: the actor was killed, or killed itself, before it answered.
	errDead = errors.New("the power is gone")
	// errSilent: the other side gives no answer.
	errSilent = errors.New("there is no answer")
)

// known are the errors that keep their identity between processes.
var known = map[string]error{
	"unconfirmed": channel.ErrUnconfirmed, "insufficient": channel.ErrInsufficient, "expiring": channel.ErrExpiring,
	"finalized": channel.ErrFinalized, "terms": channel.ErrTerms, "unavailable": chain.ErrUnavailable, "not-found": chain.ErrNotFound,
	"block": devnet.ErrBlock, "unreachable": paywall.ErrUnreachable, "silent": errSilent, "dead": errDead,
}

// fault is an error between processes.
type fault struct {
	Text   string   `json:"text"`
	Kinds  []string `json:"kinds,omitempty"`
	Reject string   `json:"reject,omitempty"` // the node's own words, where it is a refusal of the chain's
}

func faultOf(err error) *fault {
	if err == nil {
		return nil
	}
	f := &fault{Text: err.Error()}
	for name, is := range known {
		if errors.Is(err, is) {
			f.Kinds = append(f.Kinds, name)
		}
	}
	if reject := (*chain.RejectError)(nil); errors.As(err, &reject) {
		f.Reject = reject.Reason
	}
	return f
}

// Error implements error.
func (f *fault) Error() string { return f.Text }

// Unwrap gives what the error was in the other process.
func (f *fault) Unwrap() (all []error) {
	for _, k := range f.Kinds {
		all = append(all, known[k])
	}
	if f.Reject != "" {
		all = append(all, &chain.RejectError{Reason: f.Reject})
	}
	return all
}

// part is what an actor has to know at its start.
type part struct {
	Role     Side                `json:"role"`
	Kind     script.Construction `json:"kind"`
	Duration uint32              `json:"duration"` // blocks from the opening to the expiry
	Seed     byte                `json:"seed"`     // of its randomness, another one for each start
	Now      int64               `json:"now"`      // unix seconds
	Dir      string              `json:"dir"`
	Chain    string              `json:"chain,omitempty"`    // URL of the Esplora, as this side reaches it
	Bitcoind string              `json:"bitcoind,omitempty"` // program that is the chain, instead of the embedded node
	Provider string              `json:"provider,omitempty"` // URL
	Listen   string              `json:"listen,omitempty"`   // address
}

// policy is what both sides demand of a channel.
func (p part) policy() channel.Policy {
	policy := channel.DefaultPolicy("regtest")
	policy.Duration, policy.Useful = p.Duration, 10
	return policy
}

// kinds are the constructions that the provider offers.
func (p part) kinds() []script.Construction {
	if p.Kind == script.Duplex {
		return everyWay
	}
	return oneWay
}

// gear is the machine that a side runs on.
type gear struct {
	part
	store *mortal
	chain *line
	rand  io.Reader
	now   func() time.Time
}

// dice differ for each start of a side, and are the same in every run. Several
// goroutines may throw them.
type dice struct {
	mu   sync.Mutex
	rand *rand.ChaCha8
}

func newDice(seed byte) *dice { return &dice{rand: rand.NewChaCha8([32]byte{seed})} }

// Read implements io.Reader.
func (d *dice) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.Read(p)
}
