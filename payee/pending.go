package payee

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
)

// ErrBusy: too many channels wait for their confirmations. It ends with the next
// blocks; a channel whose T1 is deep enough is always taken.
var ErrBusy = errors.New("too many channels wait for their confirmations")

// defaultPending is how many channels may wait for their confirmations at once.
const defaultPending = 1000

// pending counts the channels that wait for their confirmations: what a flood of
// openings can make a payee remember and watch.
type pending struct {
	mu    sync.Mutex
	known bool // ids holds what the store had at the start
	ids   map[string]struct{}
}

// enter takes a place for a channel that is stored in phase funding before left is
// called. A channel whose T1 is deep enough needs none.
// Errors: ErrBusy, of the store.
func (p *Payee) enter(ctx context.Context, r channel.PayeeRecord) (left func(), err error) {
	if r.Phase != channel.Funding {
		return func() {}, nil
	}
	w := &p.pending
	w.mu.Lock()
	if err := p.count(ctx); err != nil {
		w.mu.Unlock()
		return nil, err
	}
	w.ids[r.Terms.ID()] = struct{}{}
	return w.mu.Unlock, nil
}

// count refuses one more channel where there is no place.
func (p *Payee) count(ctx context.Context) error {
	w := &p.pending
	if !w.known {
		records, err := p.readable(ctx)
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return err
		}
		w.ids = map[string]struct{}{}
		for _, r := range records {
			if r.Phase == channel.Funding {
				w.ids[r.Terms.ID()] = struct{}{}
			}
		}
		w.known = true
	}
	if len(w.ids) >= p.cfg.MaxPending {
		if err := p.recount(ctx); err != nil {
			return err
		}
	}
	if len(w.ids) >= p.cfg.MaxPending {
		return fmt.Errorf("%w: %d", ErrBusy, len(w.ids))
	}
	return nil
}

// recount drops the channels that do not wait any more, or were never stored.
func (p *Payee) recount(ctx context.Context) error {
	for id := range p.pending.ids {
		r, err := p.Record(ctx, id)
		if err != nil && !errors.Is(err, ErrUnknown) {
			return err
		}
		if err != nil || r.Phase != channel.Funding {
			delete(p.pending.ids, id)
		}
	}
	return nil
}
