package channel

import "testing"

// TestUntil: in a duplex channel what competes with the payee's state comes earlier with
// every reversal; in every other one, and where it holds nothing, at the expiry.
func TestUntil(t *testing.T) {
	terms := Terms{Expiry: 1000, Margin: 36, Step: 80}
	for epoch, want := range map[uint32]uint32{0: 1000, 1: 1000, 3: 840, 5: 680} {
		r := PayeeRecord{Terms: terms, Duplex: &Duplex{Held: Update{Epoch: epoch, Amount: 5}}}
		if got := r.Until(); got != want {
			t.Errorf("epoch %d: %d, want %d", epoch, got, want)
		}
		if deadline, holds := r.duplex().Deadline(); holds && deadline != want-terms.Margin {
			t.Errorf("epoch %d: it settles at %d, a margin before %d", epoch, deadline, want)
		}
	}
	if got := (PayeeRecord{Terms: terms, Paid: 7}).Until(); got != 1000 {
		t.Errorf("one way: %d", got)
	}
}
