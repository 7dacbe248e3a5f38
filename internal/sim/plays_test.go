package sim

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// playsMustHappen are faults of the seeds' plays that hundreds of seeds cannot do
// without.
var playsMustHappen = []string{
	"payer-from-words", "payer-from-old-copy", "export-read-back", "export-of-what-is-over", "export-again",
	"struck-lie-hidden-spend", "struck-lie-hidden-tx", "struck-lie-fake-confirmation", "struck-lie-broadcast-refused",
	"struck-lie-broadcast-swallowed", "struck-broadcast-answer-lost", "struck-lie-other-tip", "struck-lie-fee-zero", "struck-lie-fee-absurd",
	"duplex-ended", "duplex-settled-by-payee", "duplex-settled-by-payer", "duplex-refunded", "duplex-closed-together", "duplex-refund",
	"duplex-old-state", "duplex-lost", "duplex-late", "duplex-doubled", "duplex-replayed",
	"crash-the duplex payer", "crash-the duplex payee", "disk-refuses-the duplex payer", "disk-refuses-the duplex payee",
	"restore-the duplex payee", "vanishes-the duplex payer", "vanishes-the duplex payee",
	"ladder", "ladder-lost", "ladder-answer-lost", "ladder-doubled", "ladder-refused-unseen", "ladder-refused-spent", "rung-sent",
	"settled-by-tower", "payee-away-for-days", "payee-stops-in-order", "crash-the tower", "disk-refuses-the tower", "tower-cut-off", "tower-pause",
	"flood-channel", "flood-chunk", "flood-refused", "two-openings-of-one-offer", "opening-with-another-t1", "rubbish",
	"struck-backend-stale", "struck-backend-lag", "struck-backend-cut-off",
}

// A seed of each play is replayed exactly.
func TestPlaysReplay(t *testing.T) {
	for p := range plays {
		seed := uint64(20)
		for playOf(seed) != p {
			seed++
		}
		var stories [2]strings.Builder
		var results [2]Result
		for i := range results {
			results[i] = Run(seed, func(format string, args ...any) { fmt.Fprintf(&stories[i], format+"\n", args...) })
		}
		if stories[0].String() != stories[1].String() || !reflect.DeepEqual(results[0], results[1]) {
			t.Errorf("seed %d (%s) is told in two ways", seed, p)
		}
		if results[0].Events < leastEvents {
			t.Errorf("seed %d (%s) has %d events", seed, p, results[0].Events)
		}
	}
}

// Every play is drawn, and its events are among the seed's.
func TestPlays(t *testing.T) {
	seen := map[play]int{}
	for seed := range uint64(300) {
		p, n := playOf(seed), 0
		for _, s := range steps(seed, runSteps) {
			if s.kind == special {
				n++
			}
		}
		if (p == plain) != (n == 0) {
			t.Errorf("seed %d plays %s and has %d events of it", seed, p, n)
		}
		seen[p]++
	}
	for p := range plays {
		if seen[p] < 10 {
			t.Errorf("%s is drawn %d times", p, seen[p])
		}
	}
}
