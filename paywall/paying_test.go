package paywall_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// Whatever message is lost, on its way there or back or in the middle, nothing is paid
// twice and nothing of what was bought is missing.
func TestTransportLosesNothingWhateverIsCut(t *testing.T) {
	data := edgetest.Pattern(400_000, 9)
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/say" {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				_, err = w.Write(body)
			}
			if err != nil {
				t.Error(err)
			}
			return
		}
		for part := range bytesIn(data, 30_000) {
			if _, err := w.Write(part); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
	cfg := paywall.MiddlewareConfig{
		Price: paywall.Price{Msat: 1000, Per: 1000, Unit: "byte", Credit: 100_000},
		Rules: map[string]paywall.Price{"/say": paywall.PerRequest(10_000)},
	}
	story := func(m *mall) {
		t.Helper()
		resp, err := m.http().Post(m.web.URL+"/say", "text/plain", strings.NewReader("once"))
		must(t, err)
		said, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		_, stream := m.get("/stream")
		_, again := m.get("/say?empty")
		if string(said) != "once" || !bytes.Equal(stream, data) || len(again) != 0 {
			t.Fatalf("%q, %d bytes, %q", said, len(stream), again)
		}
		m.settled(10_000 + 400_000 + 10_000)
	}
	whole := newMallWith(t, cfg, handler)
	story(whole)
	requests := whole.net.requests
	if requests < 8 {
		t.Fatalf("only %d requests", requests)
	}
	for _, how := range []string{"never", "answer", "body"} {
		for at := 1; at <= requests; at++ {
			t.Run(fmt.Sprintf("%s %d", how, at), func(t *testing.T) {
				m := newMallWith(t, cfg, handler)
				m.net.cutAt, m.net.how, m.net.after = at, how, int64(at*7919%100_000)
				story(m)
			})
		}
	}
}

// Many at once share one channel and its credit.
func TestTransportManyAtOnce(t *testing.T) {
	m := newMall(t, paywall.Price{Msat: 2_000, Credit: 10_000}, echo)
	var group sync.WaitGroup
	for i := range 40 {
		group.Add(1)
		go func() {
			defer group.Done()
			resp, err := m.http().Get(fmt.Sprintf("%s/%d", m.web.URL, i))
			if err != nil {
				t.Error(err)
				return
			}
			body, err := io.ReadAll(resp.Body)
			if err = errors.Join(err, resp.Body.Close()); err != nil || string(body) != fmt.Sprintf("you asked for /%d", i) {
				t.Errorf("%q, %v", body, err)
			}
		}()
	}
	group.Wait()
	m.settled(80_000)
}

// Nothing is paid that was not allowed, and the error says what it was.
func TestTransportPaysWithinItsLimits(t *testing.T) {
	for name, c := range map[string]struct {
		price paywall.Price
		cfg   paywall.TransportConfig
		want  error
		after int // requests that succeed before
	}{
		"host":    {paywall.PerRequest(1000), paywall.TransportConfig{Hosts: []string{"other.example"}}, paywall.ErrNotAllowed, 0},
		"no host": {paywall.PerRequest(1000), paywall.TransportConfig{Hosts: []string{}}, paywall.ErrNotAllowed, 0},
		"budget":  {paywall.PerRequest(500_000), paywall.TransportConfig{MaxPerHost: 1_200}, channel.ErrBudget, 2},
		"dear":    {paywall.PerRequest(5_000_000), paywall.TransportConfig{MaxPerHost: 1_200}, channel.ErrBudget, 0},
		"prepay":  {paywall.Price{Msat: 10_000, Ahead: true}, paywall.TransportConfig{MaxPrepay: 9}, channel.ErrPrepay, 0},
		"deposit": {paywall.PerRequest(1000), paywall.TransportConfig{MaxDeposit: 700}, paywall.ErrDeposit, 0},
		"check":   {paywall.PerRequest(1000), paywall.TransportConfig{Check: func(*paywall.Quoted) error { return paywall.ErrPriceChanged }}, paywall.ErrPriceChanged, 0},
		"kind":    {paywall.PerRequest(1000), paywall.TransportConfig{Construction: "duplex"}, channel.ErrTerms, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMall(t, c.price, echo)
			m.travel(c.cfg)
			for range c.after {
				m.get("/fine")
			}
			resp, err := m.http().Get(m.web.URL + "/refused")
			if err == nil {
				t.Fatalf("it was paid: %s", resp.Status)
			}
			var typed *paywall.PaymentError
			if !errors.Is(err, c.want) || !errors.As(err, &typed) || typed.URL != m.web.URL+"/refused" {
				t.Fatalf("got %v", err)
			}
			if int(m.runs.Load()) != c.after {
				t.Errorf("the handler ran %d times", m.runs.Load())
			}
		})
	}
}

