package paywall_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

func echo(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "you asked for %s", r.URL.Path) }

// One line charges for a handler, one RoundTripper pays for it.
func TestMiddlewarePerRequest(t *testing.T) {
	m := newMall(t, paywall.PerRequest(10_000), echo)
	plain, err := http.Get(m.web.URL + "/a")
	must(t, err)
	must(t, plain.Body.Close())
	if plain.StatusCode != http.StatusPaymentRequired || plain.Header.Get(mpp.HeaderChallenge) == "" || m.runs.Load() != 0 {
		t.Fatalf("unpaid: %s, the handler ran %d times", plain.Status, m.runs.Load())
	}
	for i := range 7 {
		resp, body := m.get(fmt.Sprintf("/%d", i))
		if want := fmt.Sprintf("you asked for /%d", i); string(body) != want || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %q", resp.Status, body)
		}
	}
	if m.runs.Load() != 7 {
		t.Errorf("the handler ran %d times", m.runs.Load())
	}
	m.settled(70_000)
}

// A body is charged by what is handed to the connection, to the byte, while it streams.
func TestMiddlewarePerByteStreams(t *testing.T) {
	data := edgetest.Pattern(3_000_000, 5)
	m := newMall(t, paywall.PerByte(1000, 1000), func(w http.ResponseWriter, r *http.Request) {
		for part := range bytesIn(data, 70_001) {
			if _, err := w.Write(part); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	})
	_, body := m.get("/stream")
	if !bytes.Equal(body, data) {
		t.Fatalf("%d bytes came", len(body))
	}
	m.settled(3_000_000)
}

func bytesIn(data []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			k := min(n, len(data))
			if !yield(data[:k]) {
				return
			}
			data = data[k:]
		}
	}
}

// Chunks are charged when they are begun.
func TestMiddlewarePerChunk(t *testing.T) {
	data := edgetest.Pattern(1_000_001, 5)
	m := newMall(t, paywall.PerChunk(5_000, 100_000), func(w http.ResponseWriter, r *http.Request) {
		_, err := w.Write(data)
		must(t, err)
	})
	_, body := m.get("/chunks")
	if !bytes.Equal(body, data) {
		t.Fatalf("%d bytes came", len(body))
	}
	m.settled(11 * 5_000)
}

// Prices may depend on the request, and on the answer up to what was agreed.
func TestMiddlewarePriceFunctions(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{
		Price: paywall.ByRequest(func(r *http.Request) uint64 { return uint64(len(r.URL.Query().Get("q"))) * 1000 }),
		Rules: map[string]paywall.Price{
			"/answer/": paywall.ByAnswer(5_000, func(_ *http.Request, a paywall.Answer) uint64 { return uint64(a.Size) * 100 }),
			"/free":    {},
		},
	}, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.WriteString(w, strings.Repeat("x", len(r.URL.Path)))
		must(t, err)
	})
	m.get("/?q=abc")                             // 3,000
	m.get("/?q=abcdefg")                         // 7,000
	m.get("/answer/12345")                       // 13 bytes: 1,300
	m.get("/free")                               // nothing
	m.get("/answer/" + strings.Repeat("y", 100)) // at most 5,000
	if resp, _ := m.get("/?nothing"); resp.Header.Get(mpp.HeaderReceipt) != "" {
		t.Error("a receipt for what is free")
	}
	m.settled(3_000 + 7_000 + 1_300 + 5_000)
}

// What is no success is free, and the payment that came with it is kept.
func TestMiddlewareFailuresAreFree(t *testing.T) {
	m := newMall(t, paywall.PerRequest(10_000), func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/404":
			http.NotFound(w, r)
		case "/304":
			w.WriteHeader(http.StatusNotModified)
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		default:
			echo(w, r)
		}
	})
	m.get("/ok")
	for _, path := range []string{"/404", "/304"} {
		resp, _ := m.get(path)
		if resp.Header.Get(mpp.HeaderReceipt) != "" || fmt.Sprint("/", resp.StatusCode) != path {
			t.Errorf("%s: %s, receipt %q", path, resp.Status, resp.Header.Get(mpp.HeaderReceipt))
		}
	}
	if _, theirs := m.records(); theirs.Charged != 10_000 || theirs.Paid != 10 {
		t.Errorf("charged are %d msat, paid %d sat", theirs.Charged, theirs.Paid)
	}
	if resp, _ := m.get("/204"); resp.StatusCode != http.StatusNoContent || resp.Header.Get(mpp.HeaderReceipt) == "" {
		t.Errorf("204: %s", resp.Status)
	}
	m.settled(20_000)
}

