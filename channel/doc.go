// Package channel holds the rules of a Spillway channel between a payer and a
// payee, as functions over values.
//
// A record ([PayeeRecord], [PayerRecord]) is everything that one side must
// remember of one channel. Every rule takes a record and what happened and
// returns the record that must be saved next, or a refusal. The caller saves
// first and acts afterwards: nothing here signs for the other side's eyes,
// sends, stores, or waits. What the chain says comes in as a [View]; depth and
// expiry are derived from it each time and never stored.
//
// The package never reads a clock, never draws randomness, never touches a
// network, a disk or a log, and knows nothing of HTTP. The rules themselves are
// stated in docs/protocol.md.
package channel
