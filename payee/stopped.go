package payee

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// lockLive is lock for everything but what ends a channel. Errors: ErrUnknown,
// channel.ErrStopped.
func (p *Payee) lockLive(ctx context.Context, id string) (*held, error) {
	h, err := p.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	if stop := h.record.Stop(); stop != nil {
		h.unlock()
		return nil, stop
	}
	return h, nil
}

// holds is the check before each commit: the record by itself, and after the one
// before. In a channel that is stopped only the second counts.
func (p *Payee) holds(h *held, next *channel.PayeeRecord, s *channel.Step) error {
	if next.Stopped == "" {
		if err := next.Sound(); err != nil {
			return err
		}
	}
	return next.Follows(&h.record, s)
}

// stop stops a channel in which an invariant was violated (why), durably, and says so:
// nothing of the step that violated it is saved, sent or signed. What is no violation
// comes back as it is. Errors: channel.ErrStopped, joined with what kept the mark from
// being saved.
func (p *Payee) stop(ctx context.Context, h *held, why error) error {
	var v *channel.ViolationError
	if !errors.As(why, &v) {
		return why
	}
	if h.record.Stopped != "" {
		p.cfg.Log.Error("a stopped channel: an invariant is violated again", "channel", h.id, "rule", v.Rule, "what", v.What)
		return errors.Join(h.record.Stop(), why)
	}
	next := h.record
	next.Stopped = v.Error()
	failed := p.commit(ctx, h, next)
	h.record = next // in this step also where the mark was not saved
	stop := next.Stop()
	p.alarm(stop, v, failed)
	return errors.Join(stop, failed)
}

func (p *Payee) alarm(stop *channel.StoppedError, v *channel.ViolationError, failed error) {
	p.cfg.Log.Error("ALARM: an invariant is violated, the channel is stopped and nothing more is signed in it",
		"channel", stop.Channel, "rule", v.Rule, "what", v.What, "mark_saved", failed == nil, "error", failed)
	if p.cfg.Alarm != nil {
		p.cfg.Alarm(stop)
	}
}

// begins is the check of a record that is saved for the first time. Nothing is there
// yet that could be stopped: nothing is saved. Errors: channel.ErrStopped.
func (p *Payee) begins(r *channel.PayeeRecord) error {
	err := r.Begins()
	var v *channel.ViolationError
	if !errors.As(err, &v) {
		return err
	}
	stop := &channel.StoppedError{Channel: r.Terms.ID(), Side: script.Payee, Reason: v.Error()}
	p.alarm(stop, v, nil)
	return stop
}

// commit saves a record that was checked, compare-and-swap on its revision.
func (p *Payee) commit(ctx context.Context, h *held, next channel.PayeeRecord, more ...store.Op) error {
	value, err := json.Marshal(next)
	if err != nil {
		return err
	}
	ops := append([]store.Op{{Bucket: bucketChannel, Key: h.id, Value: value, Expect: h.rev}}, more...)
	before := p.shown(h.record)
	events, err := p.beside(before, next)
	if err != nil {
		return fmt.Errorf("channel %s was not saved: %w", h.id, err)
	}
	ops = append(ops, events...)
	if err := p.cfg.Store.Commit(ctx, ops...); err != nil {
		p.doubt(h.id)
		return fmt.Errorf("channel %s was not saved: %w", h.id, err)
	}
	h.record = next
	h.rev++ // what is there now may be another writer's already; see package store
	p.knows(h.id, h.rev, next)
	p.saved(before, next)
	return nil
}
