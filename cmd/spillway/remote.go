package main

import (
	"crypto/tls"
	"errors"
	"net/http"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/paywall"
)

// remoteKinds are errors between a buyer and a provider; the first match counts.
var remoteKinds = []kind{
	{download.ErrChanged, exitRefused, "other-content", "Only what was received and verified was paid; it is kept. " + refundOK,
		"Give the command again to buy the file that is there now, in the same channel where that suffices; to have the rest back instead: spillway channels, then spillway channels close ID"},
	{download.ErrWrongBytes, exitMisbehaved, "wrong-bytes", "The chunk with the wrong bytes was not paid. " + refundOK, "Try another provider; what was verified is kept."},
	{channel.ErrBudget, exitConsent, "budget", refundOK, "Raise --budget if it is worth more to you."},
	{channel.ErrPrepay, exitConsent, "prepayment", refundOK, "Allow it with --max-prepay if you trust the provider with that much."},
	{download.ErrOtherContent, exitRefused, "other-content", noMoney, "Check the address and --root."},
	{download.ErrOtherProvider, exitRefused, "other-provider", noMoney, "Check the address."},
	{download.ErrExists, exitUsage, "file-exists", noMoney, "Name another file with -o, or remove the one that is there."},
	{download.ErrQuote, exitMisbehaved, "quote", noMoney, "Try another provider."},
	{download.ErrFees, exitConsent, "fees", noMoney, "Run the command again: it names the fee as it is now."},
	{download.ErrDeposit, exitRefused, "deposit", noMoney, "Ask the provider for larger channels."},
	{paywall.ErrMisbehaved, exitMisbehaved, "misbehaved", "Nothing was signed for it. " + refundOK, "Try another provider, or the same one later."},
	{paywall.ErrRedirected, exitRefused, "redirected", "Nothing was paid across origins.", "Use the address that the message names, if you trust it."},
	{paywall.ErrPriceChanged, exitRefused, "price-changed", "Only what was agreed to was paid. " + refundOK, "Look at the new price with: spillway quote URL"},
	{paywall.ErrInsufficient, exitConsent, "prepayment", refundOK, "Allow it with --max-prepay if you trust the provider with that much."},
	{paywall.ErrExpiring, exitRefused, "expiring", refundOK, "Run the command again: it opens another channel."},
	{paywall.ErrGone, exitRefused, "channel-gone", refundOK, "Run the command again: it opens another channel."},
	{paywall.ErrOfferOver, exitRefused, "offer-over", refundOK, "Run the command again: it asks for a fresh offer."},
	{paywall.ErrBusy, exitUnreachable, "busy-provider", keptHere + " " + refundOK, "Run the same command again in a moment; it goes on from here."},
	{paywall.ErrNotProvider, exitUnreachable, "not-a-provider", noMoney, "Check the address."},
	{paywall.ErrUnconfirmed, exitChain, "unconfirmed", refundOK, "Run the command again when the funding is confirmed."},
	{paywall.ErrUnreachable, exitUnreachable, "unreachable", keptHere + " " + refundOK, "Check the address and run the same command again; it goes on from here."},
	{paywall.ErrRefused, exitRefused, "refused", refundOK, "The message has the provider's reason. A channel that is open still: spillway channels, then spillway channels close ID"},
}

// explainRemote is nil for what is no error of the other side.
func explainRemote(err error) *failure {
	for _, k := range remoteKinds {
		if errors.Is(err, k.is) {
			f := &failure{exit: k.exit, code: k.code, message: sentence(err), money: k.money, next: k.next, err: err}
			var refused *paywall.RefusedError
			if errors.As(err, &refused) && refused.Status == http.StatusNotFound && k.is == paywall.ErrRefused {
				f.money, f.next = "This request paid and locked nothing.", "Check the address; what a provider offers is listed at its root."
			}
			if distrusted(err) {
				f.next = "Its certificate is not trusted here: check the name in the address. If it is the provider's own certificate, have it from the provider in a way that you trust, and run with SSL_CERT_FILE=cert.pem."
			}
			return f
		}
	}
	return nil
}

// distrusted reports whether a connection broke off because of the other side's certificate.
func distrusted(err error) bool {
	var bad *tls.CertificateVerificationError
	return errors.As(err, &bad)
}
