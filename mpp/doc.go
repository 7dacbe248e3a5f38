// Package mpp speaks the Payment scheme of HTTP authentication: the challenge
// that comes with a 402, the credential that answers it, the receipt of a
// success and the problem of a refusal. The scheme is draft-httpauth-payment-02,
// over RFC 9110 section 11.
//
// # How it goes
//
// A server that wants to be paid answers 402 and says in WWW-Authenticate for
// what, how much and by which method ([Challenge]). The client pays and repeats
// its request with Authorization ([Credential]): the challenge as it came, and
// the method's proof of payment. The server answers with the resource and a
// Payment-Receipt ([EncodeReceipt]), or with 402 again, a fresh challenge, and a
// body that says what was wrong ([Problem]).
//
// Sections are those of draft-httpauth-payment-02: 4 status codes, 5.1 the challenge
// (5.1.1 and 5.1.2 its parameters, 5.1.2.1 what the id binds, 5.1.3 the digest), 5.2 the
// credential, 5.3 the receipt, 6.1 methods, 7.2 intents, 7.4 Accept-Payment, 8 problems,
// 9.3 unknown parameters, 9.4 sizes, 10.1 characters, 11.3 to 11.5 repeats. What mppx
// does otherwise is listed in docs/method-bitcoin-session.md, and tested against it in
// internal/mppxtest.
//
// # The id
//
// Section 5.1.2.1.
//
// The server need not remember its challenges. The id is an HMAC-SHA256 under
// the server's secret, in base64url, over the parameters joined by "|":
//
//	realm|method|intent|request|expires|digest|opaque
//
// An absent parameter leaves its slot empty. A header parameter adds an eighth
// slot at the end; without one the input is the seven slots, so ids that were
// made before that parameter existed stay good. The description is for people
// and not covered. No slot may hold a "|" itself: with one, two different
// challenges could have one input, so [Challenge.Verify] refuses it.
//
// Only the server that made an id ever verifies it, so implementations may
// differ in the layout of the eighth slot (some put it before opaque) and still
// understand each other. Vectors for both are in testdata.
//
// # Exactness
//
// request and opaque are JSON in its canonical form ([JCS], RFC 8785), in
// base64url without padding ([EncodeJSON]). What is decoded here is decoded
// strictly: no padding, no line breaks, no stray bits at the end of the base64;
// no duplicate names, no invalid UTF-8, no lone surrogates, no deep nesting in
// the JSON; names match exactly, also in case. What is not understood but well
// formed (unknown parameters, unknown members) is ignored. Everything that comes
// from outside is bounded before it is decoded.
//
// # What it never does
//
// The package opens no connection, knows no header map, reads no clock and draws
// no randomness: headers are strings, the time and the secret are arguments. It
// knows nothing of bitcoin; that is package mpp/bitcoin.
package mpp