// A repeat with the same key gets what was bought, after a restart of the provider too;
// with another body or path it is refused, and with another key it is another purchase.
func TestMiddlewareRepeats(t *testing.T) {
	n := 0
	handler := func(w http.ResponseWriter, r *http.Request) {
		n++
		body, err := io.ReadAll(r.Body)
		must(t, err)
		w.Header().Set("X-Run", fmt.Sprint(n))
		fmt.Fprintf(w, "%s %d", body, len(r.Header.Values("Authorization")))
	}
	cfg := paywall.MiddlewareConfig{Price: paywall.PerRequest(10_000)}
	m := newMallWith(t, cfg, handler)
	ask := func(key, path, body string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, m.web.URL+path, strings.NewReader(body))
		must(t, err)
		req.Header.Set(mpp.HeaderIdempotencyKey, key)
		resp, err := m.http().Do(req)
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		return resp, string(got)
	}
	for range 3 {
		if resp, got := ask("k1", "/", "hello"); got != "hello 0" || resp.Header.Get("X-Run") != "1" {
			t.Fatalf("%q, run %s", got, resp.Header.Get("X-Run"))
		}
	}
	if resp, _ := ask("k1", "/", "other"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("another body: %s", resp.Status)
	}
	if resp, _ := ask("k1", "/other", "hello"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("another path: %s", resp.Status)
	}
	m.sell(cfg, handler) // what was kept is gone: it is made again, uncharged
	if resp, got := ask("k1", "/", "hello"); got != "hello 0" || resp.Header.Get("X-Run") != "2" {
		t.Fatalf("%q, run %s", got, resp.Header.Get("X-Run"))
	}
	ask("k2", "/", "hello")
	m.settled(20_000)
}

// An answer that is too long to be kept is made again uncharged, and not for ever.
func TestMiddlewareRepeatsAreBounded(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{Price: paywall.PerRequest(10_000), MaxKept: 10, MaxRepeats: 2}, echo)
	for i := range 5 {
		req, err := http.NewRequest(http.MethodGet, m.web.URL+"/long", nil)
		must(t, err)
		req.Header.Set(mpp.HeaderIdempotencyKey, "one")
		resp, err := m.http().Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		if want := []int{200, 200, 200, 400, 400}[i]; resp.StatusCode != want {
			t.Errorf("repeat %d: %s", i, resp.Status)
		}
	}
	m.settled(10_000)
}

// Repeats at the same time run the handler once.
func TestMiddlewareRepeatsAtOnce(t *testing.T) {
	m := newMall(t, paywall.PerRequest(1_000), echo)
	m.get("/warm")
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			req, err := http.NewRequest(http.MethodGet, m.web.URL+"/one", nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set(mpp.HeaderIdempotencyKey, "one")
			resp, err := m.http().Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	if m.runs.Load() != 2 {
		t.Errorf("the handler ran %d times", m.runs.Load())
	}
	m.settled(2_000)
}

// Trailers, informational answers and the response controller work as without.
func TestMiddlewareTrailersAndController(t *testing.T) {
	m := newMall(t, paywall.PerByte(1000, 1), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		_, err := io.WriteString(w, "first")
		must(t, err)
		rc := http.NewResponseController(w)
		must(t, rc.Flush())
		if _, _, err := rc.Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("a connection that is charged was handed over: %v", err)
		}
		must(t, rc.SetWriteDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(w, " second")
		must(t, err)
		w.Header().Set("X-Sum", "12")
		w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
	})
	for i := range 2 {
		resp, body := m.get(fmt.Sprint("/", i))
		if string(body) != "first second" || resp.Trailer.Get("X-Sum") != "12" || resp.Header.Get("X-Sum") != "" || resp.Trailer.Get("X-Late") != "yes" {
			t.Fatalf("%q, trailer %v", body, resp.Trailer)
		}
		last, err := bitcoin.ParseReceipt(resp.Trailer.Values(mpp.HeaderReceipt))
		must(t, err)
		if last.RequestMsat != 12_000 {
			t.Errorf("the last receipt says %d msat", last.RequestMsat)
		}
	}
	m.settled(24_000)
}

