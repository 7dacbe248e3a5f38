package paywall

import (
	"testing"
	"time"
)

// A limit that another rule sets counts for who was limited before, from what it has left.
func TestLimitsChange(t *testing.T) {
	now := time.Unix(1_000, 0)
	l := limiters{now: func() time.Time { return now }}
	take := func(limit Limit) (n int) {
		for range 50 {
			if ok, _ := l.take("a", limit); ok {
				n++
			}
		}
		return n
	}
	few, many := Limit{PerSecond: 1, Burst: 2}, Limit{PerSecond: 10, Burst: 20}
	if n := take(few); n != 2 {
		t.Errorf("%d of 2 at once", n)
	}
	if n := take(many); n != 0 {
		t.Errorf("%d at once: what is left counts on", n)
	}
	now = now.Add(time.Second)
	if n := take(many); n < 9 || n > 11 {
		t.Errorf("%d in a second of ten", n)
	}
}
