package bench

import (
	"testing"

	"github.com/spillway/spillway/script"
)

// Every kind of channel can be measured; what comes out is more than nothing.
func TestPayments(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
		figures, err := Payments(t.Context(), t.TempDir(), kind, 4, 40, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range figures {
			if f.Value <= 0 || f.Bound <= 0 || f.Ratio <= 0 {
				t.Errorf("%+v", f)
			}
			t.Log(f)
		}
	}
}
