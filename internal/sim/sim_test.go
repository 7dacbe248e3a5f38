package sim

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Days of several channels: every invariant holds at every effect, and the faults
// that the runs are about did happen.
func TestSeeds(t *testing.T) {
	groups, seeds := 10, 30 // .ci/run plays 2,000 with the command
	if testing.Short() {
		seeds = 4
	}
	results := make(chan Result, groups)
	t.Run("group", func(t *testing.T) {
		for g := range groups {
			t.Run(fmt.Sprint(g), func(t *testing.T) {
				t.Parallel()
				var total Result
				for s := range seeds {
					total.Add(Run(uint64(g*seeds+s), nil))
				}
				results <- total
			})
		}
	})
	close(results)
	var total Result
	for r := range results {
		total.Add(r)
	}
	for _, v := range total.Violations {
		t.Errorf("%s\nreplay: go run ./internal/sim/cmd/sim -seed N -trace (or -shrink)", v)
	}
	for _, fault := range slices.Concat(mustHappen, playsMustHappen) {
		if total.Faults[fault] == 0 && !testing.Short() {
			t.Errorf("%s never happened", fault)
		}
	}
	if total.Events < total.Seeds*leastEvents || total.Reorgs == 0 {
		t.Errorf("only %d events and %d reorgs", total.Events, total.Reorgs)
	}
}

// mustHappen are faults that hundreds of seeds cannot do without.
var mustHappen = []string{
	"crash-payer 0", "crash-the payee", "crash-while-recovering", "disk-refuses-the payee", "disk-refuses-payer 0", "restore-payee",
	"lost-request", "lost-answer", "delayed-request", "late-request", "duplicated-request", "replayed-request",
	"torn-request", "torn-answer", "one-byte-at-a-time", "partition", "censored-block", "fee-change", "fee-spike", "eviction",
	"reorg-of-something", "deep-reorg", "clock-jump", "two-hours-without-a-block", "pause-the payee",
	"backend-down", "backend-behind", "backend-standing-still", "backend-cut-off", "backend-failing",
	"payer-stops", "payer-vanishes", "payee-vanishes", "refund-mined", "refund-raced", "double-spend", "old-settlement",
	"lie", "unverified-content", "forged-mac", "tampered-byte", "tampered-mac", "tampered-signature", "tampered-cumulativeAmount",
	"tampered-channelId", "tampered-payerPubKey", "tampered-restScript", "tampered-capacity", "tampered-refundTx", "tampered-finalTx",
}

// A seed is replayed exactly.
func TestSeedsReplay(t *testing.T) {
	for seed := range uint64(6) {
		var stories [2]strings.Builder
		var results [2]Result
		for i := range results {
			results[i] = Run(seed, func(format string, args ...any) { fmt.Fprintf(&stories[i], format+"\n", args...) })
		}
		if stories[0].String() != stories[1].String() || !reflect.DeepEqual(results[0], results[1]) {
			t.Errorf("seed %d is told in two ways", seed)
		}
		if stories[0].Len() == 0 {
			t.Errorf("seed %d tells nothing", seed)
		}
	}
}

// A plan reads as it is written.
func TestPlan(t *testing.T) {
	for _, text := range []string{"0-4,7,9c", "3", "5c-9", "none"} {
		p, err := ParsePlan(text)
		if text == "5c-9" {
			if err == nil {
				t.Errorf("%q was read as %v", text, p)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if got := p.String(); got != text && text != "none" {
			t.Errorf("%q is written as %q", text, got)
		}
	}
	for _, text := range []string{"", "x", "4-2", "3,3", "-1"} {
		if _, err := ParsePlan(text); err == nil {
			t.Errorf("%q is a plan", text)
		}
	}
}
