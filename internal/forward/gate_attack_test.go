package forward

import (
	"bufio"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A page of another site, in a browser that says so or
// that does not, by this address or by a name that was made to point here, gets nothing
// fetched, and is told nothing.
func TestPagesSpendNothing(t *testing.T) {
	x := newToll(t, nil)
	host := strings.TrimPrefix(x.service.URL, "https://")
	for name, c := range map[string]struct {
		header []string
		want   int
	}{
		"a program":                 {nil, 200},
		"typed by the user":         {[]string{"Sec-Fetch-Site", "none"}, 200},
		"this proxy's own page":     {[]string{"Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:4403"}, 200},
		"another site":              {[]string{"Sec-Fetch-Site", "cross-site"}, 403},
		"another port":              {[]string{"Sec-Fetch-Site", "same-site"}, 403},
		"an old browser":            {[]string{"Origin", "https://evil.example"}, 403},
		"a page without an address": {[]string{"Origin", "null"}, 403},
		"a name like a loopback's":  {[]string{"Origin", "http://127.0.0.1.evil.example"}, 403},
		"over TLS":                  {[]string{"Origin", "https://127.0.0.1"}, 403},
		"rebinding":                 {[]string{"Host", "evil.example"}, 403},
		"rebinding with a port":     {[]string{"Host", "evil.example:4403"}, 403},
		"a rebound page":            {[]string{"Host", "evil.example", "Sec-Fetch-Site", "same-origin", "Origin", "http://evil.example"}, 403},
		"any address":               {[]string{"Host", "0.0.0.0:4403"}, 403},
		"localhost":                 {[]string{"Host", "localhost:4403"}, 200},
		"the sixth version":         {[]string{"Host", "[::1]:4403"}, 200},
		"localhost.evil":            {[]string{"Host", "localhost.evil.example"}, 403},
	} {
		for path, free := range map[string]string{"/https/" + host + "/free/x": "GET /free/x", "/": "budget_sat"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, x.web.URL+path, nil)
			must(t, err)
			for i := 0; i < len(c.header); i += 2 {
				if c.header[i] == "Host" {
					req.Host = c.header[i+1]
					continue
				}
				req.Header.Set(c.header[i], c.header[i+1])
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			must(t, err)
			body, err := io.ReadAll(resp.Body)
			must(t, errors.Join(err, resp.Body.Close()))
			if resp.StatusCode != c.want || strings.Contains(string(body), free) != (c.want == 200) {
				t.Errorf("%s, %s: %s %s", name, path, resp.Status, body)
			}
		}
	}
}

// Who has the token may ask, and nobody else where it is wanted of all; a wrong one is
// refused also from a process that may.
func TestWhoMayAsk(t *testing.T) {
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for name, c := range map[string]struct {
		change func(*Config)
		given  string
		want   int
	}{
		"its user":                     {func(*Config) {}, "", 200},
		"another user":                 {func(c *Config) { c.Users = []uint32{4_000_000_000} }, "", 407},
		"another user with the token":  {func(c *Config) { c.Users, c.Token = nil, "a-token-of-this-test" }, "Bearer a-token-of-this-test", 200},
		"as a password":                {func(c *Config) { c.Users, c.Token = nil, "a-token-of-this-test" }, basic("me:a-token-of-this-test"), 200},
		"a wrong one":                  {func(c *Config) { c.Token = "a-token-of-this-test" }, "Bearer a-token-of-this-tesT", 407},
		"a part":                       {func(c *Config) { c.Token = "a-token-of-this-test" }, "Bearer a-token", 407},
		"as a name":                    {func(c *Config) { c.Token = "a-token-of-this-test" }, basic("a-token-of-this-test:"), 407},
		"no base64":                    {func(c *Config) { c.Token = "a-token-of-this-test" }, "Basic !!", 407},
		"none where it is wanted":      {func(c *Config) { c.Token, c.TokenOnly = "a-token-of-this-test", true }, "", 407},
		"none where there is none":     {func(c *Config) { c.TokenOnly = true }, "", 407},
		"an empty one where is none":   {func(c *Config) { c.TokenOnly = true }, "Bearer ", 407},
		"an empty password, likewise":  {func(c *Config) { c.TokenOnly = true }, basic(":"), 407},
		"of another scheme, of a user": {func(c *Config) { c.Token = "a-token-of-this-test" }, "Digest x", 200},
	} {
		x := newToll(t, c.change)
		resp, _ := x.at("GET", "/https/"+strings.TrimPrefix(x.service.URL, "https://")+"/free/x", "Proxy-Authorization", c.given)
		if resp.StatusCode != c.want {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
}

// What is for this proxy does not leave it.
func TestTokenStaysHere(t *testing.T) {
	var got http.Header
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })}
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() { _ = web.Close() })
	x := newToll(t, func(c *Config) { c.Token = "a-token-of-this-test" })
	c, err := net.Dial("tcp", strings.TrimPrefix(x.web.URL, "http://"))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, "GET http://"+l.Addr().String()+"/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer a-token-of-this-test\r\nX-Own: y\r\n\r\n")
	must(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	if resp.StatusCode != http.StatusOK || got.Get("Proxy-Authorization") != "" || got.Get("X-Own") != "y" {
		t.Errorf("%s: %v", resp.Status, got)
	}
}

// Who pays for itself, or says that it could, is not paid for.
func TestPayersPayThemselves(t *testing.T) {
	x := newToll(t, nil)
	path := "/https/" + strings.TrimPrefix(x.service.URL, "https://") + "/paid"
	for name, value := range map[string]string{"Accept-Payment": "bitcoin-session", "Authorization": "Payment e30", "Payment-Authorization": "Payment e30"} {
		resp, _ := x.at("GET", path, name, value)
		if resp.StatusCode < 400 || x.signed() != 0 {
			t.Errorf("%s: %s, %d sat", name, resp.Status, x.signed())
		}
	}
	if resp, _ := x.at("GET", path); resp.StatusCode != http.StatusOK || x.signed() == 0 {
		t.Errorf("%s, %d sat", resp.Status, x.signed())
	}
}
