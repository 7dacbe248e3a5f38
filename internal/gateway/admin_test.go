package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
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

// The admin API answers this machine and the token, and nobody else; a refusal tells
// nothing and does nothing.
func TestAdminIsForTheOperator(t *testing.T) {
	s := newSeller(t, edgetest.Config{})
	asked := 0
	h := gateway.Admin(s.Payee, token, slog.New(slog.DiscardHandler), map[string]func(context.Context, url.Values) (any, error){
		"GET /more":  func(_ context.Context, _ url.Values) (any, error) { asked++; return "yes", nil },
		"GET /fails": func(_ context.Context, _ url.Values) (any, error) { return nil, errors.New("broken") },
	})
	const here = "127.0.0.1:5"
	good := "Bearer " + token
	for _, test := range []struct {
		name, method, target, from, authorization string
		status                                    int
	}{
		{"no token", "GET", "/channels", here, "", 401},
		{"a wrong token", "GET", "/channels", here, "Bearer " + strings.Replace(token, "f", "0", 1), 401},
		{"a part of it", "GET", "/channels", here, "Bearer " + token[:15], 401},
		{"more than it", "GET", "/channels", here, good + "0", 401},
		{"without its scheme", "GET", "/channels", here, token, 401},
		{"empty", "GET", "/channels", here, "Bearer ", 401},
		{"basic", "GET", "/channels", here, "Basic " + token, 401},
		{"elsewhere", "GET", "/channels", "192.0.2.7:5", good, 403},
		{"elsewhere, IPv6", "GET", "/channels", "[2001:db8::1]:5", good, 403},
		{"no address", "GET", "/channels", "", good, 403},
		{"a name", "GET", "/channels", "localhost:5", good, 403},
		{"settle from elsewhere", "POST", "/channels/settle?id=" + s.id, "192.0.2.7:5", good, 403},
		{"settle without a token", "POST", "/channels/settle?id=" + s.id, here, "", 401},
		{"settle by GET", "GET", "/channels/settle?id=" + s.id, here, good, 405},
		{"list by POST", "POST", "/channels", here, good, 405},
		{"nothing there", "GET", "/secret", here, good, 404},
		{"no such channel", "GET", "/channels/show?id=x", here, good, 404},
		{"settle no such channel", "POST", "/channels/settle?id=", here, good, 404},
		{"nothing to settle", "POST", "/channels/settle?id=" + s.id, here, good, 409},
		{"a failure", "GET", "/fails", here, good, 500},
		{"list", "GET", "/channels", here, good, 200},
		{"list, IPv6", "GET", "/channels", "[::1]:5", good, 200},
		{"list, mapped", "GET", "/channels", "[::ffff:127.0.0.1]:5", good, 200},
		{"show", "GET", "/channels/show?id=" + s.id, here, good, 200},
		{"status", "GET", "/status", here, good, 200},
		{"more", "GET", "/more", here, good, 200},
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
	none := gateway.Admin(s.Payee, "", slog.New(slog.DiscardHandler), nil)
	if r := adminAsk(none, "GET", "/channels", here, "Bearer "); r.Code != 401 {
		t.Errorf("an API without a token answers %d", r.Code)
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
	h := gateway.Admin(s.Payee, token, slog.New(slog.DiscardHandler), nil)
	ask := func(method, target string, into any) {
		t.Helper()
		r := adminAsk(h, method, target, "127.0.0.1:5", "Bearer "+token)
		if r.Code != 200 {
			t.Fatalf("%s: %d %s", target, r.Code, r.Body)
		}
		s.Must(json.Unmarshal(r.Body.Bytes(), into))
	}
	var st gateway.Status
	ask("GET", "/status", &st)
	if st.Channels != 1 || st.Capacity != 50_000 || st.Paid != 5000 || st.Owed != 0 || st.Phases[channel.Open] != 1 {
		t.Errorf("%+v", st)
	}
	var b channel.Broadcast
	ask("POST", "/channels/settle?id="+s.id, &b)
	if b.Amount != 5000 || b.Fee <= 0 || len(b.Tx) == 0 {
		t.Errorf("%+v", b)
	}
	var again channel.Broadcast
	ask("POST", "/channels/settle?id="+s.id, &again)
	if again.Txid != b.Txid {
		t.Errorf("%s, then %s", b.Txid, again.Txid)
	}
	if r := s.get(slice0, 5000, nil); r.Status != 402 {
		t.Errorf("delivered while settling: %d", r.Status)
	}
}
