// Package several asks two or more backends about one chain and gives the more cautious of their answers, with an
// alarm where they differ, lag or fail.
//
// The rules: a spend or a transaction counts as soon as one backend shows it; it counts as confirmed only when all
// say so, and only as deep as the least of them says; coins count only when all list them; time is the highest tip
// that the chain can have reached, so that deadlines are never met late; what is sent goes to all. One backend that lies can therefore cause fuss
// (a channel closed early, a sale that waits), and have fees paid that nobody needed (docs/security.md, "What is known and
// open"); more is lost only where all of them lie together. A backend that can't be
// asked keeps nothing from being seen, and new confirmations from counting.
//
// It decides nothing about channels, verifies no proof of work, starts no goroutine and keeps nothing on disk.
package several

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

// ErrConfig says that a Config can't be used.
var ErrConfig = errors.New("several: bad configuration")

// Member is one of the backends.
type Member struct {
	Name    string // for people, without credentials
	Backend chain.Backend
}

// Defaults of Config.
const (
	DefaultGrace = 30 * time.Second
	DefaultLag   = 2 // blocks
)

// feeSpread is how many times the lowest estimate the answer may be.
const feeSpread = 4

// Config is what a Backend needs.
type Config struct {
	Members []Member // two or more, with different names
	// Grace is how long backends may differ before that is an alarm: blocks and transactions take their time to all
	// of them. 0: 30 seconds; negative: none.
	Grace time.Duration
	// Lag is how many blocks one may be behind another; 0: 2.
	Lag uint32
	// Pace is how long the network takes for a block: how fast the highest tip may run away from the others after all
	// agreed. 0: as fast as it says, as on a chain whose blocks are made at will.
	Pace time.Duration
	// Now is the clock of Grace and Pace; nil: time.Now.
	Now func() time.Time
	// OnAlarm is told of each alarm when it is raised, and again with Over set when it is over. It is called by
	// whoever asks, one at a time, and must not ask this backend.
	OnAlarm func(Alarm)
	Logger  *slog.Logger
}

// Backend implements chain.Backend over several. It is safe for concurrent use.
type Backend struct {
	cfg Config

	mu     sync.Mutex
	doubts map[subject]*doubt
	agreement
	agreed map[chainhash.Hash]chainhash.Hash // txid → block that all had it in
}

var (
	_ chain.Backend       = (*Backend)(nil)
	_ chain.HealthChecker = (*Backend)(nil)
	_ chain.ScriptWatcher = (*Backend)(nil)
	_ chain.ScriptHinter  = (*Backend)(nil)
)

