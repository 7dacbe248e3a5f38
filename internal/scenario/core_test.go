package scenario

import (
	"fmt"
	"slices"
	"testing"

	"github.com/spillway/spillway/internal/bitcoindtest"
	"github.com/spillway/spillway/script"
)

// onCore are the stories that are played on a real bitcoind in every run; all of them with -args -all.
var onCore = []string{"payer-vanishes/taproot", "reorg-of-settlement/multisig-p2sh"}

// Every story that a real bitcoind can be the chain of ends on it as it has to, and to the satoshi as on the embedded
// chain where the rules of the mempools do not differ.
func TestOnBitcoind(t *testing.T) {
	path := bitcoindtest.Program(t)
	sums := exactEnds(t)
	for _, sc := range List() {
		for _, kind := range sc.Channels {
			name := fmt.Sprintf("%s/%s", sc.Name, kind)
			if !*all && !slices.Contains(onCore, name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				onBitcoind(t, path, sc, kind, sums)
			})
		}
	}
}

func onBitcoind(t *testing.T, path string, sc Scenario, kind script.Construction, sums map[string]exact) {
	c := company(t)
	c.Bitcoind = path
	r, err := sc.PlayApart(t.Context(), kind, func(line string) { t.Log(line) }, c)
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK || len(r.Failed) > 0 {
		t.Fatalf("it did not end well: %q", r.Failed)
	}
	want := ends[sc.Name]
	if kind == Ladder {
		want = ladderEnd
	}
	want.check(t, r)
	checkExact(t, sums, r)
}
