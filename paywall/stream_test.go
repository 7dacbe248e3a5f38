package paywall_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// event is the n-th event of a test's stream.
func event(n int) string { return fmt.Sprintf("id: %d\ndata: event %d\ndata: of many\n\n", n, n) }

func all(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		b.WriteString(event(i))
	}
	return b.String()
}

// telling is a handler that sends events, and goes on behind the one that it is asked
// to go on behind.
func telling(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		after, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
		for i := after + 1; i <= n; i++ {
			if _, err := io.WriteString(w, event(i)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
}

// Every event with data is charged once, while they flow; a reader sees exactly what the
// handler sent. The stream pauses while its credit is used up, and outlives it many times.
func TestEventsArePaidAsTheyFlow(t *testing.T) {
	m := newMall(t, paywall.PerEvent(1_000), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ": hello\n\nretry: 10\n\n")
		telling(100)(w, r)
		fmt.Fprint(w, "data: not ended")
	})
	resp, body := m.get("/events")
	if want := ": hello\n\nretry: 10\n\n" + all(100) + "data: not ended"; string(body) != want {
		t.Fatalf("%d bytes came of %d: %q", len(body), len(want), body[max(0, len(body)-300):])
	}
	last, err := bitcoin.ParseReceipt(resp.Trailer.Values(mpp.HeaderReceipt))
	must(t, err)
	if last.RequestMsat != 100_000 || last.ChargedMsat != 100_000 {
		t.Errorf("the last receipt: %+v", last)
	}
	m.settled(100_000)
}

// Prices by the byte, the chunk and the request mean the same in a stream of events as
// elsewhere: what the handler sent is counted, not what the payment says in between.
func TestEventsByOtherUnits(t *testing.T) {
	long := "id: long\ndata: " + strings.Repeat("x", 150_000) + "\n\n"
	text := all(50) + long + all(3)
	for name, c := range map[string]struct {
		price paywall.Price
		want  uint64
	}{
		"byte":    {paywall.Price{Msat: 1000, Per: 100, Unit: "byte", Credit: 20_000}, uint64(len(text)+0) * 10},
		"chunk":   {paywall.PerChunk(5_000, 1_000), uint64((len(text)+999)/1000) * 5_000},
		"event":   {paywall.PerEvent(2_000), 54 * 2_000},
		"request": {paywall.PerRequest(9_000), 9_000},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMall(t, c.price, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for part := range bytesIn([]byte(text), 777) {
					if _, err := w.Write(part); err != nil {
						return
					}
				}
			})
			if _, body := m.get("/"); string(body) != text {
				t.Fatalf("%d bytes came of %d", len(body), len(text))
			}
			m.settled(c.want)
		})
	}
}

// tap keeps what bodies carry on the wire.
type tap struct {
	next http.RoundTripper
	mu   sync.Mutex
	wire bytes.Buffer
}

func (n *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := n.next.RoundTrip(r)
	if err == nil && r.Method == http.MethodGet && resp.StatusCode == http.StatusOK {
		resp.Body = &tapped{resp.Body, n}
	}
	return resp, err
}

type tapped struct {
	io.ReadCloser
	n *tap
}

func (b *tapped) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.mu.Lock()
	defer b.n.mu.Unlock()
	b.n.wire.Write(p[:n])
	return n, err
}

func (n *tap) seen() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wire.String()
}

