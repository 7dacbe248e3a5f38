// Package script builds and checks what a Spillway channel puts on the chain:
// the funding output, the refund, the payer's half-signature of a commitment,
// settlements of one or many channels, and the cooperative close, for each of
// the constructions taproot, multisig and multisig-p2sh. docs/protocol.md,
// sections 2 to 4.
//
// Keys, amounts and randomness are arguments. The package never reads a clock,
// never touches a network or a disk, and knows nothing of channels' rules.
package script
