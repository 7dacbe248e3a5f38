package gateway_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
)

const token = "0123456789abcdef"

func adminAsk(h http.Handler, method, target, from, authorization string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = from
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// The admin API answers who has the token, and nobody else but for probes; a refusal
// tells nothing and does nothing.
func TestAdminIsForTheOperator(t *testing.T) {
	s := newSeller(t, edgetest.Config{})
	asked := 0
	cfg := gateway.AdminConfig{Driver: s.Payee, Token: token, Show: func(r channel.PayeeRecord) any { return map[string]any{"id": r.Terms.ID()} }, More: map[string]gateway.Answer{
		"GET /v1/more":  func(*http.Request) (any, error) { asked++; return "yes", nil },
		"GET /v1/fails": func(*http.Request) (any, error) { return nil, errors.New("broken") },
	}, Open: map[string]http.Handler{"GET /healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })}}
	h := gateway.Admin(cfg)
	const here = "127.0.0.1:5"
	good := "Bearer " + token
	for _, test := range []struct {
		name, method, target, from, authorization string
		status                                    int
	}{
		{"no token", "GET", "/v1/channels", here, "", 401},
		{"a wrong token", "GET", "/v1/channels", here, "Bearer " + strings.Replace(token, "f", "0", 1), 401},
		{"a part of it", "GET", "/v1/channels", here, "Bearer " + token[:15], 401},
		{"more than it", "GET", "/v1/channels", here, good + "0", 401},
		{"without its scheme", "GET", "/v1/channels", here, token, 401},
		{"empty", "GET", "/v1/channels", here, "Bearer ", 401},
		{"basic", "GET", "/v1/channels", here, "Basic " + token, 401},
		{"settle without a token", "POST", "/v1/channels/" + s.id + "/settle", here, "", 401},
		{"settle by GET", "GET", "/v1/channels/" + s.id + "/settle", here, good, 405},
		{"list by POST", "POST", "/v1/channels", here, good, 405},
		{"nothing there", "GET", "/secret", here, good, 404},
		{"nothing there, without a token", "GET", "/secret", here, "", 401},
		{"no version", "GET", "/channels", here, good, 404},
		{"no such channel", "GET", "/v1/channels/x", here, good, 404},
		{"settle no such channel", "POST", "/v1/channels/x/settle", here, good, 404},
		{"nothing to settle", "POST", "/v1/channels/" + s.id + "/settle", here, good, 409},
		{"a failure", "GET", "/v1/fails", here, good, 500},
		{"a wrong limit", "GET", "/v1/channels?limit=x", here, good, 400},
		{"list", "GET", "/v1/channels", here, good, 200},
		{"show", "GET", "/v1/channels/" + s.id, here, good, 200},
		{"status", "GET", "/v1/status", here, good, 200},
		{"its description", "GET", "/v1/openapi.json", here, good, 200},
		{"more", "GET", "/v1/more", here, good, 200},
		{"a probe", "GET", "/healthz", here, "", 204},
	} {
		r := adminAsk(h, test.method, test.target, test.from, test.authorization)
		if r.Code != test.status {
			t.Errorf("%s: %d, want %d: %s", test.name, r.Code, test.status, r.Body)
		}
		if r.Code != 200 && (strings.Contains(r.Body.String(), token) || strings.Contains(r.Body.String(), s.id) && test.status < 404) {
			t.Errorf("%s tells %s", test.name, r.Body)
		}
		if r.Code == 200 && (r.Header().Get("Cache-Control") != "no-store" || !json.Valid(r.Body.Bytes())) {
			t.Errorf("%s: %v %s", test.name, r.Header(), r.Body)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	cfg.Token = ""
	if r := adminAsk(gateway.Admin(cfg), "GET", "/v1/channels", here, "Bearer "); r.Code != 401 {
		t.Errorf("an API without a token answers %d", r.Code)
	}
	cfg.Trusted = true
	if r := adminAsk(gateway.Admin(cfg), "GET", "/v1/channels", here, ""); r.Code != 200 {
		t.Errorf("whoever is trusted is answered %d", r.Code)
	}
	if rec, err := s.Payee.Record(t.Context(), s.id); err != nil || rec.Phase == channel.Settling || rec.Settlement != nil {
		t.Errorf("%s, %v", rec.Phase, err)
	}
}

// The operator settles a channel that was paid on, and sees the sums.
func TestAdminSettles(t *testing.T) {
	s := newSeller(t, edgetest.Config{})
	if r := s.get(slice0, 5000, nil); r.Status != 200 {
		t.Fatalf("%d", r.Status)
	}
	if r := s.get("/f.bin?slice=0-2999999", 5000, nil); r.Status != 200 {
		t.Fatalf("%d", r.Status)
	}
	h := gateway.Admin(gateway.AdminConfig{Driver: s.Payee, Token: token, Show: func(r channel.PayeeRecord) any { return r }})
	ask := func(method, target string, into any) {
		t.Helper()
		r := adminAsk(h, method, target, "127.0.0.1:5", "Bearer "+token)
		if r.Code != 200 {
			t.Fatalf("%s: %d %s", target, r.Code, r.Body)
		}
		s.Must(json.Unmarshal(r.Body.Bytes(), into))
	}
	var st gateway.Status
	ask("GET", "/v1/status", &st)
	if st.Channels != 1 || st.Capacity != 50_000 || st.Paid != 5000 || st.Owed != 0 || st.Phases[channel.Open] != 1 {
		t.Errorf("%+v", st)
	}
	var b, again gateway.Settled
	ask("POST", "/v1/channels/"+s.id+"/settle", &b)
	if b.Amount != 5000 || b.Fee <= 0 || len(b.Txid) != 64 {
		t.Errorf("%+v", b)
	}
	ask("POST", "/v1/channels/"+s.id+"/settle", &again)
	if again.Txid != b.Txid {
		t.Errorf("%s, then %s", b.Txid, again.Txid)
	}
	if r := s.get(slice0, 5000, nil); r.Status != 402 {
		t.Errorf("delivered while settling: %d", r.Status)
	}
}
