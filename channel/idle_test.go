package channel

import "testing"

// Where a channel is idle, Due asks nothing of its scripts and decides what it decides
// with them; where it is not, it may settle or send.
func TestIdle(t *testing.T) {
	idle, busy := 0, 0
	for _, phase := range payeePhases {
		for _, amount := range []uint64{0, 5000} {
			for _, tip := range []uint32{fundedAt, fundedAt + 5, 900, 5000} {
				for _, view := range []View{at(tip), at(tip, unconfirmed), at(tip, spentBy("x", 0)), at(tip, spentBy("x", tip)), {Tip: tip, Rate: perVB}} {
					r := record(paid(amount), func(r *PayeeRecord) { r.Phase = phase })
					if phase == Closing {
						agreed(amount, tip, nil)(&r)
					}
					if !r.Idle(view) {
						busy++
						continue
					}
					idle++
					bare, none := r.Due(nil, p2tr(3), view, policy())
					full, same := r.Due(r.Terms.built(t), p2tr(3), view, policy())
					if len(none) > 0 || len(same) > 0 || bare.Phase != full.Phase || bare.Reason != full.Reason || bare.SpentBy != full.SpentBy {
						t.Fatalf("%s at %d: %s %q, and %s %q with scripts", phase, tip, bare.Phase, kinds(none), full.Phase, kinds(same))
					}
				}
			}
		}
	}
	if idle == 0 || busy == 0 {
		t.Fatalf("%d idle, %d busy", idle, busy)
	}
}
