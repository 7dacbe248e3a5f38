package forward

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/spillway/spillway/paywall"
)

// FuzzTarget: whatever a request line says, what is fetched is of the origin that is held
// against the allow-list, has no user and no dots, and is the same when it is asked for
// in the form that redirects get. A cookie of it stays below its own path.
func FuzzTarget(f *testing.F) {
	for _, line := range []string{
		"GET http://a.example/x HTTP/1.1", "GET /https/a.example/x?y#z HTTP/1.1", "GET /http/u:p@h/ HTTP/1.1", "GET /https/a.example/../b HTTP/1.1",
		"GET /https//x HTTP/1.1", "GET /https/%61.example/%2e%2e/x HTTP/1.1", "GET http://[::1]:80/ HTTP/1.1", "GET /http/a:99999/ HTTP/1.1", "GET HTTP://A.EXAMPLE:80 HTTP/1.1",
		"GET /https/a.example%2f..%2fb/ HTTP/1.1", "GET /ftp/x/ HTTP/1.1", "GET ftp://x/ HTTP/1.1", `GET /https/a\b/ HTTP/1.1`, "GET /https/a.example:443/;x HTTP/1.1",
	} {
		f.Add(line, "a=b; Path=/x; Domain=example")
	}
	f.Fuzz(func(t *testing.T, line, cookie string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(line + "\r\nHost: 127.0.0.1\r\n\r\n")))
		if err != nil {
			return
		}
		u, plain, err := target(r)
		if err != nil {
			return
		}
		origin := paywall.Origin(u.String())
		asked, err := url.Parse(u.String())
		if err != nil || origin == "" || u.User != nil || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" {
			t.Fatalf("%q is %q: %v", line, u, err)
		}
		if paywall.Origin(asked.String()) != origin || !strings.EqualFold(asked.Host, u.Host) {
			t.Fatalf("%q is asked at %q, and held to be of %s", line, asked, origin)
		}
		for _, segment := range strings.Split(u.Path, "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%q is %q", line, u)
			}
		}
		again, err := http.NewRequest(http.MethodGet, "http://127.0.0.1"+local(u), nil)
		if err != nil {
			return
		}
		again.URL.Scheme, again.URL.Host = "", ""
		if v, _, err := target(again); plain && (err != nil || paywall.Origin(v.String()) != origin || v.EscapedPath() != u.EscapedPath() || v.RawQuery != u.RawQuery) {
			t.Fatalf("%q is %q, and %q in its own form (%v)", line, u, v, err)
		}
		if strings.ContainsAny(cookie, "\r\n") || u.Path == "" {
			return
		}
		parts := strings.Split(cookieOf(cookie, u), ";")
		if last := strings.TrimSpace(parts[len(parts)-1]); !strings.HasPrefix(last, "Path=/"+u.Scheme+"/"+u.Host+"/") {
			t.Fatalf("%q of %q", last, u)
		}
		for _, part := range parts[1 : len(parts)-1] {
			if name, _, _ := strings.Cut(strings.TrimSpace(part), "="); strings.EqualFold(name, "path") || strings.EqualFold(name, "domain") {
				t.Fatalf("%q stays in %q", part, parts)
			}
		}
	})
}
