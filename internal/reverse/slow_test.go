package reverse

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/paywall"
)

// A client that stops in the middle of its request, takes nothing of its answer, or sends
// more than is allowed is given up, and what is behind the proxy is free again.
func TestClientsThatStand(t *testing.T) {
	gone := make(chan string, 10)
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerRequest(1000)}, Rules: []Rule{{Match: "/free/"}}, Stall: 200 * time.Millisecond, MaxBody: 1 << 20, MaxRequests: 2}, func(w http.ResponseWriter, r *http.Request) {
		var err error
		if r.Method == http.MethodPost {
			_, err = io.Copy(io.Discard, r.Body)
		} else {
			for block := make([]byte, 1<<20); err == nil; {
				_, err = w.Write(block)
			}
		}
		if err != nil {
			gone <- r.URL.Path
		}
	})
	for path, text := range map[string]string{
		"/free/upload": "POST /free/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
		"/free/answer": "GET /free/answer HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(m.web.URL, "http://"))
		must(t, err)
		_, err = io.WriteString(c, text)
		must(t, err)
		select {
		case got := <-gone:
			if got != path {
				t.Errorf("%s was given up, not %s", got, path)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s is still served", path)
		}
		must(t, c.Close())
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.web.URL+"/free/large", bytes.NewReader(make([]byte, 2<<20)))
	must(t, err)
	resp, err := http.DefaultTransport.RoundTrip(req)
	must(t, err)
	if must(t, resp.Body.Close()); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("2 MiB where 1 MiB is allowed: %d", resp.StatusCode)
	}
	deadline, tick := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for m.proxy.Deliveries() > 0 {
		select {
		case <-deadline:
			t.Fatalf("%d requests are still served", m.proxy.Deliveries())
		case <-tick.C:
		}
	}
}

// Where as many requests as are allowed are served the next one is told so at once, and
// an honest one is served as soon as there is room.
func TestNoMoreRequestsThanAllowed(t *testing.T) {
	release, inside := make(chan struct{}), make(chan struct{}, 10)
	m := newMarket(t, Config{MaxRequests: 2}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			inside <- struct{}{}
			<-release
		}
	})
	done := make(chan struct{}, 2)
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			resp, err := http.Get(m.web.URL + "/slow")
			if err == nil {
				err = resp.Body.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}()
		<-inside
	}
	if resp, _ := m.ask("GET", "/quick"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	close(release)
	<-done
	<-done
	if resp, _ := m.ask("GET", "/quick"); resp.StatusCode != http.StatusOK {
		t.Error(resp.StatusCode)
	}
}

// An event of a stream is passed on when it comes, also where it is paid.
func TestEventsArePassedOnAtOnce(t *testing.T) {
	next := make(chan struct{})
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerEvent(1000)}}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, text := range []string{"one", "two"} {
			if _, err := io.WriteString(w, "data: "+text+"\n\n"); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-next
		}
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.web.URL+"/events", nil)
	must(t, err)
	resp, err := m.paying.RoundTrip(req)
	must(t, err)
	lines := bufio.NewReader(resp.Body)
	for _, want := range []string{"one", "two"} {
		for line := ""; !strings.HasPrefix(line, "data: "+want); {
			if line, err = lines.ReadString('\n'); err != nil {
				t.Fatalf("%s does not come: %v", want, err)
			}
		}
		next <- struct{}{}
	}
	_, err = io.Copy(io.Discard, lines)
	must(t, err)
	must(t, resp.Body.Close())
	if m.charged() != 2000 {
		t.Errorf("%d msat for two events", m.charged())
	}
}
