package bitcoin

import (
	"errors"
	"fmt"
)

// What a FieldError is about, for errors.Is.
var (
	ErrRequest = errors.New("bad payment request")
	ErrPayload = errors.New("bad payload")
	ErrAnswer  = errors.New("bad answer")
	ErrReceipt = errors.New("bad receipt")
	ErrOpaque  = errors.New("bad opaque")
	// ErrAction: a payload with an action that this method does not have.
	ErrAction = errors.New("unknown action")
	// ErrTopUp: channels can't be topped up; open a second one.
	ErrTopUp = errors.New("a channel can't be topped up, open a second one")
	// ErrMAC: the sender does not hold the channel's key.
	ErrMAC = errors.New("wrong mac")
	// ErrKey: not a compressed public key on the curve.
	ErrKey = errors.New("not a compressed public key")
)

// FieldError names the field that is not what it must be. It wraps one of the
// errors above.
type FieldError struct {
	Kind   error  // ErrRequest, ErrPayload …
	Field  string // as on the wire, with its path
	Reason string
}

func (e *FieldError) Error() string { return fmt.Sprintf("%v: %s %s", e.Kind, e.Field, e.Reason) }

// Unwrap returns the kind.
func (e *FieldError) Unwrap() error { return e.Kind }
