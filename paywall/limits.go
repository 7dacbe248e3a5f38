package paywall

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/spillway/spillway/mpp"
)

// maxLimited bounds of how many payers and clients limits keep count. One that is
// forgotten begins with a full burst.
const maxLimited = 1 << 16

// Limit is how often somebody may ask. The zero value is no limit.
type Limit struct {
	PerSecond float64 // requests
	Burst     int     // that may come at once; default: those of a second, at least one
}

func (l Limit) burst() int {
	if l.Burst > 0 {
		return l.Burst
	}
	return max(int(l.PerSecond), 1)
}

// limiters hold a limiter for each that is limited. They live in memory.
type limiters struct {
	now func() time.Time
	mu  sync.Mutex
	by  map[string]*rate.Limiter
}

// take uses one request of a limit; wait says how long it takes until there is one where
// there is none left.
func (l *limiters) take(name string, limit Limit) (ok bool, wait time.Duration) {
	if limit.PerSecond <= 0 || name == "" {
		return true, 0
	}
	l.mu.Lock()
	now := l.now()
	one := l.by[name]
	if one == nil {
		if l.by == nil || len(l.by) >= maxLimited {
			l.by = map[string]*rate.Limiter{}
		}
		one = rate.NewLimiter(rate.Limit(limit.PerSecond), limit.burst())
		l.by[name] = one
	} else if one.Limit() != rate.Limit(limit.PerSecond) || one.Burst() != limit.burst() {
		one.SetLimitAt(now, rate.Limit(limit.PerSecond)) // another rule's by now
		one.SetBurstAt(now, limit.burst())
	}
	l.mu.Unlock()
	r := one.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return false, wait
	}
	return true, 0
}

// giveBack returns a request that turned out not to count.
func (l *limiters) giveBack(name string, limit Limit) {
	if limit.PerSecond <= 0 || name == "" {
		return
	}
	l.mu.Lock()
	one, now := l.by[name], l.now()
	l.mu.Unlock()
	if one != nil && one.TokensAt(now) < float64(limit.burst()) {
		one.AllowN(now, -1)
	}
}

// LimitError: a payer or a client asks too often.
type LimitError struct{ Wait time.Duration }

func (e *LimitError) Error() string {
	return "too many requests; the next one in " + e.Wait.Round(time.Millisecond).String()
}

// limited answers a request that came too soon: 429 with Retry-After, in whole seconds
// rounded up. Nothing is charged; what the request paid is kept by Admit before.
func limited(w http.ResponseWriter, r *http.Request, e *LimitError) {
	seconds := max(int64((e.Wait+time.Second-1)/time.Second), 1)
	w.Header().Set("Retry-After", strconv.FormatInt(min(seconds, 3600), 10))
	writeProblem(w, r, &mpp.Problem{
		Type: "about:blank", Title: http.StatusText(http.StatusTooManyRequests), Status: http.StatusTooManyRequests,
		Detail: e.Error() + "; nothing was charged",
	})
}

func asLimit(err error) *LimitError {
	var limit *LimitError
	if errors.As(err, &limit) {
		return limit
	}
	return nil
}
