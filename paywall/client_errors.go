package paywall

import (
	"errors"
	"fmt"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
)

// What can go wrong between a buyer and a provider. Each is a sentinel for
// errors.Is; the errors that carry more wrap one of them.
var (
	// ErrUnreachable: no answer, a broken or stalled connection, a server error.
	// Nothing is known of what was asked; it may be asked again.
	ErrUnreachable = errors.New("the provider cannot be reached")
	// ErrMisbehaved: an answer that an honest provider would not give. Nothing
	// is signed for it.
	ErrMisbehaved = errors.New("the provider misbehaved")
	// ErrRefused: the provider understood and said no; see RefusedError.
	ErrRefused = errors.New("the provider refused")
	// ErrNotProvider: what answers there does not sell for bitcoin channels.
	ErrNotProvider = errors.New("this is not a Spillway provider")
	// ErrPriceChanged: the present price is not the one that was agreed to.
	ErrPriceChanged = errors.New("the price has changed")
	// ErrRedirected: a request was answered with a way to elsewhere. Nothing is
	// paid there.
	ErrRedirected = errors.New("the provider redirects; nothing is paid after a redirect")
	// ErrUnconfirmed: T1 is not deep enough for the provider; see UnconfirmedError.
	ErrUnconfirmed = errors.New("the channel's funding is not confirmed yet")
	// ErrInsufficient: the provider wants more before it delivers; see InsufficientError.
	ErrInsufficient = errors.New("the provider wants to be paid first")
	// ErrExpiring: nothing is delivered on this channel any more.
	ErrExpiring = errors.New("the channel is too close to its expiry")
	// ErrGone: the provider does not know the channel any more, or it is closed.
	// The channel is not used again; what it holds comes back by its refund or
	// with its settlement.
	ErrGone = errors.New("the provider takes nothing more on this channel")
	// ErrOfferOver: a channel was prepared on an offer that has ended. Nothing has
	// left for it: it can be abandoned, and another one opened.
	ErrOfferOver = errors.New("the offer that this channel was prepared on has ended")
	// ErrBusy: the provider asks for patience; see BusyError.
	ErrBusy = errors.New("the provider is busy")
)

// RefusedError is a refusal in the provider's words.
type RefusedError struct {
	Status  int
	Problem *mpp.Problem // nil where the answer had none
}

func (e *RefusedError) Error() string {
	if e.Problem == nil {
		return fmt.Sprintf("%v: HTTP status %d", ErrRefused, e.Status)
	}
	return fmt.Sprintf("%v: %v", ErrRefused, e.Problem)
}

// Unwrap gives the sentinel and the problem.
func (e *RefusedError) Unwrap() []error {
	if e.Problem == nil {
		return []error{ErrRefused}
	}
	return []error{ErrRefused, e.Problem}
}

// UnconfirmedError says how long to wait before the request is repeated.
type UnconfirmedError struct {
	RetryAfter time.Duration
	Problem    *mpp.Problem
}

func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("%v: %v; asked to wait %v", ErrUnconfirmed, e.Problem, e.RetryAfter)
}

// Unwrap makes errors.Is match ErrUnconfirmed and channel.ErrUnconfirmed.
func (e *UnconfirmedError) Unwrap() []error { return []error{ErrUnconfirmed, channel.ErrUnconfirmed} }

// InsufficientError says which cumulative amount the provider wants to hold
// before it delivers. It is a hint: the payer signs by its own ledger.
type InsufficientError struct {
	Required uint64 // sat
	Problem  *mpp.Problem
}

func (e *InsufficientError) Error() string {
	return fmt.Sprintf("%v: %d sat in all", ErrInsufficient, e.Required)
}

// Unwrap makes errors.Is match ErrInsufficient and channel.ErrInsufficient.
func (e *InsufficientError) Unwrap() []error {
	return []error{ErrInsufficient, channel.ErrInsufficient}
}

// BusyError is a rate limit or a server that is starting or overloaded.
type BusyError struct {
	Status     int
	RetryAfter time.Duration
	Problem    *mpp.Problem // nil where the answer had none
}

func (e *BusyError) Error() string {
	if e.Problem != nil && e.Problem.Detail != "" {
		return fmt.Sprintf("%v: %s", ErrBusy, e.Problem.Detail)
	}
	return fmt.Sprintf("%v: HTTP status %d, asked to wait %v", ErrBusy, e.Status, e.RetryAfter)
}

// Unwrap makes errors.Is match ErrBusy and ErrUnreachable.
func (e *BusyError) Unwrap() []error { return []error{ErrBusy, ErrUnreachable} }

// RedirectError names where a request was sent.
type RedirectError struct{ From, To string }

func (e *RedirectError) Error() string {
	return fmt.Sprintf("%v: from %s to %s", ErrRedirected, e.From, e.To)
}

// Unwrap makes errors.Is(err, ErrRedirected) true.
func (e *RedirectError) Unwrap() error { return ErrRedirected }

func misbehaved(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMisbehaved, fmt.Errorf(format, args...))
}

func unreachable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnreachable, fmt.Errorf(format, args...))
}
