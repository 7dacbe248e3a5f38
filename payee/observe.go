package payee

import (
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// Observer is told of what a driver does, for metrics and for events that others are
// told of. It holds the clock that the driver has not. Its methods are called while a
// channel is locked: they must not call back, and they are quick.
type Observer interface {
	// Verifying is called before the signature of an update is checked, and what it
	// returns after that, with what came of it.
	Verifying() (done func(error))
	// Beside returns what is saved in the very commit of a channel's change, so that
	// there is never one without the other: events to be sent, say. before is nil where
	// the channel is saved for the first time. An error keeps the change from being saved.
	Beside(before *channel.PayeeRecord, next channel.PayeeRecord) ([]store.Op, error)
	// Saved tells that the change was saved.
	Saved(before *channel.PayeeRecord, next channel.PayeeRecord)
}

// verify checks an update's signature, observed.
func (p *Payee) verify(t channel.Terms, ch *script.Channel, u channel.Update) error {
	if p.cfg.Observer == nil {
		return t.VerifyUpdate(ch, u)
	}
	done := p.cfg.Observer.Verifying()
	err := t.VerifyUpdate(ch, u)
	done(err)
	return err
}

// shown is a record as the observer is shown it; nil where there is none.
func (p *Payee) shown(r channel.PayeeRecord) *channel.PayeeRecord {
	if p.cfg.Observer == nil {
		return nil
	}
	return &r
}

// beside are the ops that the observer adds to the commit of a channel's change.
func (p *Payee) beside(before *channel.PayeeRecord, next channel.PayeeRecord) ([]store.Op, error) {
	if p.cfg.Observer == nil {
		return nil, nil
	}
	return p.cfg.Observer.Beside(before, next)
}

// saved tells the observer that a change was saved.
func (p *Payee) saved(before *channel.PayeeRecord, next channel.PayeeRecord) {
	if p.cfg.Observer != nil {
		p.cfg.Observer.Saved(before, next)
	}
}
