package paywall

import (
	"context"
	"errors"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payer"
)

// Close pays what is owed on every channel that the transport used and closes each
// together with its provider: what was not spent comes back at once. Requests that are
// under way break off unpaid; there should be none. A channel that cannot be closed now
// stays as it is: its refund comes back after its expiry, or Client.Close closes it
// later. Errors: *PaymentError for each channel that did not close.
func (t *Transport) Close(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	return t.closeLanes(ctx, func(*lane) bool { return true })
}

// CloseIdle closes the channels that nothing was asked on for so long, as Close does.
// The next request to their providers opens another one.
func (t *Transport) CloseIdle(ctx context.Context, unused time.Duration) error {
	before := t.c.cfg.Now().Add(-unused)
	return t.closeLanes(ctx, func(l *lane) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.active == 0 && l.idle.Before(before)
	})
}

func (t *Transport) closeLanes(ctx context.Context, which func(*lane) bool) error {
	t.mu.Lock()
	var all []*lane
	for _, a := range t.accounts {
		a.mu.Lock()
		for _, l := range a.lanes {
			all = append(all, l)
		}
		a.mu.Unlock()
	}
	t.mu.Unlock()
	var failed []error
	for _, l := range all {
		if !which(l) {
			continue
		}
		l.evict()
		if err := l.close(ctx); err != nil {
			failed = append(failed, t.fail(l.where(), l.id, err))
			continue
		}
		l.a.mu.Lock()
		delete(l.a.lanes, l.id)
		l.a.mu.Unlock()
	}
	failed = append(failed, t.pushed(ctx))
	return errors.Join(failed...)
}

// pushed waits until no payment is under way by itself. Errors: the context's.
func (t *Transport) pushed(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		t.pushes.Wait() // each ends within a minute
		close(done)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return nil
	}
}

// close pays and closes one channel.
func (l *lane) close(ctx context.Context) error {
	c := l.a.t.c
	r, err := c.cfg.Payer.Record(ctx, l.id)
	if err != nil || r.Close != nil || r.Phase.Final() || r.SpentBy != "" {
		return err
	}
	if r.Owed > 0 {
		l.mu.Lock()
		_, err = l.pay(ctx, payer.Payment{Last: true}, channel.CeilSat(l.debt))
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
	e := Expect{Recipient: r.Payee}
	_, err = c.Close(ctx, l.id, l.where(), e)
	var more *InsufficientError
	if errors.As(err, &more) {
		if failed := l.payLeft(ctx, more.Required); failed != nil {
			return errors.Join(err, failed)
		}
		_, err = c.Close(ctx, l.id, l.where(), e)
	}
	if errors.Is(err, ErrGone) {
		c.cfg.Log.Info("the provider has closed the channel already", "channel", l.id, "reason", err)
		return nil // the watch follows it
	}
	return err
}

// payLeft signs what the provider charged for answers that were left, as far as that may
// be.
func (l *lane) payLeft(ctx context.Context, required uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, err := l.a.t.c.cfg.Payer.Record(ctx, l.id)
	if err != nil {
		return err
	}
	ahead := required*1000 - min(required*1000, r.Owed)
	_, err = l.pay(ctx, payer.Payment{Ahead: ahead}, channel.CeilSat(l.slack+l.debt))
	return err
}
