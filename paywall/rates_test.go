package paywall_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// euros is a rate that a test moves.
type euros struct{ rate atomic.Uint64 }

func (e *euros) BTC(_ context.Context, currency string) (uint64, error) {
	if r := e.rate.Load(); r > 0 && currency == "EUR" {
		return r, nil
	}
	return 0, fmt.Errorf("%w: it is not known", paywall.ErrRate)
}

// A price in a currency is what the challenge said in satoshi, until it expires, however
// the rate moves meanwhile.
func TestPriceInACurrencyIsFixedInTheQuote(t *testing.T) {
	rates := &euros{}
	rates.rate.Store(50_000_000_000) // 50,000 EUR: 0.01 EUR are 20 sat
	m := newMall(t, paywall.PerRequest(0).In("0.01", "EUR", rates), echo)
	m.get("/a?1") // 20 sat
	rates.rate.Store(10_000_000_000)
	m.get("/a?2") // still 20 sat: the challenge lives
	m.Wait(time.Hour)
	m.get("/a?3") // 100 sat
	resp, err := http.Get(m.web.URL + "/d")
	must(t, err)
	must(t, resp.Body.Close())
	list, err := mpp.ParseChallenges(resp.Header.Values(mpp.HeaderChallenge))
	must(t, err)
	raw, err := mpp.DecodeBase64(list[0].Request)
	must(t, err)
	for _, want := range []string{`"priceAmount":"0.01"`, `"priceCurrency":"EUR"`, `"priceUnits":1`, `"amount":"100"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the challenge lacks %s: %s", want, raw)
		}
	}
	m.settled(140_000)
}

// Without a rate nothing is sold, nor is what became dearer than the seller allows; a
// quote that is out is good all the same.
func TestPriceWithoutARate(t *testing.T) {
	rates := &euros{}
	price := paywall.PerRequest(50_000).In("0.01", "EUR", rates) // at most 50 sat
	m := newMall(t, price, echo)
	for _, rate := range []uint64{0, 10_000_000_000, 1} {
		rates.rate.Store(rate)
		resp, err := http.Get(m.web.URL + "/a")
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("at the rate %d: %s", rate, resp.Status)
		}
	}
	rates.rate.Store(50_000_000_000)
	m.get("/a")
	rates.rate.Store(0)
	m.get("/a")
	m.settled(40_000)
}

// A challenge for a cheap thing in a currency buys no dear one.
func TestCurrencyQuoteIsForItsPrice(t *testing.T) {
	rates := &euros{}
	rates.rate.Store(50_000_000_000)
	m := newMallWith(t, paywall.MiddlewareConfig{Rules: map[string]paywall.Price{
		"/cheap": paywall.PerRequest(0).In("0.01", "EUR", rates), "/dear": paywall.PerRequest(0).In("0.5", "EUR", rates),
		"/bytes": paywall.PerByte(0, 1000).In("0.01", "EUR", rates),
	}}, echo)
	m.get("/cheap")
	cheap := m.net.seen[len(m.net.seen)-1]
	for _, path := range []string{"/dear", "/bytes"} {
		req, err := http.NewRequest(http.MethodGet, m.web.URL+path, nil)
		must(t, err)
		req.Header.Set(mpp.HeaderCredential, cheap.Header.Get(mpp.HeaderCredential))
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != http.StatusPaymentRequired {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	m.get("/dear")
	m.settled(20_000 + 1_000_000)
}

// A file of rates is read again when it changes, and counts no more when it is old.
func TestRateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rates")
	write := func(text string, age time.Duration) {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		at := time.Now().Add(-age)
		must(t, os.Chtimes(path, at, at))
	}
	for _, bad := range []string{"EUR", "EUR x", "EUR -1", "EUR 0", "EUR 1.2345678", "EUR 1\nEUR 2", "eur 1", "BTC 1", "EUR 1 2", "EUR 1."} {
		write(bad, 0)
		if _, err := paywall.NewRateFile(path, 0); !errors.Is(err, paywall.ErrRate) {
			t.Errorf("%q is taken: %v", bad, err)
		}
	}
	write("# of today\nEUR 65432.10 # one bitcoin\n\nUSD\t70000\n", time.Minute)
	f, err := paywall.NewRateFile(path, time.Hour)
	must(t, err)
	for name, want := range map[string]uint64{"EUR": 65_432_100_000, "USD": 70_000_000_000} {
		if got, err := f.BTC(ctx, name); err != nil || got != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	if _, err := f.BTC(ctx, "CHF"); !errors.Is(err, paywall.ErrRate) {
		t.Errorf("CHF: %v", err)
	}
	write("EUR 1\n", 0)
	if got, err := f.BTC(ctx, "EUR"); err != nil || got != 1_000_000 {
		t.Errorf("after a change: %d, %v", got, err)
	}
	write("EUR 1\n", 2*time.Hour)
	if _, err := f.BTC(ctx, "EUR"); !errors.Is(err, paywall.ErrRate) {
		t.Errorf("an old file: %v", err)
	}
	for _, bad := range []paywall.Price{
		paywall.PerRequest(0).In("1,5", "EUR", f), paywall.PerRequest(0).In("0", "EUR", f), paywall.PerRequest(0).In("1", "euro", f), paywall.PerRequest(0).In("1", "EUR", nil),
	} {
		if _, err := paywall.NewMiddleware(paywall.MiddlewareConfig{Server: newMall(t, paywall.PerRequest(1), echo).wall, Price: bad}); !errors.Is(err, paywall.ErrQuote) {
			t.Errorf("it is taken: %v", err)
		}
	}
}
