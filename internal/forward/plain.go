package forward

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spillway/spillway/mpp"
)

// secludes makes an answer that was asked for like a server's one that can do no harm at
// this address, which it shares with all other hosts' answers in that form:
//
//   - a page of it runs in a browser as if it had no address at all, so that it cannot ask
//     this proxy for anything, nor read what another host answered;
//   - a cookie goes back to the host that it came from alone;
//   - a redirect to another host leaves this form where the request carried something for
//     its own host: programs send that again to the same address.
func secludes(resp *http.Response, q *wanted) {
	h := resp.Header
	seclude(h)
	for i, line := range h.Values("Set-Cookie") {
		h["Set-Cookie"][i] = cookieOf(line, q.url)
	}
	at := h.Get("Location")
	if at == "" {
		return
	}
	to, err := q.url.Parse(at)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" {
		return
	}
	if own := to.Scheme == q.url.Scheme && strings.EqualFold(to.Host, q.url.Host); !own && carries(resp.Request) {
		h.Set("Location", to.String())
		return
	}
	h.Set("Location", local(to))
}

// seclude keeps a browser from running an answer as a page of this address.
func seclude(h http.Header) {
	h.Add("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Service-Worker-Allowed")
	h.Del("Clear-Site-Data") // of this address: others' too
}

// carries reports whether a request has something in it that is for its host alone.
func carries(r *http.Request) bool {
	if r == nil {
		return true
	}
	scheme, _, _ := strings.Cut(strings.TrimSpace(r.Header.Get(mpp.HeaderCredential)), " ")
	return scheme != "" && !strings.EqualFold(scheme, "payment") || r.Header.Get("Cookie") != ""
}

// cookieOf is a Set-Cookie of a host for this address: for its own path alone.
func cookieOf(line string, from *url.URL) string {
	parts := strings.Split(line, ";")
	path := ""
	kept := slices.DeleteFunc(parts[1:], func(part string) bool {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if strings.EqualFold(name, "path") {
			path = strings.TrimSpace(value)
		}
		return strings.EqualFold(name, "path") || strings.EqualFold(name, "domain")
	})
	if !strings.HasPrefix(path, "/") { // RFC 6265, section 5.1.4
		path = from.EscapedPath()
		if path = path[:max(strings.LastIndexByte(path, '/'), 0)]; path == "" {
			path = "/"
		}
	}
	path = "/" + from.Scheme + "/" + from.Host + path
	return strings.Join(append(append(parts[:1:1], kept...), " Path="+path), ";")
}