// A stream that is not paid pauses at its credit and says what it waits for; it goes on
// with a payment on another connection, also when its challenge has ended meanwhile.
func TestStreamPausesUntilAPayment(t *testing.T) {
	m := newMall(t, paywall.PerEvent(1_000), telling(30))
	m.get("/live") // the channel is open
	wire := &tap{next: m.net}
	m.base, m.net.hold = wire, make(chan struct{})
	m.travel(paywall.TransportConfig{})
	resp, err := m.http().Get(m.web.URL + "/live")
	must(t, err)
	lines := make(chan string, 1000)
	done := make(chan error, 1)
	go func() {
		s := bufio.NewScanner(resp.Body)
		for s.Scan() {
			lines <- s.Text()
		}
		done <- s.Err()
	}()
	eventually(t, func() bool { return strings.Contains(wire.seen(), "event: payment-need-voucher\n") })
	_, theirs := m.records()
	_, data, _ := strings.Cut(wire.seen(), "event: payment-need-voucher\ndata: ")
	var need bitcoin.NeedVoucher
	must(t, need.UnmarshalJSON([]byte(strings.SplitN(data, "\n", 2)[0])))
	want := bitcoin.NeedVoucher{ChannelID: theirs.Terms.ID(), RequiredCumulative: 38, AcceptedCumulative: 30, Deposit: theirs.Terms.Capacity, ChargedMsat: 38_000}
	if need != want || theirs.Charged != 38_000 {
		t.Errorf("it waits for %+v, want %+v; charged are %d msat", need, want, theirs.Charged)
	}
	select {
	case err := <-done:
		t.Fatalf("it broke off: %v", err)
	default:
	}
	m.Wait(time.Hour) // its challenge is over
	close(m.net.hold)
	must(t, <-done)
	close(lines)
	n := 0
	for line := range lines {
		if strings.HasPrefix(line, "id:") {
			n++
		}
		if strings.Contains(line, "payment-") {
			t.Errorf("the reader sees %q", line)
		}
	}
	if n != 30 || !strings.Contains(wire.seen(), "event: payment-receipt\ndata: {") {
		t.Errorf("%d events came", n)
	}
	m.settled(60_000)
}

// eventually waits for something that happens beside the test.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	end := time.NewTimer(20 * time.Second)
	defer end.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-end.C:
			t.Fatal("it did not happen")
		}
	}
}

// Whatever message is lost, or wherever a stream breaks off: every event comes once, in
// order, and is paid once. The handler goes on behind the last event, or begins anew and
// has ids, or has none.
func TestStreamsLoseNothingWhateverIsCut(t *testing.T) {
	const n = 12
	plain := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range n {
			if _, err := fmt.Fprintf(w, "data: %d\r\n\r\n", i); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
	forgetful := func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Last-Event-ID")
		telling(n)(w, r)
	}
	for name, handler := range map[string]http.HandlerFunc{"goes on": telling(n), "begins anew": forgetful, "without ids": plain} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			var want []byte
			story := func(m *mall) {
				t.Helper()
				if _, body := m.get("/"); want == nil {
					want = body
				} else if !bytes.Equal(body, want) {
					t.Fatalf("%d bytes came of %d: %q", len(body), len(want), body)
				}
				m.settled(n * 1_000)
			}
			cfg := paywall.MiddlewareConfig{Price: paywall.Price{Msat: 1_000, Unit: "event", Credit: 4_000}}
			whole := newMallWith(t, cfg, handler)
			story(whole)
			requests := min(whole.net.requests, 18)
			if requests < 6 {
				t.Fatalf("only %d requests", requests)
			}
			for at := 1; at <= requests; at++ {
				for _, how := range []string{"never", "answer"} {
					m := newMallWith(t, cfg, handler)
					m.net.cutAt, m.net.how = at, how
					story(m)
				}
			}
			for after := int64(0); after < int64(len(want)); after += int64(len(want)) / 6 {
				m := newMallWith(t, cfg, handler)
				m.net.how, m.net.after, m.net.bodies = "body", after, 3
				story(m)
			}
		})
	}
}

// A provider that is restarted in the middle of a stream, after any number of events,
// goes on with it: what was charged and did not come is had again free.
func TestStreamSurvivesARestartOfTheProvider(t *testing.T) {
	const n = 20
	for at := 1; at <= n; at += 3 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			cfg := paywall.MiddlewareConfig{Price: paywall.Price{Msat: 1_500, Unit: "event", Credit: 6_000}}
			m := newMallWith(t, cfg, telling(n))
			resp, err := m.http().Get(m.web.URL + "/")
			must(t, err)
			r := bufio.NewReader(resp.Body)
			var got strings.Builder
			for i := range n {
				for range 4 {
					line, err := r.ReadString('\n')
					must(t, err)
					got.WriteString(line)
				}
				if i+1 == at {
					m.sell(cfg, telling(n))
					m.web.CloseClientConnections()
				}
			}
			rest, err := io.ReadAll(r)
			must(t, errors.Join(err, resp.Body.Close()))
			if got.String() != all(n) || len(rest) > 0 {
				t.Fatalf("%q and %q", got.String(), rest)
			}
			m.settled(n * 1_500)
		})
	}
}

