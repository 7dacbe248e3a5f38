package channel

import (
	"errors"
	"fmt"

	"github.com/spillway/spillway/script"
)

// ErrStopped: an invariant of the channel was violated here. It is for errors.Is; the
// error itself is a *StoppedError, and is ErrFinalized too: nothing goes on in it.
var ErrStopped = errors.New("the channel is stopped: something that must always hold of it did not")

// StoppedError says which channel was stopped, on which side, and why. It is also the
// event that an alarm is given.
type StoppedError struct {
	Channel string      // id
	Side    script.Side // whose record it is
	Reason  string      // the rule, and what broke it
}

func (e *StoppedError) Error() string {
	held := "what is paid in it is settled at the margin, or when the operator asks"
	if e.Side == script.Payer {
		held = "what was not signed away comes back with the refund after the expiry, or with a close by the payee"
	}
	return fmt.Sprintf("%v (%s: %s); nothing more is signed, charged or taken in it; %s", ErrStopped, e.Channel, e.Reason, held)
}

// Unwrap makes errors.Is true for ErrStopped and ErrFinalized.
func (e *StoppedError) Unwrap() []error { return []error{ErrStopped, ErrFinalized} }

// Stop is nil, or says why the channel was stopped.
func (r PayeeRecord) Stop() *StoppedError {
	if r.Stopped == "" {
		return nil
	}
	return &StoppedError{Channel: r.Terms.ID(), Side: script.Payee, Reason: r.Stopped}
}

// Stop is nil, or says why the channel was stopped.
func (r PayerRecord) Stop() *StoppedError {
	if r.Stopped == "" {
		return nil
	}
	return &StoppedError{Channel: r.Terms.ID(), Side: script.Payer, Reason: r.Stopped}
}

// MayAct reports whether an action is one that a side of a stopped channel still takes:
// what ends it with what is held already. A payee sends T1 and settles; a payer takes
// its refund, settles what it holds of a duplex channel, and sends an agreed close
// again. docs/protocol.md, section 20.
func (e *StoppedError) MayAct(k ActionKind) bool {
	return e == nil || e.Side == script.Payee || k != SendFunding
}
