package download

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/paywall"
)

// absent reports whether an error means that somebody does not answer: nothing is
// known of what was asked, and it can be asked again.
func absent(err error) bool {
	return errors.Is(err, paywall.ErrUnreachable) || errors.Is(err, chain.ErrUnavailable)
}

// again waits before a broken delivery is asked for once more: longer each time, up
// to half a minute, and in all for as long as the limits say. failures counts those
// in a row, from one. Errors: why, as paywall.ErrUnreachable, where that is over.
func (r *run) again(ctx context.Context, failures int, why error) error {
	if failures <= 1 || r.down.IsZero() {
		r.down = r.b.cfg.Now()
	}
	ev := Event{Phase: Retrying, Wait: paywall.Patience(failures-1, why), Reason: why, Down: r.b.cfg.Now().Sub(r.down)}
	over := failures >= r.b.cfg.Attempts
	if r.lim.Wait > 0 && !r.settling {
		ev.Left = r.lim.Wait - ev.Down
		over = ev.Left <= 0
		ev.Wait = min(ev.Wait, max(ev.Left, time.Millisecond))
	}
	if over {
		if absent(why) {
			return why
		}
		return fmt.Errorf("%w: %w", paywall.ErrUnreachable, why)
	}
	r.event(ev)
	return r.b.cfg.Sleep(ctx, ev.Wait)
}

// back notes that something came.
func (r *run) back() { r.down = time.Time{} }

// patient does something again while nobody answers, as again says.
func (r *run) patient(ctx context.Context, do func(context.Context) error) error {
	for failures := 1; ; failures++ {
		err := do(ctx)
		if err == nil {
			r.back()
			return nil
		}
		if r.lim.Wait == 0 || !absent(err) || ctx.Err() != nil {
			return err
		}
		if err := r.again(ctx, failures, err); err != nil {
			return err
		}
	}
}
