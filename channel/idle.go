package channel

// Idle reports whether Due has nothing to do for a channel but to note what the chain
// shows: nothing is to be settled or sent in this view, so it needs no scripts. Most
// channels are idle at most times.
func (r PayeeRecord) Idle(v View) bool {
	return (r.Phase == Funding || r.Phase == Open) && r.Duplex == nil && v.Spend == nil && v.Funding.Seen && v.Tip < r.Terms.deadline()
}
