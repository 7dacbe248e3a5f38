package paywall_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway/spillway/paywall"
)

// TestDiscovery: what is described is what is asked for it, and what is no description is
// refused before anything is served.
func TestDiscovery(t *testing.T) {
	for name, d := range map[string]paywall.Discovery{
		"no title":    {},
		"no path":     {Title: "t", Operations: []paywall.Operation{{Path: "x"}}},
		"path twice":  {Title: "t", Operations: []paywall.Operation{{Path: "/x"}, {Method: "GET", Path: "/x"}}},
		"schema":      {Title: "t", Operations: []paywall.Operation{{Method: "POST", Path: "/x", Body: json.RawMessage(`{`)}}},
		"path, empty": {Title: "t", Operations: []paywall.Operation{{}}},
	} {
		if _, err := d.Handler(http.NotFoundHandler()); !errors.Is(err, paywall.ErrDiscovery) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := paywall.Discovery{Title: "A\n# title", Summary: "a\nb", Operations: []paywall.Operation{
		{Path: "/free"}, {Path: "/dear", Price: paywall.PerByte(1500, 1<<20)}, {Path: "/by", Price: paywall.ByRequest(func(*http.Request) uint64 { return 1 })},
		{Path: "/ev", Price: paywall.PerEvent(500)}, {Method: "POST", Path: "/a/{b}", Price: paywall.PerRequest(1000), Params: map[string]string{"b": "1"}},
	}}
	for i := range 1200 {
		d.Operations = append(d.Operations, paywall.Operation{Path: fmt.Sprintf("/n/%d", i)})
	}
	h, err := d.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	must(t, err)
	ask := func(method, path string) *http.Response {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Result()
	}
	for _, e := range []struct {
		method, path string
		status       int
	}{{"GET", "/openapi.json", 200}, {"HEAD", "/llms.txt", 200}, {"POST", "/openapi.json", 418}, {"GET", "/", 418}, {"GET", "/llms.txt/x", 418}} {
		if got := ask(e.method, e.path); got.StatusCode != e.status {
			t.Errorf("%s %s: %s", e.method, e.path, got.Status)
		}
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Info *struct {
				Offers []struct {
					Amount         *string
					UnitsPerAmount uint64
					UnitType       string
				}
			} `json:"x-payment-info"`
			Responses  map[string]any
			Parameters []struct{ Name, Example string }
			Body       any `json:"requestBody"`
		}
	}
	must(t, json.NewDecoder(ask("GET", "/openapi.json").Body).Decode(&doc))
	if len(doc.Paths) != 1000 {
		t.Errorf("%d paths", len(doc.Paths))
	}
	for path, want := range map[string]string{"/free": "", "/dear": "3 for 2097152 byte", "/by": "? for 0 request", "/ev": "1 for 2 event", "/a/{b}": "1 for 1 request"} {
		for method, op := range doc.Paths[path] {
			got := ""
			if op.Info != nil {
				o := op.Info.Offers[0]
				amount := "?"
				if o.Amount != nil {
					amount = *o.Amount
				}
				got = fmt.Sprintf("%s for %d %s", amount, o.UnitsPerAmount, o.UnitType)
			}
			if got != want || (op.Responses["402"] != nil) != (want != "") {
				t.Errorf("%s %s: %q, want %q", method, path, got, want)
			}
			if path == "/a/{b}" && (len(op.Parameters) != 1 || op.Parameters[0].Example != "1" || op.Body == nil) {
				t.Errorf("%+v", op)
			}
		}
	}
	text, err := io.ReadAll(ask("GET", "/llms.txt").Body)
	must(t, err)
	if s := string(text); !strings.HasPrefix(s, "# A # title\n\n> a b\n") || !strings.Contains(s, "- `GET /free`: free\n") || !strings.Contains(s, "205 more") || strings.Contains(s, "/n/1100") {
		t.Errorf("%.400s … %s", s, s[len(s)-200:])
	}
}
