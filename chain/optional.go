package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
)

// ErrStale says that a backend lags behind its network: it is still catching up, or its newest block is too old.
// The error is then a *StaleError.
var ErrStale = errors.New("the blockchain that is asked lags behind its network")

// StaleError says how far a backend lags. errors.Is(err, ErrStale) holds.
type StaleError struct {
	Tip     Tip
	Age     time.Duration // of the tip's timestamp; 0 where it is not what is wrong
	Headers uint32        // height that the backend knows headers up to; 0: not known
}

// Error implements error.
func (e *StaleError) Error() string {
	if e.Age > 0 {
		return fmt.Sprintf("%v: its newest block, %d, is %s old", ErrStale, e.Tip.Height, e.Age.Round(time.Minute))
	}
	return fmt.Sprintf("%v: it is at block %d of %d", ErrStale, e.Tip.Height, e.Headers)
}

// Is makes every StaleError an ErrStale.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// CheckTip finds a tip stale whose timestamp is more than most before now; most 0: no tip is, as on a regtest chain,
// where nobody mines. Errors: *StaleError.
func CheckTip(tip Tip, now time.Time, most time.Duration) error {
	if age := now.Sub(tip.Time); most > 0 && age > most {
		return &StaleError{Tip: tip, Age: age}
	}
	return nil
}

// Health is what a backend knows of its own state.
type Health struct {
	Tip     Tip
	Headers uint32 // height that it knows headers up to
	Syncing bool   // still catching up with its network for the first time or after a long pause
	Peers   int    // it is connected to; -1: not known
	Oldest  uint32 // height of the oldest block that it can look through; 0: all of them
	Index   bool   // finds any confirmed transaction by its txid
}

// Stale finds a backend stale that is still catching up. Errors: *StaleError.
func (h Health) Stale() error {
	if h.Syncing {
		return &StaleError{Tip: h.Tip, Headers: h.Headers}
	}
	return nil
}

// HealthChecker is a backend that can tell how well it follows its network.
type HealthChecker interface {
	Health(ctx context.Context) (Health, error)
}

// CheckStale asks a backend whether it lags: its health where it can tell that, and its tip's age against most.
// Errors: *StaleError, ErrUnavailable.
func CheckStale(ctx context.Context, b Backend, now time.Time, most time.Duration) error {
	if h, ok := b.(HealthChecker); ok {
		health, err := h.Health(ctx)
		if err != nil {
			return err
		}
		if err := health.Stale(); err != nil {
			return err
		}
		return CheckTip(health.Tip, now, most)
	}
	tip, err := b.Tip(ctx)
	if err != nil {
		return err
	}
	return CheckTip(tip, now, most)
}

// PackageSubmitter is a backend that can submit parents and their child together, so that the child pays for what
// alone would be below the relay floor. Capabilities.Packages says so.
type PackageSubmitter interface {
	// SubmitPackage gives parents and, last, their child to the network; nil also when they are known already.
	// Errors: *RejectError.
	SubmitPackage(ctx context.Context, txs ...*wire.MsgTx) error
}

// ScriptWatcher is a backend that searches for the coins of many scripts as fast as for those of one. It is a hint:
// every script can be asked for without it.
type ScriptWatcher interface {
	WatchScripts(ctx context.Context, scripts ...[]byte) error
}

// ScriptHinter is a backend that finds a confirmed transaction, or what spends one's output, only by a script that is
// paid: a light client, or a node without an index. What it was told here costs nothing until the next question.
type ScriptHinter interface {
	HintScripts(scripts ...[]byte)
}

// Hint tells a backend of scripts whose transactions it will be asked for, where it wants to know. Capabilities are
// not needed for it: to all others it means nothing.
func Hint(b any, scripts ...[]byte) {
	if h, ok := b.(ScriptHinter); ok {
		h.HintScripts(scripts...)
	}
}
