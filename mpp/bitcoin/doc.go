// Package bitcoin is the payment method "bitcoin" of the Payment scheme, with
// the intent "session": what a challenge asks for ([Request]), what a credential
// proves ([Payload]), what the payee answers, and the receipt. docs/protocol.md
// says what the fields mean; here is how they are written and read.
//
// Money is a decimal string, in satoshi, or in millisatoshi where the name ends
// in Msat. Heights, counts and versions are JSON numbers. Keys, scripts,
// signatures and transactions are lower-case hex, an outpoint is txid:vout.
// Unknown fields are ignored; a known one that is not exactly what it must be is
// refused with a [FieldError] that names it.
//
// # Who asks
//
// A half-signature is money, not identity: a watchtower holds some, a log may.
// So every payload carries a MAC under a key that only the two ends of the
// channel can compute, from one's own channel key and the other's public key
// ([MACKey]). It covers the challenge's id, the action, the amount and the
// request's Idempotency-Key. Nobody is charged without it.
//
// # What it never does
//
// The package checks form, never substance: whether a signature fits, an
// outpoint exists or an amount is due is for package channel and the drivers. It
// opens no connection, reads no clock and draws no randomness.
package bitcoin
