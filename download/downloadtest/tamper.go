package downloadtest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// Answer is what a provider answered, for a test to change.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Tamper lets change see and change each answer that it is called for. Requests
// for which when is false are answered as ever.
func Tamper(when func(*http.Request) bool, change func(*http.Request, *Answer)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !when(r) {
				next.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			a := &Answer{Status: rec.Code, Header: rec.Header(), Body: rec.Body.Bytes()}
			change(r, a)
			for name, values := range a.Header {
				w.Header()[name] = values
			}
			if r.Method != http.MethodHead && w.Header().Get("Content-Length") != "" {
				w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
			}
			w.WriteHeader(a.Status)
			if _, err := bytes.NewReader(a.Body).WriteTo(w); err != nil {
				return // the client left
			}
		})
	}
}

// Slices are requests for slices that come with a payment.
func Slices(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Query().Has("slice") && r.Header.Get("Authorization") != ""
}

// Always is every request.
func Always(*http.Request) bool { return true }

// ActionOf is the action of a request's credential; "" where it has none.
func ActionOf(r *http.Request) string {
	c, err := mpp.ParseCredential(r.Header.Values(mpp.HeaderCredential))
	if err != nil {
		return ""
	}
	p, err := bitcoin.ParsePayload(c.Payload)
	if err != nil {
		return ""
	}
	return p.Action()
}

// Action reports requests with this action.
func Action(name string) func(*http.Request) bool {
	return func(r *http.Request) bool { return ActionOf(r) == name }
}

// Challenges lets change rewrite every challenge that goes out.
func Challenges(change func(*mpp.Challenge, map[string]any)) func(http.Handler) http.Handler {
	return Tamper(Always, func(_ *http.Request, a *Answer) {
		if a.Status != http.StatusPaymentRequired {
			return
		}
		list, err := mpp.ParseChallenges(a.Header.Values(mpp.HeaderChallenge))
		if err != nil {
			return
		}
		c := list[0]
		request, err := mpp.DecodeJSON(c.Request)
		if err != nil {
			return
		}
		change(&c, request)
		if c.Request, err = mpp.EncodeJSON(request); err != nil {
			return
		}
		a.Header.Set(mpp.HeaderChallenge, c.String())
	})
}
