// Package spread does the same to many things on all cores at once. It is handed to the
// drivers, which start no goroutine of their own, and knows nothing of what it does.
package spread

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// step is how many things are taken at once.
const step = 256

// All calls do once for each number below n, in any order and several at once, and
// returns when all are done.
func All(n int, do func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), (n+step-1)/step)
	if workers < 2 {
		for i := range n {
			do(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for from := int(next.Add(step)) - step; from < n; from = int(next.Add(step)) - step {
				for i := from; i < min(from+step, n); i++ {
					do(i)
				}
			}
		})
	}
	wg.Wait()
}
