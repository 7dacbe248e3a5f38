package scenario

import (
	"context"
	"errors"
	"sync"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/store"
)

// mortal is a store whose owner can be made to die at its next commit.
type mortal struct {
	store.Store
	die func() error // what dying is; it returns only within this process

	mu            sync.Mutex
	before, after bool
	dead          bool
}

// perish dies, and remembers it where that is possible.
func (m *mortal) perish() error {
	m.mu.Lock()
	m.dead = true
	m.mu.Unlock()
	return m.die()
}

// Commit implements store.Store.
func (m *mortal) Commit(ctx context.Context, ops ...store.Op) error {
	m.mu.Lock()
	before, after := m.before, m.after
	m.mu.Unlock()
	if before {
		return m.perish()
	}
	err := m.Store.Commit(ctx, ops...)
	if err == nil && after {
		return m.perish()
	}
	return err
}

// doomed are the orders that decide when a side dies: before its next commit is
// saved, or after.
func (m *mortal) doomed(context.Context, struct{}) (any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after = true
	return nil, nil
}

func (m *mortal) doomedBefore(context.Context, struct{}) (any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = true
	return nil, nil
}

// errCut: a side's connection to the chain was cut.
var errCut = errors.New("the connection to the chain is cut")

// line is one side's connection to the chain, which can be cut.
type line struct {
	chain.Backend
	mu  sync.Mutex
	cut bool
}

func (l *line) down() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return errors.Join(chain.ErrUnavailable, errCut)
	}
	return nil
}

func (l *line) setCut(_ context.Context, cut bool) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	return nil, nil
}

// Tip implements chain.Backend.
func (l *line) Tip(ctx context.Context) (chain.Tip, error) {
	if err := l.down(); err != nil {
		return chain.Tip{}, err
	}
	return l.Backend.Tip(ctx)
}

// Broadcast implements chain.Backend.
func (l *line) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if err := l.down(); err != nil {
		return err
	}
	return l.Backend.Broadcast(ctx, tx)
}
