package paywall_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// An answer that is charged by the second costs the seconds that it takes, begun ones
// whole, also while it says nothing; a payer pays what its own clock says too.
func TestSecondsAreCharged(t *testing.T) {
	for _, kind := range []string{"text/event-stream", "video/mp4"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			more := make(chan struct{})
			m := newMall(t, paywall.Price{Msat: 1_000, Unit: "second", Credit: 5_000}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", kind)
				_, err := io.WriteString(w, "data: first\n\n")
				must(t, errors.Join(err, http.NewResponseController(w).Flush()))
				select {
				case <-more:
				case <-r.Context().Done():
					return
				}
				_, err = io.WriteString(w, "data: last\n\n")
				must(t, err)
			})
			resp, err := m.http().Get(m.web.URL + "/live")
			must(t, err)
			first := make([]byte, len("data: first\n\n"))
			_, err = io.ReadFull(resp.Body, first)
			must(t, err)
			rest := make(chan []byte, 1)
			go func() {
				b, err := io.ReadAll(resp.Body)
				if err = errors.Join(err, resp.Body.Close()); err != nil {
					t.Error(err)
				}
				rest <- b
			}()
			for want := uint64(4_000); want <= 10_000; want += 3_000 {
				m.Wait(3 * time.Second)
				eventually(t, func() bool { _, theirs := m.records(); return theirs.Charged == want })
			}
			close(more)
			if got := <-rest; string(first) != "data: first\n\n" || string(got) != "data: last\n\n" {
				t.Errorf("%q %q", first, got)
			}
			m.settled(10_000)
		})
	}
}

// While a payment is missing the seconds are not counted.
func TestSecondsOfAPauseAreFree(t *testing.T) {
	more := make(chan struct{})
	m := newMall(t, paywall.Price{Msat: 1_000, Unit: "second", Credit: 4_000}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		must(t, http.NewResponseController(w).Flush())
		select {
		case <-more:
		case <-r.Context().Done():
		}
	})
	wire := &tap{next: m.net}
	m.base, m.net.hold = wire, make(chan struct{})
	m.travel(paywall.TransportConfig{})
	resp, err := m.http().Get(m.web.URL + "/live")
	must(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		done <- err
	}()
	m.Wait(3 * time.Second)
	eventually(t, func() bool { _, theirs := m.records(); return theirs.Charged == 4_000 })
	m.Wait(time.Second)
	eventually(t, func() bool { return strings.Contains(wire.seen(), bitcoin.EventNeedVoucher) })
	m.Wait(time.Hour)
	close(m.net.hold)
	eventually(t, func() bool { _, theirs := m.records(); return theirs.Charged >= 5_000 })
	close(more)
	must(t, <-done)
	m.settled(5_000)
}

// A stream that was bought to its end is had again from where a client asks, whatever its
// handler makes of it; one that is asked for again while it flows goes on there.
func TestEventsAreHadAgain(t *testing.T) {
	m := newMall(t, paywall.PerEvent(1_000), func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Last-Event-ID")
		telling(10)(w, r)
	})
	ask := func(last string) string {
		req, err := http.NewRequest(http.MethodGet, m.web.URL+"/", nil)
		must(t, err)
		req.Header.Set(mpp.HeaderIdempotencyKey, "one")
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := m.http().Do(req)
		must(t, err)
		b, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		return string(b)
	}
	for last, want := range map[string]string{"": all(10), "7": all(10)[len(all(7)):], "10": "", "99": all(10)} {
		if ask(""); ask(last) != want {
			t.Errorf("behind %q: %q", last, ask(last))
		}
	}
	if m.runs.Load() != 1 {
		t.Errorf("the handler ran %d times", m.runs.Load())
	}
	m.settled(10_000)
}

// A stream that is asked for again ends on the connection that it was on: that is lost.
func TestStreamMovesToTheNewConnection(t *testing.T) {
	left := make(chan struct{}, 10)
	m := newMall(t, paywall.PerEvent(1_000), func(w http.ResponseWriter, r *http.Request) {
		telling(3)(w, r)
		if r.Header.Get("Last-Event-ID") == "" {
			<-r.Context().Done()
			left <- struct{}{}
		}
	})
	ask := func(last string) *http.Response {
		req, err := http.NewRequest(http.MethodGet, m.web.URL+"/", nil)
		must(t, err)
		req.Header.Set(mpp.HeaderIdempotencyKey, "one")
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := m.http().Do(req)
		must(t, err)
		return resp
	}
	first := ask("")
	_, err := io.ReadFull(first.Body, make([]byte, len(all(2))))
	must(t, err)
	second := ask("2")
	b, err := io.ReadAll(second.Body)
	must(t, errors.Join(err, second.Body.Close()))
	<-left
	if !bytes.Equal(b, []byte(event(3))) {
		t.Errorf("%q", b)
	}
	must(t, first.Body.Close())
	must(t, m.paying.Close(ctx))
	if _, theirs := m.records(); theirs.Charged != 3_000 {
		t.Errorf("charged are %d msat", theirs.Charged)
	}
}
