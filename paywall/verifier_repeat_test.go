package paywall_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// spied is a transport that notes the last request with a credential.
type spied struct{ last *http.Request }

func (s *spied) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get(mpp.HeaderCredential) != "" {
		s.last = r.Clone(ctx)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// A service that asks a verifier makes its answer anew for each repeat. It is told to do
// so three times, and not for as long as a challenge lives: one payment would buy
// whatever changes, or whatever is done, without end.
func TestVerifierBoundsRepeats(t *testing.T) {
	c := newClerk(t, false)
	spy := &spied{}
	c.base = spy
	c.travel(paywall.TransportConfig{})
	resp, err := c.http().Get(c.web.URL + "/now")
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode != http.StatusOK || spy.last == nil {
		t.Fatal(resp.Status)
	}
	before := c.runs.Load()
	_, first := c.records()
	served := 0
	for range 10 {
		req, err := http.NewRequestWithContext(within(t), http.MethodGet, c.web.URL+"/now", nil)
		must(t, err)
		req.Header = spy.last.Header.Clone()
		resp, err := http.DefaultTransport.RoundTrip(req)
		must(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode == http.StatusOK {
			served++
		}
	}
	if n := c.runs.Load() - before; served != 3 || n != 3 {
		t.Errorf("it was made %d times more, %d times served, for one payment", n, served)
	}
	if _, last := c.records(); last.Charged != first.Charged {
		t.Errorf("%d msat for repeats", last.Charged-first.Charged)
	}
}
