package forward

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secluded sends an answer of https://shop.example/a/b through secludes.
func secluded(t *testing.T, answer, request http.Header) http.Header {
	t.Helper()
	from, err := url.Parse("https://shop.example/a/b")
	must(t, err)
	resp := &http.Response{StatusCode: 200, Header: answer, Request: &http.Request{Header: request}}
	secludes(resp, &wanted{url: from, plain: true})
	return resp.Header
}

// Answers of all hosts share one address where they are asked for like a server's. A page
// of one of them can do nothing there: else it could read what any host answers to this
// user, and have it paid.
func TestPagesRunNowhere(t *testing.T) {
	x := newToll(t, nil)
	host := strings.TrimPrefix(x.service.URL, "https://")
	resp, _ := x.at("GET", "/https/"+host+"/free/page.html")
	if !strings.Contains(resp.Header.Get("Content-Security-Policy"), "sandbox") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", resp.Header)
	}
	own := secluded(t, http.Header{"Content-Security-Policy": {"default-src 'self'"}, "Service-Worker-Allowed": {"/"}, "Clear-Site-Data": {"*"}}, nil)
	if all := own.Values("Content-Security-Policy"); len(all) != 2 || all[1] != "sandbox" || own.Get("Service-Worker-Allowed")+own.Get("Clear-Site-Data") != "" {
		t.Errorf("%v", own)
	}
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	through, err := x.through(nil).Get(web.URL) // in the form for proxies a page is its host's
	must(t, err)
	must(t, through.Body.Close())
	if through.Header.Get("Content-Security-Policy") != "" {
		t.Errorf("%v", through.Header)
	}
}

// What a program sends to one host it sends to every path of this address. A host cannot
// send it on to another one with what was meant for itself.
func TestRedirectsCarryNoCredentials(t *testing.T) {
	for _, c := range []struct {
		name, value, to, want string
	}{
		{"", "", "https://other.example/x?y", "/https/other.example/x?y"},
		{"", "", "/c", "/https/shop.example/c"},
		{"Authorization", "Bearer secret", "https://other.example/x?y", "https://other.example/x?y"},
		{"Authorization", "Bearer secret", "//other.example/x", "https://other.example/x"},
		{"Authorization", "Basic c2VjcmV0", "http://shop.example/c", "http://shop.example/c"},
		{"Authorization", "Bearer secret", "https://shop.example:8443/c", "https://shop.example:8443/c"},
		{"Authorization", "Bearer secret", "c", "/https/shop.example/a/c"},
		{"Authorization", "Bearer secret", "https://SHOP.example/c", "/https/SHOP.example/c"},
		{"Authorization", "Payment abc", "https://other.example/", "/https/other.example/"}, // this proxy's own, or good there alone
		{"Cookie", "a=b", "https://other.example/", "https://other.example/"},
		{"Cookie", "a=b", "mailto:x@y", "mailto:x@y"},
	} {
		h := secluded(t, http.Header{"Location": {c.to}}, http.Header{c.name: {c.value}})
		if got := h.Get("Location"); got != c.want {
			t.Errorf("%s %s: %s becomes %s, want %s", c.name, c.value, c.to, got, c.want)
		}
	}
}

// The same through the proxy, with a program that follows redirects.
func TestCredentialsStayWithTheirHost(t *testing.T) {
	var got []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"), r.Header.Get("Cookie"))
	}))
	t.Cleanup(other.Close)
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/x", http.StatusFound)
	}))
	t.Cleanup(first.Close)
	x := newToll(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, x.web.URL+"/http/"+strings.TrimPrefix(first.URL, "http://")+"/", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer secret")
	req.Header.Set("Cookie", "id=secret")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	if all := strings.Join(got, ""); len(got) != 2 || strings.Contains(all, "secret") {
		t.Errorf("another host got %q", got)
	}
}

// A cookie goes back to the host that it came from.
func TestCookiesStayWithTheirHost(t *testing.T) {
	for line, want := range map[string]string{
		"a=b":                                   "a=b; Path=/https/shop.example/a",
		"a=b; Path=/; Domain=example; HttpOnly": "a=b; HttpOnly; Path=/https/shop.example/",
		"a=b;path=/x;Secure":                    "a=b;Secure; Path=/https/shop.example/x",
		"a=b; Path=relative":                    "a=b; Path=/https/shop.example/a",
		"":                                      "; Path=/https/shop.example/a",
	} {
		if got := secluded(t, http.Header{"Set-Cookie": {line}}, nil).Get("Set-Cookie"); got != want {
			t.Errorf("%q becomes %q, want %q", line, got, want)
		}
	}
}

// A connection that its process has closed is nobody's. The system lists it as root's:
// with a proxy that runs as root every user could spend by hanging up at once.
func TestClosedConnectionIsNobodys(t *testing.T) {
	list := filepath.Join(t.TempDir(), "tcp")
	must(t, os.WriteFile(list, []byte(`  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   1: 0100007F:A2AE 0100007F:C457 05 00000000:00000000 03:00001768 00000000     0        0 0 3 0000000002ec3c51
   2: 0100007F:A2AF 0100007F:C457 01 00000000:00000000 00:00000000 00000000 65534        0 23874788 1 0000000046b7a546 20 4 28 10 -1
   3: 0100007F:A2B0 0100007F:C457 01 00000000:00000000
`), 0o600))
	here := netip.MustParseAddrPort("127.0.0.1:50263")
	if uid, err := search(list, netip.MustParseAddrPort("127.0.0.1:41646"), here); !errors.Is(err, errNobody) {
		t.Errorf("a closed connection is user %d's (%v)", uid, err)
	}
	if uid, err := search(list, netip.MustParseAddrPort("127.0.0.1:41647"), here); err != nil || uid != 65534 {
		t.Errorf("user %d, %v", uid, err)
	}
	if _, err := search(list, netip.MustParseAddrPort("127.0.0.1:41648"), here); !errors.Is(err, errNoSocket) {
		t.Errorf("a line that is cut off: %v", err)
	}
}
