package paywall_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// TestChallengeBoundToABody: a challenge with a digest is paid where it is that of the
// request's body, and only there. draft-httpauth-payment-02 section 5.1.3.
func TestChallengeBoundToABody(t *testing.T) {
	for _, e := range []struct {
		name, bound string
		body        io.Reader
		good        bool
	}{
		{"this body", "hello", strings.NewReader("hello"), true},
		{"this body, read once", "hello", io.MultiReader(strings.NewReader("hello")), true},
		{"another body", "hullo", strings.NewReader("hello"), false},
		{"no body", "hello", nil, false},
		{"a body that cannot be read again", strings.Repeat("a", 1<<20+1), io.MultiReader(bytes.NewReader(bytes.Repeat([]byte("a"), 1<<20+1))), false},
	} {
		t.Run(e.name, func(t *testing.T) {
			m := newMall(t, paywall.PerRequest(1000), func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
			secret, err := m.PayeeKeys.ChallengeSecret(0)
			must(t, err)
			m.mu.Lock()
			inner := m.handler
			m.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || r.ContentLength == 0 && e.body != nil { // a payment that comes alone
					inner.ServeHTTP(w, r)
					return
				}
				inner.ServeHTTP(&binding{w, secret[:], mpp.Digest([]byte(e.bound))}, r)
			})
			m.mu.Unlock()
			resp, err := m.http().Post(m.web.URL+"/", "text/plain", e.body)
			if err == nil {
				got, failed := io.ReadAll(resp.Body)
				must(t, failed)
				must(t, resp.Body.Close())
				if !e.good || resp.StatusCode != http.StatusOK || string(got) != e.bound {
					t.Errorf("%s %.50s", resp.Status, got)
				}
			} else if e.good {
				t.Error(err)
			}
		})
	}
}

// binding binds a server's challenges to a body.
type binding struct {
	http.ResponseWriter
	secret []byte
	digest string
}

func (b *binding) WriteHeader(status int) {
	h := b.Header()
	if list, err := mpp.ParseChallenges(h.Values(mpp.HeaderChallenge)); err == nil {
		c := list[0]
		c.Digest = b.digest
		h.Set(mpp.HeaderChallenge, mpp.NewChallenge(b.secret, c).String())
	}
	b.ResponseWriter.WriteHeader(status)
}

func (b *binding) Unwrap() http.ResponseWriter { return b.ResponseWriter }
