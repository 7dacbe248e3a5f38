package download_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/paywall"
)

// outage puts a network before the market that is gone after this many slices, until
// the market's clock is so much later.
func (s *shop) outage(slices int64, lasts time.Duration) {
	var seen atomic.Int64
	var until time.Time
	s.Wrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if downloadtest.Slices(r) && seen.Add(1) == slices {
				until = s.Now().Add(lasts)
			}
			if s.Now().Before(until) {
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	})
}

// sleeps lets every wait pass on the market's clock, with a block for each ten minutes
// and for the first waits, which are for the funding.
func (s *shop) sleeps() {
	n, next := 0, s.Now()
	s.OnSleep = func(d time.Duration) error {
		s.Advance(d)
		if n++; n > 10 && s.Now().Before(next) {
			return nil
		}
		next = s.Now().Add(10 * time.Minute)
		_, err := s.Node.Mine(1)
		return err
	}
}

func TestNetworkThatIsGoneForAnHourIsWaitedFor(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	s.outage(3, time.Hour)
	s.sleeps()
	o := s.Open()
	p, err := o.Buyer.Plan(ctx, s.want(), nil)
	downloadtest.Must(t, err)
	lim := plenty
	lim.Wait = 2 * time.Hour
	var waits []download.Event
	res, err := o.Buyer.Run(ctx, p, lim, func(ev download.Event) {
		if ev.Phase == download.Retrying {
			waits = append(waits, ev)
		}
	})
	downloadtest.Must(t, err)
	s.same()
	if res.Bought != 300_000 || res.Reused != 0 || res.Payments != 5 {
		t.Fatalf("bought %d, reused %d bytes, %d payments", res.Bought, res.Reused, res.Payments)
	}
	if len(waits) < 100 || len(waits) > 200 {
		t.Fatalf("%d waits in an hour", len(waits))
	}
	for i, ev := range waits {
		if ev.Wait > 30*time.Second || ev.Reason == nil || ev.Left <= 0 || i > 0 && ev.Down <= waits[i-1].Down {
			t.Fatalf("wait %d is %+v", i, ev)
		}
	}
}

func TestWaitIsLimited(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	s.outage(3, time.Hour)
	s.sleeps()
	lim := plenty
	lim.Wait = 10 * time.Minute
	begin := s.Now()
	_, _, err := s.get(s.want(), lim)
	if !errors.Is(err, paywall.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	if took := s.Now().Sub(begin); took < 10*time.Minute || took > 12*time.Minute {
		t.Fatalf("gave up after %v", took)
	}
	s.Advance(time.Hour)
	_, res, err := s.get(s.want(), lim)
	downloadtest.Must(t, err)
	s.same()
	if res.Reused < 65_536 {
		t.Fatalf("%d bytes were kept", res.Reused)
	}
}
