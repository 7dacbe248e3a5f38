package spread

import (
	"sync/atomic"
	"testing"
)

// Each is done exactly once, however many there are.
func TestAll(t *testing.T) {
	for _, n := range []int{0, 1, step - 1, step, step + 1, 10*step + 7} {
		done := make([]atomic.Int32, n)
		All(n, func(i int) { done[i].Add(1) })
		for i := range done {
			if got := done[i].Load(); got != 1 {
				t.Fatalf("%d of %d was done %d times", i, n, got)
			}
		}
	}
}
