package paywall

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
)

// Grant is a request whose charge is saved: the handler may deliver.
type Grant struct {
	Receipt   payee.Receipt // where the channel stood after the newest charge
	Challenge string        // id of the challenge that was echoed
	server    *Server
	quote     Quote
	order     *order // what a peer buys; nil: this provider is the payee

	update *channel.Update // that came and is not saved yet: the first charge saves it
	line   payee.Line      // what a metered answer is charged by
	first  uint64          // msat, reserved until the first charge
	had    uint64          // units of the line that were charged before
}

// Charge charges further chunks of the same resource on the same channel, before
// the first of their bytes is sent. While the credit does not cover them it waits
// for an update on this or another connection; the context bounds the wait, and
// waiting, where it is set, is told when a wait begins (true) and ends (false).
// Errors: as payee.Payee.Pay, and the context's.
func (g *Grant) Charge(ctx context.Context, items []payee.Item, waiting func(bool)) error {
	return g.await(ctx, func() (payee.Receipt, error) { return g.charge(ctx, items) }, waiting)
}

// await charges, as often as more is paid, until the charge is taken.
func (g *Grant) await(ctx context.Context, charge func() (payee.Receipt, error), waiting func(bool)) error {
	return g.awaitSaying(ctx, charge, waiting, nil)
}

// awaitSaying is await; why, where it is set, is told what a wait is for, when it begins
// and every remindEvery of it.
func (g *Grant) awaitSaying(ctx context.Context, charge func() (payee.Receipt, error), waiting func(bool), why func(payee.Receipt, error)) error {
	of := g.Receipt.Channel
	if g.order != nil {
		of = peerOf(of)
	}
	bell := g.server.bells.listen(of)
	defer bell.leave()
	for {
		raised := bell.next()
		rec, err := charge()
		if err == nil {
			g.Receipt = rec
			return nil
		}
		if !errors.Is(err, channel.ErrInsufficient) {
			return err
		}
		if waiting != nil {
			waiting(true)
		}
		if err := pause(ctx, raised, err, func() {
			if why != nil {
				why(rec, err)
			}
		}); err != nil {
			return err
		}
		if waiting != nil {
			waiting(false)
		}
	}
}

// pause waits for a bell, and says so now and then. Errors: of the context, with why.
func pause(ctx context.Context, raised <-chan struct{}, why error, say func()) error {
	select {
	case <-raised: // by this charge itself, or meanwhile
		return nil
	default:
	}
	remind := time.NewTicker(remindEvery)
	defer remind.Stop()
	for {
		say()
		select {
		case <-ctx.Done():
			return errors.Join(why, context.Cause(ctx))
		case <-raised:
			return nil
		case <-remind.C:
		}
	}
}

// charge charges items on the grant's channel, whichever side funded it.
func (g *Grant) charge(ctx context.Context, items []payee.Item) (payee.Receipt, error) {
	if g.order != nil {
		return g.order.take(ctx, channel.Update{}, items)
	}
	return g.server.cfg.Payee.Pay(ctx, payee.Request{Channel: g.Receipt.Channel, Items: items, Credit: g.quote.CreditMsat, Name: g.quote.describe()})
}

// bells wake the streams of a channel when more is paid. Nothing is kept of a
// channel that no stream listens to.
type bells struct {
	mu sync.Mutex
	at map[string]*bell
}

type bell struct {
	all   *bells
	id    string
	users int
	paid  uint64        // sat at the last ring
	ring  chan struct{} // closed when it rings
}

// listen begins to listen to a channel's bell; leave ends it.
func (b *bells) listen(id string) *bell {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.at[id]
	if l == nil {
		l = &bell{all: b, id: id, ring: make(chan struct{})}
		if b.at == nil {
			b.at = map[string]*bell{}
		}
		b.at[id] = l
	}
	l.users++
	return l
}

func (l *bell) leave() {
	l.all.mu.Lock()
	defer l.all.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(l.all.at, l.id)
	}
}

// next is closed by the first ring from now on.
func (l *bell) next() <-chan struct{} {
	l.all.mu.Lock()
	defer l.all.mu.Unlock()
	return l.ring
}

// rang tells the streams of a channel that paid (sat) is held now. In a duplex channel that
// is less after a pay-back, and what is paid then counts all the same.
func (b *bells) rang(id string, paid uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.at[id]; l != nil && paid != l.paid {
		l.wake(paid)
	}
}

// over wakes the streams of a channel that takes no more.
func (b *bells) over(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.at[id]; l != nil {
		l.wake(l.paid)
	}
}

func (l *bell) wake(paid uint64) {
	close(l.ring)
	l.ring, l.paid = make(chan struct{}), paid
}
