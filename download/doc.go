// Package download buys a file from a provider: it fetches the manifest and the
// quote, plans what is to be paid and locked, and then buys chunk by chunk,
// verifying each before it is paid for.
//
// What was verified and what was signed for it are saved in one commit, so a
// purchase that stopped anywhere goes on from there: nothing that was verified
// is hashed or fetched again, and no chunk is paid twice. A file appears under
// its name only when it is whole. Memory stays flat for chunks of any size.
//
// The package never signs by itself (that is the payer's), never sends a payment
// by itself (that is the client's of package paywall), and never writes a byte
// to the file that was not verified against the root.
package download