// What has to be paid first is, within the limit.
func TestTransportPaysAhead(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{
		Price: paywall.Price{Msat: 10_000, Ahead: true},
		Rules: map[string]paywall.Price{"/bytes": {Msat: 1000, Per: 1000, Unit: "byte", Ahead: true}},
	}, func(w http.ResponseWriter, r *http.Request) {
		_, err := w.Write(make([]byte, 200_000))
		must(t, err)
	})
	m.travel(paywall.TransportConfig{MaxPrepay: 100})
	m.get("/a")
	m.get("/b")
	m.settled(20_000)
}

// A restarted payer goes on in the channel that is there.
func TestTransportGoesOnInItsChannel(t *testing.T) {
	m := newMall(t, paywall.PerRequest(1_000), echo)
	m.get("/a")
	m.travel(paywall.TransportConfig{})
	m.get("/b")
	m.settled(2_000)
}

// A channel that the provider has closed is left, and another one is opened.
func TestTransportLeavesWhatIsClosed(t *testing.T) {
	m := newMall(t, paywall.PerRequest(1_000), echo)
	m.get("/a")
	must(t, m.paying.CloseIdle(ctx, -time.Second))
	m.get("/b")
	mine, err := m.Payer.Records(ctx)
	must(t, err)
	if len(mine) != 2 {
		t.Fatalf("%d channels", len(mine))
	}
	must(t, m.paying.Close(ctx))
	if _, err := m.http().Get(m.web.URL + "/c"); !errors.Is(err, paywall.ErrClosed) {
		t.Errorf("after the close: %v", err)
	}
}

// A caller that leaves an answer pays what it read, and at most the credit beyond.
func TestTransportAnswerThatIsLeft(t *testing.T) {
	gone := make(chan struct{})
	m := newMall(t, paywall.Price{Msat: 1000, Per: 1000, Unit: "byte", Credit: 100_000}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/endless" {
			echo(w, r)
			return
		}
		defer close(gone)
		for {
			if _, err := w.Write(make([]byte, 10_000)); err != nil {
				return
			}
		}
	})
	resp, err := m.http().Get(m.web.URL + "/endless")
	must(t, err)
	_, err = io.CopyN(io.Discard, resp.Body, 5_000_000)
	must(t, errors.Join(err, resp.Body.Close()))
	<-gone
	m.get("/next")
	must(t, m.paying.Close(ctx))
	mine, theirs := m.records()
	if most := uint64(5_000_000 + 100_000 + 18_000); theirs.Charged < 5_000_000 || theirs.Paid*1000 > most || mine.Signed*1000 > most {
		t.Errorf("charged %d msat, paid %d sat, read were 5,000,000 msat", theirs.Charged, theirs.Paid)
	}
}

// A handler's own Authorization is not overwritten, and a 402 of another kind comes
// through.
func TestTransportLeavesOthersAlone(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{Rules: map[string]paywall.Price{"/paid": paywall.PerRequest(1000)}}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Payment id="x", realm="r", method="other", intent="charge", request="e30"`)
		w.WriteHeader(http.StatusPaymentRequired)
	})
	req, err := http.NewRequest(http.MethodGet, m.web.URL+"/paid", nil)
	must(t, err)
	req.Header.Set(mpp.HeaderCredential, "Bearer mine")
	if _, err := m.http().Do(req); !errors.Is(err, paywall.ErrAuthorization) {
		t.Errorf("got %v", err)
	}
	if resp, _ := m.get("/other"); resp.StatusCode != http.StatusPaymentRequired {
		t.Errorf("another method's 402: %s", resp.Status)
	}
}

// The context ends a wait for a payment and a read, and nothing is charged twice after.
func TestTransportContext(t *testing.T) {
	begun := make(chan struct{}, 10)
	m := newMall(t, paywall.PerRequest(1_000), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- struct{}{}
			<-r.Context().Done()
			return
		}
		echo(w, r)
	})
	m.get("/a")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.web.URL+"/slow", nil)
	must(t, err)
	if _, err := m.http().Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	m.get("/b")
	m.settled(2_000)
}
