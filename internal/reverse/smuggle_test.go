package reverse

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/paywall"
)

// raw sends bytes as they are, and returns the statuses of the answers until the
// connection ends or is silent.
func (m *market) raw(text string) (statuses []int) {
	m.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(m.web.URL, "http://"))
	must(m.t, err)
	defer c.Close()
	_, err = io.WriteString(c, text)
	must(m.t, err)
	in := bufio.NewReader(c)
	for {
		must(m.t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return append(statuses, resp.StatusCode)
		}
		statuses = append(statuses, resp.StatusCode)
	}
}

// Requests that two programs could read in two ways never reach a paid path: each ends
// here, or reaches the service as the one request that this proxy read and priced.
func TestNoRequestIsSmuggled(t *testing.T) {
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerRequest(1000)}, Rules: []Rule{{Match: "/free/"}}}, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	paid := "GET /paid HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, text := range map[string]string{
		"CL.TE":                  fmt.Sprintf("POST /free/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", 5+len(paid), paid),
		"TE.CL":                  fmt.Sprintf("POST /free/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(paid), paid),
		"TE identity":            "POST /free/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc" + paid,
		"TE twice":               "POST /free/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + paid,
		"TE list":                "POST /free/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + paid,
		"TE obscured":            "POST /free/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + paid,
		"TE folded":              "POST /free/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + paid,
		"TE underscore":          "POST /free/a HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + paid,
		"CL twice":               "POST /free/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n" + paid,
		"CL list":                "POST /free/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 44\r\n\r\n" + paid,
		"CL sign":                "POST /free/a HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n" + paid,
		"CL space":               "POST /free/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0 0\r\n\r\n" + paid,
		"CL nominated":           "POST /free/a HTTP/1.1\r\nHost: x\r\nConnection: Content-Length\r\nContent-Length: 31\r\n\r\n" + paid,
		"host twice":             "GET /free/a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + paid,
		"host nominated":         "GET /free/a HTTP/1.1\r\nHost: x\r\nConnection: Host, Authorization\r\n\r\n",
		"no host":                "GET /free/a HTTP/1.1\r\n\r\n",
		"chunk extension":        fmt.Sprintf("POST /free/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;\nx\r\na\r\n0\r\n\r\n%s", paid),
		"chunk size":             "POST /free/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + paid,
		"bare CR":                "GET /free/a HTTP/1.1\rHost: x\r\n\r\n" + paid,
		"NUL":                    "GET /free/a HTTP/1.1\r\nHost: x\r\nA: \x00b\r\n\r\n",
		"space in the name":      "GET /free/a HTTP/1.1\r\nHost: x\r\nX Y: 1\r\n\r\n",
		"trailers":               "POST /free/a HTTP/1.1\r\nHost: x\r\nTrailer: X-Forwarded-For\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nAuthorization: Payment x\r\n\r\n",
		"expect":                 "POST /free/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n" + paid,
		"get with a body":        fmt.Sprintf("GET /free/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(paid), paid),
		"absolute form":          "GET http://other.example/free/a HTTP/1.1\r\nHost: x\r\n\r\n",
		"absolute form, paid":    "GET http://x/paid HTTP/1.1\r\nHost: free\r\n\r\n",
		"absolute form, another": "GET ftp://x/free/../paid HTTP/1.1\r\nHost: x\r\n\r\n",
		"connect":                "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n" + paid,
		"connect a path":         "CONNECT /free/a HTTP/1.1\r\nHost: x\r\n\r\n" + paid,
		"asterisk":               "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"h2c upgrade":            "GET /free/a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n" + paid,
		"other upgrade":          "GET /free/a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n" + paid,
		"fragment":               "GET /free/a#/../paid HTTP/1.1\r\nHost: x\r\n\r\n",
		"HTTP/0.9":               "GET /paid\r\n\r\n",
		"HTTP/1.0 chunked":       "POST /free/a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + paid,
	} {
		// its own path, so that what another one left behind is not taken for it
		own := "/free/" + url.PathEscape(strings.ReplaceAll(name, "/", ""))
		m.mu.Lock()
		m.seen = nil
		m.mu.Unlock()
		statuses := m.raw(strings.ReplaceAll(text, "/free/a", own))
		m.mu.Lock()
		seen := slices.Clone(m.seen)
		m.mu.Unlock()
		mine := 0
		for _, r := range seen {
			if r.URL.EscapedPath() == own {
				mine++
			}
			if !strings.HasPrefix(r.URL.Path, "/free/") && r.Method != http.MethodOptions {
				t.Errorf("%s: %s %s reached the service unpaid; %v", name, r.Method, r.URL.Path, statuses)
			}
			if r.Host == "other.example" || r.Header.Get("Upgrade") != "" || r.Header.Get("Http2-Settings") != "" || r.Header.Get("Authorization") != "" || strings.Contains(r.Header.Get("X-Forwarded-For")+r.Trailer.Get("X-Forwarded-For"), "6.6") {
				t.Errorf("%s: the service got %v, trailers %v", name, r.Header, r.Trailer)
			}
		}
		if mine > 1 {
			t.Errorf("%s: %d requests reached the service", name, mine)
		}
		for _, s := range statuses {
			if s == http.StatusSwitchingProtocols {
				t.Errorf("%s: it switched protocols", name)
			}
		}
	}
	if m.charged() != 0 {
		t.Errorf("%d msat", m.charged())
	}
}

// What HTTP/2 allows and HTTP/1 does not cannot be smuggled through either.
func TestHTTP2IsNotTurnedIntoTwoRequests(t *testing.T) {
	m := newMarket(t, Config{Default: Rule{Price: paywall.PerRequest(1000)}, Rules: []Rule{{Match: "/free/"}}}, func(http.ResponseWriter, *http.Request) {})
	two := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{}}
	two.Protocols.SetUnencryptedHTTP2(true)
	defer two.CloseIdleConnections()
	resp, _ := m.by(two, "GET", "/free/a")
	if r := m.last(); resp.ProtoMajor != 2 || r == nil || r.ProtoMajor != 1 || r.Header.Get("Via") != "2 spillway" {
		t.Fatalf("HTTP/%d, the service got %v", resp.ProtoMajor, r)
	}
	if resp, _ := m.by(two, "GET", "/paid"); resp.StatusCode != http.StatusPaymentRequired {
		t.Fatal(resp.StatusCode)
	}
	for name, header := range map[string][]string{
		"length":     {"Content-Length", "44"},
		"connection": {"Connection", "close"},
		"te":         {"Transfer-Encoding", "chunked"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", m.web.URL+"/free/a", strings.NewReader("GET /paid HTTP/1.1\r\nHost: x\r\n\r\n"))
		must(t, err)
		req.Header.Set(header[0], header[1])
		if resp, err := two.RoundTrip(req); err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			must(t, errors.Join(err, resp.Body.Close()))
		}
		m.mu.Lock()
		for _, r := range m.seen {
			if r.URL.Path != "/free/a" {
				t.Errorf("%s: %s reached the service", name, r.URL.Path)
			}
		}
		m.seen = nil
		m.mu.Unlock()
	}
}
