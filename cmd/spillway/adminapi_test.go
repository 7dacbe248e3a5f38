package main

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/spillway/spillway/internal/gateway"
)

// described is the admin API's description, and a provider that is held against it.
type described struct {
	*selling
	doc    *openapi3.T
	router routers.Router
	base   string
	token  string
	seen   map[string]bool // operation and status
}

// checked asks, and holds question and answer against the description.
func (d *described) checked(method, path, token, body string, want int) string {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.base+path, strings.NewReader(body))
	d.must(err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	route, params, err := d.router.FindRoute(req)
	if err != nil {
		d.t.Errorf("%s %s is not described: %v", method, path, err)
		return ""
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true}}
	if err := openapi3filter.ValidateRequest(d.t.Context(), in); err != nil && want == http.StatusOK {
		d.t.Errorf("%s %s: the question is not as described: %v", method, path, err)
	}
	status, header, got := d.ask(method, d.base+path, token, body)
	if status != want {
		d.t.Errorf("%s %s: %d, want %d: %s", method, path, status, want, got)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status, Header: header, Body: io.NopCloser(strings.NewReader(got)), Options: in.Options}
	if err := openapi3filter.ValidateResponse(d.t.Context(), out); err != nil {
		d.t.Errorf("%s %s: the answer %d is not as described: %v\n%s", method, path, status, err, got)
	}
	d.seen[route.Operation.OperationID] = true
	return got
}

// TestAdminIsAsDescribed: every route of the admin API is in its OpenAPI document and the
// other way round, and every answer is what the document says: done, refused, and without
// the token.
func TestAdminIsAsDescribed(t *testing.T) {
	s := sell(t, "[[webhook]]\nname = \"books\"\nurl = \"http://127.0.0.1:1/x?key=1\"\nsecret-file = \""+secretOf(t)+"\"\n", "--admin-listen=127.0.0.1:0")
	d := &described{selling: s, seen: map[string]bool{}, base: s.at("The admin API is at ")}
	raw, err := os.ReadFile(filepath.Join(s.data, "payee/regtest/admin-token"))
	s.must(err)
	d.token = strings.TrimSpace(string(raw))
	loader := openapi3.NewLoader()
	d.doc, err = loader.LoadFromData(gateway.AdminAPI)
	s.must(err)
	s.must(d.doc.Validate(context.Background()))
	u, err := url.Parse(d.base)
	s.must(err)
	d.doc.Servers = openapi3.Servers{{URL: u.String()}}
	d.router, err = legacy.NewRouter(d.doc)
	s.must(err)

	s.buy()
	id := s.channel()
	s.await("the first look at the chain", func() bool {
		status, _, _ := s.ask("GET", d.base+"/readyz", "", "")
		return status == http.StatusOK
	})
	path := "/v1/channels/" + url.PathEscape(id)
	unknown := "/v1/channels/" + strings.Repeat("0", 64) + ":0"
	for _, ask := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/v1/status", "", 200}, {"GET", "/v1/channels", "", 200}, {"GET", "/v1/channels?phase=open&limit=1", "", 200}, {"GET", "/v1/channels?after=" + url.QueryEscape(id), "", 200}, {"GET", "/v1/channels?limit=0", "", 400},
		{"GET", path, "", 200}, {"GET", unknown, "", 404}, {"GET", "/v1/earnings", "", 200}, {"GET", "/v1/earnings?by=file&since=2026-01-01", "", 200}, {"GET", "/v1/earnings?by=moon", "", 400},
		{"GET", "/v1/chain", "", 200}, {"GET", "/v1/alarms", "", 200}, {"GET", "/v1/webhooks", "", 200}, {"POST", "/v1/webhooks/test", `{"name":"books"}`, 200}, {"POST", "/v1/webhooks/test", `{"name":"x"}`, 400},
		{"GET", "/v1/ready", "", 200}, {"GET", "/v1/version", "", 200}, {"GET", "/v1/wallet/balance", "", 200}, {"POST", "/v1/wallet/address", "", 200},
		{"POST", "/v1/trade", `{"channel_id":"x","url":"http://127.0.0.1:1/f","budget_sat":1}`, 200}, {"POST", "/v1/trade", `{`, 400},
		{"POST", path + "/payback", `{"amount_msat":1000,"key":"k"}`, 422}, {"POST", path + "/payback", `{}`, 400}, {"POST", unknown + "/payback", `{"amount_msat":1000,"key":"k"}`, 404}, {"POST", unknown + "/settle", "", 404},
		{"POST", "/v1/reload", "", 200}, {"GET", "/v1/openapi.json", "", 200}, {"GET", "/metrics", "", 200}, {"GET", "/healthz", "", 200}, {"GET", "/readyz", "", 200}, {"POST", path + "/settle", "", 200},
	} {
		got := d.checked(ask.method, ask.path, d.token, ask.body, ask.status)
		if strings.Contains(got, d.token) || strings.Contains(got, "key=1") {
			t.Errorf("%s tells a secret: %s", ask.path, got)
		}
		if ask.path != "/healthz" && ask.path != "/readyz" {
			d.checked(ask.method, ask.path, "", ask.body, http.StatusUnauthorized)
		}
	}
	d.routes()
}

