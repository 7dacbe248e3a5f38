package tower

import (
	"errors"
	"fmt"
)

// Refusals of a hand-off, for errors.Is.
var (
	// ErrToken: the token is no provider's.
	ErrToken = errors.New("this token is no provider's")
	// ErrName: no provider can have this name.
	ErrName = errors.New("a provider's name is 1 to 64 of a-z, 0-9 and -")
	// ErrKnown: a provider of this name is known already.
	ErrKnown = errors.New("a provider of this name is known already")
	// ErrMalformed: the message, or a rung in it, cannot be read, or is too large.
	ErrMalformed = errors.New("the ladder cannot be read")
	// ErrOutpoint: a rung spends something else than the channel, or more than it.
	ErrOutpoint = errors.New("a rung spends something else than the channel's output")
	// ErrLocked: a rung is not valid at once, nor from the lock of an epoch on in which
	// the payee of a duplex channel receives.
	ErrLocked = errors.New("a rung has a lock that it cannot have")
	// ErrForm: a rung could not be relayed or not be replaced, or it pays others
	// than the first one does.
	ErrForm = errors.New("a rung has not the form of a settlement")
	// ErrFees: the fees do not rise by 1 sat/vB from rung to rung, from 1 sat/vB on.
	ErrFees = errors.New("the rungs' fees do not rise as they must")
	// ErrExecute: the output's script refuses a rung.
	ErrExecute = errors.New("the channel's output refuses a rung")
	// ErrTime: the expiry or the margin cannot be.
	ErrTime = errors.New("the expiry or the margin cannot be")
	// ErrUnseen: the channel's output is not seen on the chain (yet).
	ErrUnseen = errors.New("the channel's output is not seen")
	// ErrSpent: the channel's output is spent for good.
	ErrSpent = errors.New("the channel's output is spent")
	// ErrFull: the provider has as many channels, or bytes, as it may have.
	ErrFull = errors.New("the provider's room in this tower is used up")
)

func refuse(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
}
