package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway"
)

// counted counts what is read of a body.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// A request's body is read up to its bound, is one value, and has no member that nobody
// knows: what was meant otherwise is not done.
func TestAdminBodies(t *testing.T) {
	type named struct {
		Name string `json:"name"`
	}
	did := 0
	h := gateway.Admin(gateway.AdminConfig{Token: token, Show: func(channel.PayeeRecord) any { return nil }, More: map[string]gateway.Answer{
		"POST /v1/do": func(r *http.Request) (any, error) {
			var q named
			if err := gateway.ReadJSON(r, &q); err != nil {
				return nil, err
			}
			did++
			return q, nil
		},
	}})
	for name, c := range map[string]struct {
		body string
		want int
	}{
		"good": {`{"name":"x"}`, 200}, "long": {`{"name":"` + strings.Repeat("x", 10<<20) + `"}`, 400}, "two": {`{"name":"x"} {"name":"y"}`, 400},
		"unknown": {`{"name":"x","amount":1}`, 400}, "nothing": {"", 400}, "a list": {"[]", 400}, "cut": {`{"name":"x"`, 400},
	} {
		from := &counted{Reader: strings.NewReader(c.body)}
		r := httptest.NewRequest(http.MethodPost, "/v1/do", from)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != c.want || from.n > 128<<10 {
			t.Errorf("%s: %d after %d bytes, want %d", name, w.Code, from.n, c.want)
		}
	}
	if did != 1 {
		t.Errorf("done %d times", did)
	}
}

// Another way to write a path is no way to it, and no redirect that a program follows
// with its token.
func TestAdminPathsHaveOneForm(t *testing.T) {
	h := gateway.Admin(gateway.AdminConfig{Token: token, Show: func(channel.PayeeRecord) any { return nil }, More: map[string]gateway.Answer{
		"GET /v1/more": func(*http.Request) (any, error) { return "yes", nil },
	}})
	for path, want := range map[string]int{"/v1/more": 200, "/v1//more": 404, "/v1/./more": 404, "/v1/x/../more": 404, "//v1/more": 404, "/v1/more/": 404} {
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/", nil)
		r.URL.Path = path
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != want || w.Header().Get("Location") != "" {
			t.Errorf("%s: %d to %q, want %d", path, w.Code, w.Header().Get("Location"), want)
		}
	}
}
