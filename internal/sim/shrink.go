package sim

import "slices"

// Shrink reduces a failing seed: it drops events, first in large pieces, then one
// by one, and lets those that stay happen without faults by chance, for as long as
// the run still fails. Any violation counts as the failure; tries bounds the runs.
// It returns the plan and what it comes to; ok is false where the seed does not fail.
func Shrink(seed uint64, tries int) (p Plan, r Result, ok bool) {
	all := make([]int, runSteps)
	for i := range all {
		all[i] = i
	}
	fails := func(q Plan) bool {
		if tries--; tries < 0 {
			return false
		}
		if q.Keep == nil {
			q.Keep = []int{} // no event is left; nil would be all of them
		}
		got := RunPlan(seed, q, nil)
		if len(got.Violations) == 0 {
			return false
		}
		p, r = q, got
		return true
	}
	if tries++; !fails(Plan{Keep: all}) {
		return p, r, false
	}
	keep := drop(all, func(rest []int) bool { return fails(Plan{Keep: rest}) })
	noisy := drop(keep, func(rest []int) bool { return fails(Plan{Keep: keep, Calm: without(keep, rest)}) })
	drop(keep, func(rest []int) bool {
		return fails(Plan{Keep: rest, Calm: without(rest, noisy)})
	})
	return p, r, true
}

// drop removes pieces of a list, halving their length, while what is left holds.
func drop(list []int, holds func([]int) bool) []int {
	for size := max(1, len(list)/2); ; size /= 2 {
		for at := 0; at < len(list); {
			rest := slices.Concat(list[:at], list[min(len(list), at+size):])
			if holds(rest) {
				list = rest
				continue
			}
			at += size
		}
		if size <= 1 {
			return list
		}
	}
}

// without is a rising list less what is in another.
func without(list, other []int) (left []int) {
	for _, i := range list {
		if _, has := slices.BinarySearch(other, i); !has {
			left = append(left, i)
		}
	}
	return left
}
