package paywall_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// TestClientsSayWhatTheyPayWith: a server of several methods hears which of them is of
// any use; what the caller says itself is left alone, and of a server's several
// challenges ours is taken. draft-httpauth-payment-02 sections 7.3 and 7.4.
func TestClientsSayWhatTheyPayWith(t *testing.T) {
	m := newMall(t, paywall.PerRequest(1000), echoPath)
	m.mu.Lock()
	inner := m.handler
	m.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(&several{w}, r) })
	m.mu.Unlock()
	if _, err := m.client.Quote(ctx, m.web.URL+"/", paywall.Expect{}); err != nil {
		t.Fatal(err)
	}
	m.get("/")
	own, err := http.NewRequest(http.MethodGet, m.web.URL+"/own", nil)
	must(t, err)
	own.Header.Set(mpp.HeaderAccept, "bitcoin/*;q=0.5")
	resp, err := m.http().Do(own)
	must(t, err)
	must(t, resp.Body.Close())
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	for _, r := range m.net.seen {
		accept, err := mpp.ParseAccept(r.Header.Values(mpp.HeaderAccept))
		paid := r.Header.Get(mpp.HeaderCredential) != ""
		switch {
		case paid && r.URL.Path == "/" && r.Method == http.MethodPost: // a payment alone asks for no challenge
		case err != nil || len(accept) != 1 || accept.Quality("bitcoin", "session") == 0 || accept.Quality("tempo", "charge") != 0:
			t.Errorf("%s %s: %v, %v", r.Method, r.URL.Path, accept, errors.Join(err))
		case r.URL.Path == "/own" && accept[0].Q != 500:
			t.Errorf("the caller's own is %v", accept)
		}
	}
}

// several puts other challenges before and behind a server's own, some of which nobody
// can read.
type several struct{ http.ResponseWriter }

func (s *several) WriteHeader(status int) {
	h := s.Header()
	if own := h.Get(mpp.HeaderChallenge); own != "" {
		h.Set(mpp.HeaderChallenge, `Basic realm="x"`)
		h.Add(mpp.HeaderChallenge, `Payment id="a", realm="r", method="tempo", intent="charge", request="e30", Payment id="b", realm="r", method="Bad", intent="i", request="e30"`)
		h.Add(mpp.HeaderChallenge, own+`, Payment id="c", realm="r", method="bitcoin", intent="charge", request="e30"`)
		h.Add(mpp.HeaderChallenge, `Payment id="`)
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *several) Unwrap() http.ResponseWriter { return s.ResponseWriter }
