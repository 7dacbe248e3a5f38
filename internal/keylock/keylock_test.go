package keylock

import (
	"fmt"
	"sync"
	"testing"
)

// Each key has one user at a time, and nothing is kept of keys that nobody uses.
func TestLocks(t *testing.T) {
	var l Locks
	var work sync.WaitGroup
	counts := make([]int, 7) // each guarded by a lock of its own
	for i := range 700 {
		work.Go(func() {
			defer l.Lock(fmt.Sprint(i % len(counts)))()
			counts[i%len(counts)]++
		})
	}
	for i := range 10_000 {
		l.Lock(fmt.Sprint("stranger ", i))()
	}
	work.Wait()
	for i, n := range counts {
		if n != 100 {
			t.Errorf("%d: %d", i, n)
		}
	}
	if len(l.held) != 0 {
		t.Errorf("%d locks are kept that nobody holds", len(l.held))
	}
}