// New makes a backend; it asks nobody yet. Errors: ErrConfig.
func New(cfg Config) (*Backend, error) {
	if len(cfg.Members) < 2 {
		return nil, fmt.Errorf("%w: %d backends", ErrConfig, len(cfg.Members))
	}
	names := map[string]bool{}
	for _, m := range cfg.Members {
		if m.Backend == nil || m.Name == "" || names[m.Name] {
			return nil, fmt.Errorf("%w: %q is there twice, or is none", ErrConfig, m.Name)
		}
		names[m.Name] = true
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.Lag == 0 {
		cfg.Lag = DefaultLag
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Backend{cfg: cfg, doubts: map[subject]*doubt{}, agreed: map[chainhash.Hash]chainhash.Hash{}}, nil
}

// answer is what one member said.
type answer[T any] struct {
	name  string
	can   chain.Capabilities // of the member
	value T
	err   error // nil, or chain.ErrNotFound
}

// those are the answers of the members that can do something; all of them where none can.
func those[T any](said []answer[T], can func(chain.Capabilities) bool) (some []answer[T]) {
	for _, a := range said {
		if can(a.can) {
			some = append(some, a)
		}
	}
	if len(some) == 0 {
		return said
	}
	return some
}

func seesMempool(c chain.Capabilities) bool { return c.Mempool }

// ask puts one question to all members at once. failed are the errors of those that can't be asked; all of them
// failing is an error.
func ask[T any](ctx context.Context, b *Backend, what string, q func(context.Context, chain.Backend) (T, error)) (said []answer[T], down int, err error) {
	all := make([]answer[T], len(b.cfg.Members))
	var wg sync.WaitGroup
	for i, m := range b.cfg.Members {
		wg.Go(func() {
			v, err := q(ctx, m.Backend)
			all[i] = answer[T]{m.Name, m.Backend.Capabilities(), v, err}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, 0, fmt.Errorf("%w: %s: %w", chain.ErrUnavailable, what, ctx.Err())
	}
	var failed []error
	for _, a := range all {
		bad := a.err != nil && !errors.Is(a.err, chain.ErrNotFound)
		b.note(subject{Unreachable, a.name, ""}, bad, func() string { return a.err.Error() })
		if bad {
			failed = append(failed, fmt.Errorf("%s: %w", a.name, a.err))
			continue
		}
		said = append(said, a)
	}
	if len(said) == 0 {
		return nil, len(failed), fmt.Errorf("%w: no backend answers: %w", chain.ErrUnavailable, errors.Join(failed...))
	}
	return said, len(failed), nil
}

// Tip implements chain.Backend: the highest that is plausible.
func (b *Backend) Tip(ctx context.Context) (chain.Tip, error) {
	said, _, err := b.tips(ctx)
	if err != nil {
		return chain.Tip{}, err
	}
	return b.capped(ctx, said), nil
}

// named is a tip, and who names it.
type named struct {
	chain.Tip
	name string
}

func highest(said []answer[chain.Tip]) named {
	best := said[0]
	for _, a := range said[1:] {
		if a.value.Height > best.value.Height {
			best = a
		}
	}
	return named{best.value, best.name}
}

// tips asks all for their tip and notes who lags and who is on another branch.
func (b *Backend) tips(ctx context.Context) (said []answer[chain.Tip], down int, err error) {
	said, down, err = ask(ctx, b, "tip", func(ctx context.Context, c chain.Backend) (chain.Tip, error) { return c.Tip(ctx) })
	if err != nil {
		return nil, down, err
	}
	best := highest(said)
	for _, a := range said {
		b.note(subject{Lagging, a.name, ""}, best.Height-a.value.Height > b.cfg.Lag, func() string {
			return fmt.Sprintf("it is at block %d, another at %d", a.value.Height, best.Height)
		})
	}
	b.settle(said)
	return said, down, b.sameBranch(ctx, said)
}

// sameBranch compares the hashes at the lowest of the tips.
func (b *Backend) sameBranch(ctx context.Context, tips []answer[chain.Tip]) error {
	low, equal := tips[0].value.Height, true
	for _, a := range tips {
		low = min(low, a.value.Height)
		equal = equal && a.value.Hash == tips[0].value.Hash
	}
	if equal {
		b.note(subject{Split, "", ""}, false, nil)
		return nil
	}
	said, _, err := ask(ctx, b, "block hash", func(ctx context.Context, c chain.Backend) (chainhash.Hash, error) { return c.BlockHash(ctx, low) })
	if err != nil {
		return err
	}
	b.noteSplit(low, said)
	return nil
}

func (b *Backend) noteSplit(height uint32, said []answer[chainhash.Hash]) {
	var first *answer[chainhash.Hash]
	for i, a := range said {
		if a.err != nil {
			continue
		}
		if first == nil {
			first = &said[i]
			continue
		}
		if a.value != first.value {
			b.note(subject{Split, "", ""}, true, func() string {
				return fmt.Sprintf("block %d is %s for %s and %s for %s", height, first.value, first.name, a.value, a.name)
			})
			return
		}
	}
	b.note(subject{Split, "", ""}, false, nil)
}

// BlockHash implements chain.Backend: that of the backend with the highest tip.
func (b *Backend) BlockHash(ctx context.Context, height uint32) (chainhash.Hash, error) {
	type at struct {
		hash chainhash.Hash
		tip  uint32
	}
	said, _, err := ask(ctx, b, "block hash", func(ctx context.Context, c chain.Backend) (at, error) {
		tip, err := c.Tip(ctx)
		if err != nil {
			return at{}, err
		}
		hash, err := c.BlockHash(ctx, height)
		return at{hash, tip.Height}, err
	})
	if err != nil {
		return chainhash.Hash{}, err
	}
	var best *at
	for i, a := range said {
		if a.err == nil && (best == nil || a.value.tip > best.tip) {
			best = &said[i].value
		}
	}
	if best == nil {
		return chainhash.Hash{}, said[0].err
	}
	return best.hash, nil
}

// Capabilities implements chain.Backend: what one can do, all can together, but for packages, which go to nobody.
func (b *Backend) Capabilities() chain.Capabilities {
	c := chain.Capabilities{NoVersion3: true}
	for _, m := range b.cfg.Members {
		one := m.Backend.Capabilities()
		c.Mempool = c.Mempool || one.Mempool
		c.FeeEstimates = c.FeeEstimates || one.FeeEstimates
		c.RejectReasons = c.RejectReasons || one.RejectReasons
		c.NoVersion3 = c.NoVersion3 && one.NoVersion3
	}
	return c
}

// Broadcast implements chain.Backend: to all. One that takes it is enough; it is refused when all refuse it.
func (b *Backend) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	type verdict struct{ refused error }
	said, down, err := ask(ctx, b, "broadcast", func(ctx context.Context, c chain.Backend) (verdict, error) {
		err := c.Broadcast(ctx, tx.Copy())
		if errors.Is(err, chain.ErrRejected) {
			return verdict{err}, nil
		}
		return verdict{}, err
	})
	if err != nil {
		return err
	}
	// One that is never told why something is refused is often not told at all: its silence is no consent while
	// another one can speak.
	taken, refused := "", error(nil)
	for _, a := range those(said, func(c chain.Capabilities) bool { return c.RejectReasons }) {
		switch {
		case a.err == nil && a.value.refused == nil:
			taken = a.name
		case refused == nil:
			refused = a.value.refused
		}
	}
	b.note(subject{Refusal, "", tx.TxHash().String()}, taken != "" && refused != nil, func() string {
		return fmt.Sprintf("%s takes it, another does not: %v", taken, refused)
	})
	switch {
	case taken != "":
		return nil
	case down > 0: // one that can't be asked might take it
		return fmt.Errorf("%w: a backend did not answer, another refused: %w", chain.ErrUnavailable, refused)
	}
	return refused
}

// FeeRate implements chain.Backend: the highest estimate, and not more than four times the lowest. What is no estimate
// but a guess counts only where there is nothing else.
func (b *Backend) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	said, _, err := ask(ctx, b, "fee rate", func(ctx context.Context, c chain.Backend) (script.FeeRate, error) { return c.FeeRate(ctx, blocks) })
	if err != nil {
		return 0, err
	}
	said = those(said, func(c chain.Capabilities) bool { return c.FeeEstimates })
	low, high := said[0].value, said[0].value
	for _, a := range said {
		low, high = min(low, a.value), max(high, a.value)
	}
	b.note(subject{Fees, "", ""}, high > low*feeSpread, func() string {
		return fmt.Sprintf("estimates for %d blocks go from %d to %d sat per 1000 vB", blocks, low, high)
	})
	return chain.ClampFeeRate(min(high, low*feeSpread)), nil
}

// WatchScripts implements chain.ScriptWatcher for those that do.
func (b *Backend) WatchScripts(ctx context.Context, scripts ...[]byte) error {
	_, _, err := ask(ctx, b, "watch scripts", func(ctx context.Context, c chain.Backend) (struct{}, error) {
		if w, ok := c.(chain.ScriptWatcher); ok {
			return struct{}{}, w.WatchScripts(ctx, scripts...)
		}
		return struct{}{}, nil
	})
	return err
}

// HintScripts implements chain.ScriptHinter.
func (b *Backend) HintScripts(scripts ...[]byte) {
	for _, m := range b.cfg.Members {
		chain.Hint(m.Backend, scripts...)
	}
}

// Health implements chain.HealthChecker: it is stale when all are.
func (b *Backend) Health(ctx context.Context) (chain.Health, error) {
	said, _, err := ask(ctx, b, "health", func(ctx context.Context, c chain.Backend) (chain.Health, error) {
		if h, ok := c.(chain.HealthChecker); ok {
			return h.Health(ctx)
		}
		tip, err := c.Tip(ctx)
		return chain.Health{Tip: tip, Headers: tip.Height, Peers: -1}, err
	})
	if err != nil {
		return chain.Health{}, err
	}
	sum := said[0].value
	for _, a := range said {
		h := a.value
		b.note(subject{Lagging, a.name, "sync"}, h.Syncing, func() string { return h.Stale().Error() })
		if h.Tip.Height > sum.Tip.Height {
			sum.Tip = h.Tip
		}
		sum.Headers = max(sum.Headers, h.Headers)
		sum.Syncing = sum.Syncing && h.Syncing
		sum.Peers, sum.Oldest, sum.Index = max(sum.Peers, h.Peers), max(sum.Oldest, h.Oldest), sum.Index && h.Index
	}
	return sum, nil
}

// Close closes the members that can be closed.
func (b *Backend) Close() error {
	var failed []error
	for _, m := range b.cfg.Members {
		if c, ok := m.Backend.(interface{ Close() error }); ok {
			failed = append(failed, c.Close())
		}
	}
	return errors.Join(failed...)
}

// Members are the names of the backends, in order.
func (b *Backend) Members() []string {
	names := make([]string, len(b.cfg.Members))
	for i, m := range b.cfg.Members {
		names[i] = m.Name
	}
	return slices.Clip(names)
}
