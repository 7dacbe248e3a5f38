package mpp

import "errors"

// What can be wrong with what the other side sent. Every error of this package
// wraps one of these.
var (
	// ErrNoCredential: no Payment credential is there. The request is unpaid,
	// not wrong.
	ErrNoCredential = errors.New("no payment credential")
	// ErrMalformed: a credential, receipt or key that can't be understood.
	ErrMalformed = errors.New("malformed")
	// ErrRepeated: a field that may come once came more often (a 400).
	ErrRepeated = errors.New("header is repeated")
	// ErrTooLarge: more bytes than are taken.
	ErrTooLarge = errors.New("too large")
	// ErrNoChallenge: no Payment challenge is there.
	ErrNoChallenge = errors.New("no payment challenge")
	// ErrChallengeSyntax: a challenge that breaks the scheme's grammar, lacks a
	// required parameter, or has one that is not what it must be.
	ErrChallengeSyntax = errors.New("malformed challenge")
	// ErrInvalidChallenge: an id that this secret did not make for these
	// parameters.
	ErrInvalidChallenge = errors.New("invalid challenge")
	// ErrDigest: a body that is not the one that the challenge was made for.
	ErrDigest = errors.New("body does not match the digest")
	// ErrBase64: not base64url without padding in its one canonical form.
	ErrBase64 = errors.New("not canonical base64url")
	// ErrJSON: not the strict JSON that this package takes.
	ErrJSON = errors.New("not strict JSON")
	// ErrNumber: a number that has no exact canonical form.
	ErrNumber = errors.New("number has no canonical form")
	// ErrAccept: an Accept-Payment field that breaks its grammar.
	ErrAccept = errors.New("malformed Accept-Payment")
	// ErrIdempotencyKey: an Idempotency-Key that can't be one.
	ErrIdempotencyKey = errors.New("malformed Idempotency-Key")
)