// routes are the same in the document and in the program.
func (d *described) routes() {
	d.t.Helper()
	p := &provider{ops: &operations{}, app: &app{out: &output{}}}
	program := append(slices.Collect(maps.Keys(p.adminAnswers())), slices.Collect(maps.Keys(p.ops.probes()))...)
	program = append(program, "GET /metrics", "GET /v1/status", "GET /v1/channels", "GET /v1/channels/{id}", "POST /v1/channels/{id}/settle", "POST /v1/channels/{id}/payback", "GET /v1/openapi.json")
	var document []string
	for path, item := range d.doc.Paths.Map() {
		for method, op := range item.Operations() {
			document = append(document, method+" "+path)
			if !d.seen[op.OperationID] {
				d.t.Errorf("%s %s was not asked", method, path)
			}
		}
	}
	slices.Sort(program)
	slices.Sort(document)
	if !slices.Equal(program, document) {
		d.t.Errorf("the program has\n%q, the document\n%q", program, document)
	}
}

// secretOf is a file with the secret of a webhook.
func secretOf(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook.secret")
	if err := os.WriteFile(path, bytes.Repeat([]byte("k"), 40), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDeadProviderIsNotBelieved: what a provider that died left over is not taken for one
// that runs, whatever lies there: nobody is asked, and nobody is told a token.
func TestDeadProviderIsNotBelieved(t *testing.T) {
	s := sell(t, "")
	s.buy()
	s.stop()
	dir := filepath.Join(s.data, "payee/regtest")
	thief := make(chan string, 10)
	other := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { thief <- r.Header.Get("Authorization") })}
	l := listenHere(t)
	go func() { _ = other.Serve(l) }()
	t.Cleanup(func() { _ = other.Close() })
	socket := filepath.Join(dir, adminSocket)
	for what, leave := range map[string]func() error{
		"nothing": func() error { return nil },
		"an old file": func() error {
			return os.WriteFile(filepath.Join(dir, oldAdminFile), []byte(`{"url":"http://`+l.Addr().String()+`","token":"t"}`), 0o600)
		},
		"a dead socket":   func() error { return deadSocket(socket) },
		"a file":          func() error { return os.WriteFile(socket, []byte("x"), 0o600) },
		"a link to none":  func() error { return os.Symlink(filepath.Join(dir, "nothing"), socket) },
		"an empty folder": func() error { return os.Mkdir(socket, 0o700) },
	} {
		s.must(os.RemoveAll(socket))
		s.must(leave())
		if out := s.run("--json", "earnings"); !strings.Contains(out, `"chunks":5`) {
			t.Errorf("%s: %s", what, out)
		}
		var said bytes.Buffer
		if exit := runUntil(t.Context(), []string{"status"}, strings.NewReader(""), &said, &said); exit != exitUsage || !strings.Contains(said.String(), "no provider runs on this data folder") {
			t.Errorf("%s: exit %d: %s", what, exit, said.String())
		}
		s.start("") // over what is left
		if out := s.run("--json", "webhooks"); !strings.Contains(out, `"webhooks":[]`) {
			t.Errorf("%s: %s", what, out)
		}
		s.stop()
		if _, err := os.Lstat(socket); err == nil {
			t.Errorf("%s: a provider that stopped in order leaves its socket", what)
		}
	}
	if len(thief) > 0 {
		t.Errorf("somebody else was asked: %q", <-thief)
	}
}
