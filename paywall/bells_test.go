package paywall

import "testing"

// A stream wakes with each payment, also with one in a duplex channel whose payee paid back
// before: the share is less then than it was. What pays nothing wakes nobody.
func TestStreamsWakeAfterAPayBack(t *testing.T) {
	var b bells
	l := b.listen("c")
	defer l.leave()
	for _, c := range []struct {
		paid uint64
		wake bool
	}{{10, true}, {10, false}, {4, true}, {6, true}, {6, false}, {11, true}} {
		next := l.next()
		b.rang("c", c.paid)
		b.rang("another", 100)
		woken := false
		select {
		case <-next:
			woken = true
		default:
		}
		if woken != c.wake {
			t.Fatalf("%d sat: woken %t", c.paid, woken)
		}
	}
}
