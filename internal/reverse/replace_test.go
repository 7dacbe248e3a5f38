package reverse

import (
	"io"
	"net/http"
	"testing"

	"github.com/spillway/spillway/paywall"
)

// Other rules are in force for the next request, a request that runs ends as it began, and
// rules that cannot be change nothing.
func TestReplace(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerRequest(2000)}, Rules: []Rule{{Match: "/slow"}, {Match: "/free"}}}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(started)
			<-finish
		}
		if _, err := io.WriteString(w, "here "+r.Header.Get("X-Set")); err != nil {
			t.Error(err)
		}
	})
	if resp, _ := m.ask("GET", "/free"); resp.StatusCode != http.StatusOK {
		t.Fatalf("%d", resp.StatusCode)
	}
	if resp, _ := m.pay("GET", "/x"); resp.StatusCode != http.StatusOK || m.charged() != 2000 {
		t.Fatalf("%d, %d msat", resp.StatusCode, m.charged())
	}
	answer := make(chan int, 1)
	go func() {
		resp, err := http.Get(m.web.URL + "/slow")
		if err != nil {
			t.Error(err)
			close(answer)
			return
		}
		_ = resp.Body.Close()
		answer <- resp.StatusCode
	}()
	<-started
	up := m.proxy.now.Load().byDefault.Upstream
	next := Config{Default: Rule{Price: paywall.PerRequest(3000), Upstream: up, Set: map[string]string{"X-Set": "new"}}, Rules: []Rule{{Match: "/gratis"}}}
	must(t, m.proxy.Replace(next))
	if resp, _ := m.ask("GET", "/free"); resp.StatusCode != http.StatusPaymentRequired {
		t.Errorf("what was free is %d", resp.StatusCode)
	}
	if resp, body := m.ask("GET", "/gratis"); resp.StatusCode != http.StatusOK || body != "here " {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	close(finish)
	if status := <-answer; status != http.StatusOK {
		t.Errorf("a request that ran ends with %d", status)
	}
	if resp, body := m.pay("GET", "/x"); resp.StatusCode != http.StatusOK || body != "here new" || m.charged() != 5000 {
		t.Errorf("%d %q, %d msat", resp.StatusCode, body, m.charged())
	}
	for _, bad := range []Config{{}, {Default: next.Default, Rules: []Rule{{Match: "/a"}, {Match: "/a"}}}, {Default: next.Default, Rules: []Rule{{Match: "GET"}}}} {
		if err := m.proxy.Replace(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if resp, _ := m.ask("GET", "/gratis"); resp.StatusCode != http.StatusOK {
		t.Errorf("a mistake changed the rules: %d", resp.StatusCode)
	}
}

// What a client had free today stays used when rules change; a larger quota gives it the
// difference only.
func TestReplaceForgetsNobody(t *testing.T) {
	served := 0
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerRequest(2000)}, FreePerDay: 2}, func(w http.ResponseWriter, _ *http.Request) {
		served++
		if _, err := io.WriteString(w, "here"); err != nil {
			t.Error(err)
		}
	})
	free := func(want int) {
		t.Helper()
		got := 0
		for range 5 {
			if resp, _ := m.ask("GET", "/x"); resp.StatusCode == http.StatusOK {
				got++
			}
		}
		if got != want {
			t.Errorf("%d free answers, want %d", got, want)
		}
	}
	free(2)
	next := Config{Default: m.proxy.now.Load().byDefault, FreePerDay: 2}
	must(t, m.proxy.Replace(next))
	free(0)
	next.FreePerDay = 3
	must(t, m.proxy.Replace(next))
	free(1)
	next.FreePerDay = 0
	must(t, m.proxy.Replace(next))
	free(0)
	if served != 3 {
		t.Errorf("%d answers were made", served)
	}
}
