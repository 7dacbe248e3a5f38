package channel

import "github.com/spillway/spillway/script"

// signedBefore reports whether what spends the output of a channel from before a
// restore is something that this payee signed and then forgot: its own settlement of a
// newer update, or a close that was agreed. Only the refund needs no signature of the
// payee's over the outputs, and it is locked to the expiry. Racing the other would pay
// a higher fee for an older amount. At the margin the payee settles all the same, with
// what it knows. In a duplex channel the payer completes what the payee signed by
// halves, older states too, so nothing is spared there. docs/protocol.md, section 12.
func (r PayeeRecord) signedBefore(v View) bool {
	return r.Restored && r.Terms.Construction != script.Duplex && v.Spend != nil &&
		v.Spend.Lock < r.Terms.Expiry && v.Tip < r.Terms.deadline()
}
