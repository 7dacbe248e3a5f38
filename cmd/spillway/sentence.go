package main

import (
	"fmt"

	"github.com/spillway/spillway/channel"
)

// sentence says what a channel's state means.
func (r row) sentence() string {
	switch phase := channel.Phase(r.Phase); {
	case r.Stopped != "":
		return r.stoppedSentence()
	case r.Imported && (phase == channel.Funding || phase == channel.Open):
		return fmt.Sprintf("Imported: nothing is signed in it any more; what the provider does not settle comes back by the refund from height %d on.", r.Expiry)
	}
	if phase := channel.Phase(r.Phase); r.Unsigned && (phase == channel.Prepared || phase == channel.Funding) {
		return fmt.Sprintf("Waiting for another wallet to sign its funding: spillway open URL --psbt signed.psbt. Nothing is locked yet; should it be sent from there, what is unpaid comes back from height %d on.", r.Expiry)
	}
	switch channel.Phase(r.Phase) {
	case channel.Prepared:
		return "Prepared: nothing has left this machine yet; it is given up or continued by the next get."
	case channel.Funding:
		if r.Role == "payer" {
			return fmt.Sprintf("Funding: %d sat are locked by a transaction that waits for its confirmations, or was not accepted yet; %d sat of them are unpaid and come back when it is closed, or by the refund from height %d on.", r.Capacity, r.Refundable, r.Expiry)
		}
		return "Funding: the funding transaction waits for its confirmations; until then little or nothing is delivered."
	case channel.Open:
		both := ""
		if r.Epoch > 0 {
			both = " Money flows both ways in it."
		}
		if r.Role == "payer" {
			return fmt.Sprintf("Open: %d sat are unpaid; close it to have them now, or they come back by the refund from height %d on.%s", r.Refundable, r.Expiry, both)
		}
		if r.Restored {
			return fmt.Sprintf("Restored: it is from before a restore; nothing is delivered on it, and %d sat that are known to be paid are settled.", r.Paid)
		}
		return fmt.Sprintf("Open: %d sat are paid and will be settled before height %d at the latest.%s", r.Paid, r.before(), both)
	case channel.Settling:
		return fmt.Sprintf("Settling: the provider's settlement is on its way to the chain; %d sat of it are the provider's.", r.Paid)
	case channel.Closing:
		return fmt.Sprintf("Closing: both agreed, the transaction is on its way to the chain; %d sat are the provider's, %d sat come back.", r.Paid, r.Refundable)
	case channel.Refunding:
		return "Refunding: the refund is on its way to the chain."
	case channel.Closed:
		return r.closedSentence()
	case channel.Refunded:
		return r.refundedSentence()
	default:
		return "Abandoned: its funding can never confirm; nothing is locked."
	}
}

// ended puts in what the transaction that ended the channel left to the provider, where
// that is known.
func (r row) ended(got *uint64) row {
	if got != nil {
		r.Settled, r.Refundable = got, r.Capacity-min(r.Capacity, *got)
	}
	return r
}

// closedSentence says what was paid in a channel that is over: what was mined, not what
// was last signed.
func (r row) closedSentence() string {
	if r.Settled == nil || *r.Settled == r.Paid {
		return fmt.Sprintf("Closed: the last transaction is buried; %d sat were paid.", r.Paid)
	}
	got := *r.Settled
	switch {
	case got > r.Paid:
		return fmt.Sprintf("Closed: the last transaction is buried; it paid %d sat, more than the %d sat that this copy knew of.", got, r.Paid)
	case r.Role == "payee":
		return fmt.Sprintf("Closed: the transaction that was mined left %d sat of the %d sat that were paid; %d sat of them are lost.", got, r.Paid, r.Paid-got)
	}
	return fmt.Sprintf("Closed: the provider settled %d sat of the %d sat that were signed; the rest came back.", got, r.Paid)
}

// refundedSentence says what a refund that is buried means.
func (r row) refundedSentence() string {
	by := ""
	if r.Closing != "" {
		by = " (" + r.Closing + ")"
	}
	switch {
	case r.Role == "payer":
		return fmt.Sprintf("Refunded: the refund%s is buried and final; all %d sat came back, less its fee.", by, r.Capacity)
	case r.Paid == 0:
		return fmt.Sprintf("Refunded: the payer's refund%s is buried; nothing had been paid.", by)
	}
	return fmt.Sprintf("Refunded: the payer's refund%s is buried; %d sat that were paid were not settled before the expiry, and are lost.", by, r.Paid)
}