// The free quota, path rules however a path is written, and what is paid in advance.
func TestMiddlewareQuotaAndRules(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{
		Rules:      map[string]paywall.Price{"/paid/": paywall.PerRequest(1000), "/paid/open": {}},
		FreePerDay: 3,
	}, echo)
	for i, path := range []string{"/paid/a", "//paid/a", "/x/../paid/a", "/paid/a", "//paid//b", "/paid%2Fx", "/x/%2e%2e/paid/y", "/paid/"} {
		req, err := http.NewRequest(http.MethodGet, m.web.URL, nil)
		must(t, err)
		req.URL.Opaque = "//" + req.URL.Host + path
		resp, err := http.DefaultTransport.RoundTrip(req)
		must(t, err)
		must(t, resp.Body.Close())
		want := http.StatusOK
		if i >= 3 {
			want = http.StatusPaymentRequired
		}
		if resp.StatusCode != want {
			t.Errorf("%d: %s is answered %s", i, path, resp.Status)
		}
	}
	for _, path := range []string{"/", "/free", "/paid/open"} {
		resp, err := http.Get(m.web.URL + path)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// Prices and rules that mean nothing are refused by name.
func TestMiddlewareRefusesNonsense(t *testing.T) {
	m := newMall(t, paywall.PerRequest(1), echo)
	for name, cfg := range map[string]paywall.MiddlewareConfig{
		"no server": {},
		"unit":      {Server: m.wall, Price: paywall.Price{Msat: 1, Unit: "parsec"}},
		"chunk":     {Server: m.wall, Price: paywall.PerChunk(1, 0)},
		"range":     {Server: m.wall, Price: paywall.PerRequest(1 << 63)},
		"after":     {Server: m.wall, Price: paywall.Price{Msat: 1, Unit: bitcoin.UnitByte, After: func(*http.Request, paywall.Answer) uint64 { return 1 }}},
		"pattern":   {Server: m.wall, Rules: map[string]paywall.Price{"/a/{": {}}},
		"conflict":  {Server: m.wall, Rules: map[string]paywall.Price{"/a/{x}/b": {}, "/a/b/{y}": {}}},
	} {
		if _, err := paywall.NewMiddleware(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := paywall.NewMiddleware(paywall.MiddlewareConfig{Server: m.wall, Price: paywall.PerChunk(1, 0)}); !errors.Is(err, paywall.ErrQuote) {
		t.Errorf("got %v", err)
	}
}

// An answer that a handler left out the rest of, because its client had gone, is not
// what was bought: the repeat makes it anew.
func TestMiddlewareKeepsNoHalfAnswer(t *testing.T) {
	cut := make(chan struct{})
	left := make(chan struct{})
	m := newMall(t, paywall.PerByte(1000, 1000), func(w http.ResponseWriter, r *http.Request) {
		_, err := io.WriteString(w, "half")
		must(t, errors.Join(err, http.NewResponseController(w).Flush()))
		select {
		case <-cut:
		case <-r.Context().Done():
			close(left)
			return
		}
		_, err = io.WriteString(w, " and half")
		must(t, err)
	})
	ask := func() *http.Response {
		req, err := http.NewRequest(http.MethodGet, m.web.URL, nil)
		must(t, err)
		req.Header.Set(mpp.HeaderIdempotencyKey, "one")
		resp, err := m.http().Do(req)
		must(t, err)
		return resp
	}
	resp := ask()
	_, err := io.ReadFull(resp.Body, make([]byte, 4))
	must(t, errors.Join(err, resp.Body.Close()))
	<-left
	close(cut)
	resp = ask()
	body, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	if string(body) != "half and half" {
		t.Fatalf("%q", body)
	}
	m.settled(13)
}
