// Package paywall puts payment channels into net/http: a [Server] that charges
// for what a handler releases, and a [Client] that opens channels and pays. On them
// stand [Middleware], which charges for any http.Handler, and [Transport], with which
// any http.Client pays. docs/api.md walks through both.
//
// It translates between the wire of package mpp/bitcoin and the drivers payer
// and payee; rules about money are theirs. Nothing is released before the
// payee's driver has saved the charge, and nothing is sent before the payer's
// driver has saved the signature.
package paywall
