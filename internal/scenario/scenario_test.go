package scenario

import (
	"testing"
)

// sums is what a scenario has to end with, beside OK.
type sums struct {
	owed      Amounts
	exposure  uint64 // msat
	delivered uint64 // msat
}

var wanted = map[string]sums{
	"provider-vanishes": {Amounts{capacity - 3_000, 3_000}, price, 3 * price},
	"payer-vanishes":    {Amounts{capacity - 5_000, 5_000}, price, 5 * price},
}

func TestScenarios(t *testing.T) {
	for _, sc := range List() {
		for _, kind := range sc.Channels {
			t.Run(sc.Name+"/"+string(kind), func(t *testing.T) {
				r, err := sc.Play(t.Context(), kind, func(line string) { t.Log(line) })
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range append(r.Picture, r.Table()...) {
					t.Log(l)
				}
				if !r.OK {
					t.Errorf("not well: %q", r.Failed)
				}
				want, ok := wanted[sc.Name]
				if !ok {
					t.Fatal("nothing is wanted of this scenario")
				}
				if r.Owed != want.owed || r.Exposure != want.exposure || r.Delivered != want.delivered {
					t.Errorf("owed %+v, exposure %d, delivered %d; want %+v", r.Owed, r.Exposure, r.Delivered, want)
				}
			})
		}
	}
}
