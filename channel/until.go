package channel

// Until is the height from which on the payer has something valid that leaves the payee
// less than what it holds: the refund at the expiry; in a duplex channel the state before
// the one that is held, which is earlier with every reversal. What the payee claims has
// to be in a block by then. docs/protocol.md, "Time" and "Duplex channels".
func (r PayeeRecord) Until() uint32 {
	if r.Duplex == nil || r.Duplex.Held.Epoch == 0 {
		return r.Terms.Expiry
	}
	before, _ := r.Terms.Lock(r.Duplex.Held.Epoch - 1)
	return before
}
