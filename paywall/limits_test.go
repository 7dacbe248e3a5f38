package paywall_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// One payer may ask so often and no oftener, by the middleware's limit and by a price's
// own; who asks too soon is told when, and is charged nothing. Repeats do not count.
func TestPayersAreLimited(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{
		Price: paywall.PerRequest(1_000), Limit: paywall.Limit{PerSecond: 0.5, Burst: 3},
		Rules: map[string]paywall.Price{"/once": {Msat: 2_000, Limit: paywall.Limit{PerSecond: 0.1, Burst: 1}}},
	}, echo)
	codes := func(path string, keys ...string) (got []int) {
		for _, key := range keys {
			req, err := http.NewRequest(http.MethodGet, m.web.URL+path, nil)
			must(t, err)
			req.Header.Set(mpp.HeaderIdempotencyKey, key)
			resp, err := m.http().Do(req)
			must(t, err)
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			must(t, resp.Body.Close())
			if got = append(got, resp.StatusCode); resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "" {
				t.Error("it is not said when")
			}
		}
		return got
	}
	check := func(got []int, want ...int) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	check(codes("/a", "1", "2", "1", "2", "3", "4", "3"), 200, 200, 200, 200, 200, 429, 200)
	m.Wait(4 * time.Second)
	check(codes("/a", "5", "6", "7"), 200, 200, 429)
	m.Wait(time.Minute)
	check(codes("/once", "8", "9", "8"), 200, 429, 200)
	check(codes("/a", "10", "11", "12"), 200, 200, 429) // both limits count; what one refused does not
	m.settled(5*1_000 + 2_000 + 2_000)
}

// What nobody pays for is limited by client: challenges, and credentials that are
// refused. What is paid does not count.
func TestUnpaidRequestsAreLimited(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{Price: paywall.PerRequest(1_000), Unpaid: paywall.Limit{PerSecond: 1, Burst: 4}}, echo)
	for range 20 {
		m.get("/paid")
	}
	m.Wait(time.Minute)
	for i := range 8 {
		req, err := http.NewRequest(http.MethodGet, m.web.URL+"/unpaid", nil)
		must(t, err)
		if i%2 == 1 {
			req.Header.Set(mpp.HeaderCredential, "Payment "+strings.Repeat("x", 100))
		}
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		if want := map[bool]int{true: http.StatusPaymentRequired, false: http.StatusTooManyRequests}[i < 4]; resp.StatusCode != want {
			t.Errorf("%d: %s", i, resp.Status)
		}
	}
	m.Wait(time.Minute)
	m.get("/paid")
	m.settled(21_000)
}

// A client that has its free quota and an old challenge can still pay what it owes: the
// quota is for what is asked for, not for payments.
func TestFreeQuotaIsNotInTheWayOfPayments(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{Price: paywall.PerEvent(1_000), FreePerDay: 2}, telling(20))
	for range 2 {
		if resp, _ := m.get("/free"); resp.Header.Get(mpp.HeaderReceipt) != "" {
			t.Error("a receipt for what is free")
		}
	}
	m.get("/live")
	m.Wait(25 * time.Hour) // a new day, and the challenge is over
	resp, err := m.http().Get(m.web.URL + "/free")
	must(t, err)
	must(t, resp.Body.Close())
	resp, err = http.Head(m.web.URL + "/live")
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode != http.StatusPaymentRequired {
		t.Errorf("a HEAD is answered %s", resp.Status)
	}
	m.settled(20_000)
}
