package tower

import (
	"math"
	"testing"

	"github.com/spillway/spillway/channel"
)

// A spend that nobody signed, which a backend made up, leaves the payee nothing, whatever
// it says: it is answered like a refund, and no reason to wait.
func TestInventedSpendIsAnswered(t *testing.T) {
	e := sample()
	look := channel.View{Tip: 964, Rate: 1000, Funding: channel.FundingView{Seen: true, Height: 100}, Spend: &channel.SpendView{Txid: "x", Lock: math.MaxUint32}}
	v, err := (&Tower{}).view(t.Context(), e, look) // it asks nobody
	if err != nil || v.Leaves != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	if d := Decide(e, v, 6); d.Do != Climb || d.Why != RefundSeen {
		t.Fatalf("%+v", d)
	}
}
