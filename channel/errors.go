package channel

import (
	"errors"
	"fmt"
)

// Refusals. Each is a sentinel for errors.Is; the edge maps them to wire codes.
var (
	// ErrSignature: a half-signature does not verify for this channel and amount.
	ErrSignature = errors.New("the half-signature is not valid for this channel and amount")
	// ErrAmountExceeds: an amount above the capacity or one that leaves a rest below dust.
	ErrAmountExceeds = errors.New("the amount exceeds what the channel can pay")
	// ErrInsufficient: the credit does not cover the next charge.
	ErrInsufficient = errors.New("the channel's payments do not cover this")
	// ErrUnconfirmed: the funding is not deep enough for what is asked.
	ErrUnconfirmed = errors.New("the funding transaction is not confirmed deeply enough")
	// ErrExpiring: the channel is within its margin; nothing is delivered any more.
	ErrExpiring = errors.New("the channel is too close to its expiry")
	// ErrFinalized: the channel is closing or closed and takes nothing more.
	ErrFinalized = errors.New("the channel is closed or closing")
	// ErrTerms: an opening or an offer that breaks a rule.
	ErrTerms = errors.New("the channel's terms are not acceptable")
	// ErrConflict: the same key or channel came with other content.
	ErrConflict = errors.New("this channel is known with other content")
	// ErrOwes: a cooperative close is asked for while something charged is unpaid.
	ErrOwes = errors.New("something delivered is not paid yet")
	// ErrBudget: a signature would pay more than the payer allowed.
	ErrBudget = errors.New("the payment would exceed the budget")
	// ErrCap: a channel larger than the payer allows.
	ErrCap = errors.New("the channel would be larger than is allowed")
	// ErrPrepay: the payee wants payment ahead and the payer did not allow it.
	ErrPrepay = errors.New("the payee asks for payment ahead")
	// ErrNotYet: the action is valid only at a later height.
	ErrNotYet = errors.New("it is too early for this")
	// ErrUnsupported: this construction has no such step.
	ErrUnsupported = errors.New("this kind of channel has no such step")
	// ErrOverflow: arithmetic on amounts left the range of 64 bits.
	ErrOverflow = errors.New("the amount is out of range")
	// ErrNothingAtStake: nothing was paid, so there is nothing to settle.
	ErrNothingAtStake = errors.New("nothing was paid in this channel, there is nothing to settle")
	// ErrNotSettling: the amount paid does not cover the fee of a settlement.
	ErrTooSmall = errors.New("the amount paid does not cover a settlement's fee")
)

// InsufficientError says what would make a refused charge acceptable.
type InsufficientError struct {
	Required uint64 // sat, the cumulative amount that would be enough
	Paid     uint64 // sat, the newest cumulative amount held
	Charged  uint64 // msat, the cumulative price of what was released
	Ahead    bool   // true when every chunk is due one ahead (no credit)
}

func (e *InsufficientError) Error() string {
	return fmt.Sprintf("%v: paid %d sat, charged %d msat, %d sat are needed", ErrInsufficient, e.Paid, e.Charged, e.Required)
}

// Unwrap makes errors.Is(err, ErrInsufficient) true.
func (e *InsufficientError) Unwrap() error { return ErrInsufficient }

// UnconfirmedError says how deep the funding is and how deep it has to be.
type UnconfirmedError struct {
	Have, Want uint32 // blocks
}

func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("%v: %d of %d confirmations", ErrUnconfirmed, e.Have, e.Want)
}

// Unwrap makes errors.Is(err, ErrUnconfirmed) true.
func (e *UnconfirmedError) Unwrap() error { return ErrUnconfirmed }

func refuse(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
}