// A stream that is gone on with after a restart begins behind what was paid for, also
// while other requests of the channel are under way, for which something is reserved.
func TestStreamGoesOnBesideOthers(t *testing.T) {
	const n = 20
	cfg := paywall.MiddlewareConfig{Price: paywall.Price{Msat: 1_500, Unit: "event", Credit: 9_000}}
	held := make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			select {
			case <-held:
			case <-r.Context().Done():
			}
			http.NotFound(w, r) // it costs nothing
			return
		}
		telling(n)(w, r)
	}
	m := newMallWith(t, cfg, func(w http.ResponseWriter, r *http.Request) {
		telling(4)(w, r)
		<-r.Context().Done()
	})
	resp, err := m.http().Get(m.web.URL + "/")
	must(t, err)
	_, err = io.ReadFull(resp.Body, make([]byte, len(event(1))))
	must(t, err)
	until(t, func() bool {
		theirs, err := m.Payee.Records(ctx)
		return err == nil && len(theirs) == 1 && theirs[0].Charged == 4*1_500
	})
	m.sell(cfg, handler)
	m.web.CloseClientConnections()
	runs := m.runs.Load()
	mine, err := m.Payer.Records(ctx)
	must(t, err)
	other := make(chan error, 1)
	credential := m.credential(mine[0].Signed, "")
	go func() {
		req, err := http.NewRequest(http.MethodGet, m.web.URL+"/held", nil)
		if err == nil {
			req.Header.Set(mpp.HeaderCredential, credential)
			var resp *http.Response
			if resp, err = http.DefaultClient.Do(req); err == nil {
				err = resp.Body.Close()
			}
		}
		other <- err
	}()
	until(t, func() bool { return m.runs.Load() > runs })
	rest, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	if string(rest) != all(n)[len(event(1)):] {
		t.Errorf("%d bytes came", len(rest))
	}
	close(held)
	must(t, <-other)
	m.settled(n * 1_500)
}

// A payer that is restarted in the middle of a stream goes on with it under the same key
// behind the last event that it has, and pays nothing twice.
func TestStreamSurvivesARestartOfThePayer(t *testing.T) {
	const n = 20
	for _, both := range []bool{false, true} {
		for at := 1; at < n; at += 4 {
			t.Run(fmt.Sprint(both, at), func(t *testing.T) {
				cfg := paywall.MiddlewareConfig{Price: paywall.Price{Msat: 1_000, Unit: "event", Credit: 4_000}}
				m := newMallWith(t, cfg, telling(n))
				ask := func(last string) io.Reader {
					req, err := http.NewRequest(http.MethodGet, m.web.URL+"/", nil)
					must(t, err)
					req.Header.Set(mpp.HeaderIdempotencyKey, "the stream")
					if last != "" {
						req.Header.Set("Last-Event-ID", last)
					}
					resp, err := m.http().Do(req)
					must(t, err)
					t.Cleanup(func() { _ = resp.Body.Close() })
					return resp.Body
				}
				r := ask("")
				_, err := io.ReadFull(r, make([]byte, len(all(at))))
				must(t, err)
				m.web.CloseClientConnections()
				m.RestartPayer()
				m.reclient()
				if both {
					m.sell(cfg, telling(n))
				}
				rest, err := io.ReadAll(ask(strconv.Itoa(at)))
				must(t, err)
				if string(rest) != all(n)[len(all(at)):] {
					t.Fatalf("%q", rest)
				}
				must(t, m.paying.Close(ctx))
				mine, theirs := m.records()
				// what came to the payer that was killed and was not paid yet: an event at most
				if theirs.Charged > n*1000 || theirs.Charged < (n-2)*1000 || theirs.Paid*1000 != max(theirs.Charged, mine.Terms.MinimumCharge*1000) || mine.Owed > theirs.Charged {
					t.Errorf("charged are %d msat, paid %d sat, the payer's ledger says %d", theirs.Charged, theirs.Paid, mine.Owed)
				}
			})
		}
	}
}
