package paywall

import (
	"sync"
	"testing"
)

// TestLaneLocks: a request that begins on a lane, holding its lock, and another that takes the same lane up never wait
// for each other: a lane's lock is taken before its account's.
func TestLaneLocks(t *testing.T) {
	a := &account{t: &Transport{}, signed: map[string]uint64{}, lanes: map[string]*lane{}}
	l := a.use("one", "first")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20_000 {
				l.mu.Lock()
				a.left() // as payAhead does
				l.mu.Unlock()
			}
		})
		wg.Go(func() {
			for range 20_000 {
				if a.use("one", "again") != l {
					t.Error("another lane for the same channel")
				}
			}
		})
	}
	wg.Wait()
	if l.where() != "again" {
		t.Errorf("used last at %q", l.where())
	}
}
