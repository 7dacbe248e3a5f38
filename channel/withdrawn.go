package channel

// MaxRecent is how many of its newest charges a payee of a duplex channel remembers.
const MaxRecent = 64

// Charge is one chunk that was charged.
type Charge struct {
	Resource Hex    `json:"resource"` // what the chunk belongs to
	Chunk    uint64 `json:"chunk"`
	Price    uint64 `json:"price"` // msat
}

// recent adds charges to those that are remembered.
func recent(old, fresh []Charge) []Charge {
	if len(fresh) == 0 {
		return old
	}
	all := append(append([]Charge(nil), old...), fresh...)
	return all[max(0, len(all)-MaxRecent):]
}

// Withdraw is the payee's rule for what it charged and does not offer any more, where
// the payer of a duplex channel counts less (ledger, msat) than was charged: those
// chunks are taken off the ledger, newest first, until it is the payer's. Each was
// charged once and is taken off once. More than one credit, or one chunk where that
// is dearer, is never taken off in all of a channel's life: else a payer would have every
// version of what changes often for nothing. What was charged before that counts as
// arrived from then on.
// docs/protocol.md, "Paying back".
func (r PayeeRecord) Withdraw(ledger uint64, gone func(Charge) bool) (next PayeeRecord, off []Charge) {
	if r.Duplex == nil || r.Restored || r.Phase != Open && r.Phase != Funding {
		return r, nil
	}
	d := r.duplex()
	most := max(r.Terms.Credit, r.MaxPrice)
	sum := min(d.Off, most)
	for i := len(d.Recent) - 1; i >= 0; i-- {
		c := d.Recent[i]
		if c.Price > d.Ledger || d.Ledger-c.Price < ledger || c.Price > most-sum || !gone(c) {
			continue
		}
		d.Ledger -= c.Price
		sum += c.Price
		off = append(off, c)
	}
	if len(off) == 0 {
		return r, nil
	}
	d.Off = sum
	d.Recent = nil // what was charged before is settled: a second claim is a lie
	return r.with(d), off
}
