package paywall

import (
	"context"
	"errors"

	"github.com/spillway/spillway/channel"
)

// update notes an update; it is verified and saved beside those of other channels. Of
// those that wait on one channel only the newest has to be: amounts are cumulative.
func (x *wire) update(ctx context.Context, f updateFrame) error {
	x.mu.Lock()
	o := x.ones[f.number]
	switch {
	case o == nil:
		x.mu.Unlock()
		return badFrame("number %d is no channel's", f.number)
	case o.over: // its payer has not heard of that yet
		x.mu.Unlock()
		return nil
	case f.update.Amount <= o.at.paid: // nothing new: it costs nobody a signature's verification
		at := o.at
		x.mu.Unlock()
		return x.out.put(func(to []byte) []byte { return ackFrame{f.number, at}.append(to, frameAck) })
	}
	defer x.mu.Unlock()
	x.note(ctx, o, f.update)
	return nil
}

// note makes an update the newest that waits on a channel; x.mu is held.
func (x *wire) note(ctx context.Context, o *one, u channel.Update) {
	if o.newest != nil && u.Amount <= o.newest.Amount {
		return
	}
	o.newest, o.before = &u, o.newest
	if o.claimed {
		return
	}
	o.claimed = true
	x.ready = append(x.ready, o)
	if x.working < compactWorkers {
		x.working++
		x.group.Go(func() { x.work(ctx) })
	}
}

// work saves updates until none waits. Each channel has one at a time.
func (x *wire) work(ctx context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.ready) > 0 {
		o := x.ready[0]
		x.ready = x.ready[1:]
		newest, before := o.newest, o.before
		o.newest, o.before = nil, nil
		x.mu.Unlock()
		err := x.save(ctx, o, *newest, before)
		x.mu.Lock()
		if o.newest != nil && !o.over && err == nil {
			x.ready = append(x.ready, o)
		} else {
			o.claimed = false
		}
	}
	x.ready = nil
	x.working--
}

// save verifies and saves the newest update, and says so. Where that is none, the one
// before it is saved, and the channel is refused.
func (x *wire) save(ctx context.Context, o *one, u channel.Update, before *channel.Update) error {
	rec, err := x.s.takeUpdate(ctx, o.id, u)
	why := err
	if err != nil && before != nil && errors.Is(err, channel.ErrSignature) {
		rec, err = x.s.takeUpdate(ctx, o.id, *before)
	}
	if err == nil {
		if err := x.ack(o, standingOf(rec)); err != nil {
			return err
		}
	}
	if why != nil {
		x.refuseErr(o.number+1, why)
	}
	return why
}

// ack says where a channel stands: everything up to there is saved.
func (x *wire) ack(o *one, at tally) error {
	x.mu.Lock()
	if at.paid >= o.at.paid {
		o.at = at
	}
	x.mu.Unlock()
	return x.out.put(func(to []byte) []byte { return ackFrame{o.number, at}.append(to, frameAck) })
}
