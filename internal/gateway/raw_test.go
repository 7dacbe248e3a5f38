package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
)

// wire serves a stand's gateway as serve does, and takes requests byte by byte.
type wire struct {
	*seller
	addr string
}

func newWire(t *testing.T, connections int, edit func(*http.Server)) *wire {
	t.Helper()
	s := newSeller(t, edgetest.Config{})
	server := gateway.HTTPServer(s.Handler(), nil)
	if edit != nil {
		edit(server)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.Must(err)
	done := make(chan error, 1)
	go func() { done <- server.Serve(gateway.LimitListener(l, connections)) }()
	t.Cleanup(func() {
		s.Must(server.Close())
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return &wire{s, l.Addr().String()}
}

func (w *wire) dial() net.Conn {
	w.T.Helper()
	conn, err := net.Dial("tcp", w.addr)
	w.Must(err)
	w.T.Cleanup(func() { conn.Close() })
	w.Must(conn.SetDeadline(time.Now().Add(20 * time.Second)))
	return conn
}

// send writes a request as it is and reads the answer to it.
func (w *wire) send(method, raw string) *http.Response {
	w.T.Helper()
	conn := w.dial()
	var group sync.WaitGroup
	defer group.Wait()
	group.Add(1)
	go func() {
		defer group.Done()
		if _, err := io.WriteString(conn, raw); err != nil {
			w.T.Logf("not all of the request was taken: %v", err)
		}
	}()
	return w.answer(bufio.NewReader(conn), method)
}

func (w *wire) answer(r *bufio.Reader, method string) *http.Response {
	w.T.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	w.Must(err)
	body, err := io.ReadAll(resp.Body)
	if !errors.Is(err, syscall.ECONNRESET) { // of a request that was not read to its end
		w.Must(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp
}

// voucher is the credential of a payment of nothing.
func (w *wire) voucher() string {
	w.T.Helper()
	return w.Seal(w.Quote("/f.bin").Challenge, w.VoucherFor(w.id, 0), "")
}

// Requests that no client of ours would send: each is answered, nothing of it charges
// or breaks anything.
func TestRawRequests(t *testing.T) {
	w := newWire(t, 100, nil)
	cred := "Authorization: " + w.voucher() + "\r\n"
	huge := strings.Repeat("x", 132<<10)
	tests := []struct {
		name, method, raw string
		status            int
	}{
		{"no host", "GET", "GET / HTTP/1.1\r\n\r\n", 400},
		{"two hosts", "GET", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"not HTTP", "GET", "hello\r\n\r\n", 400},
		{"HTTP/9", "GET", "GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505},
		{"HTTP/1.0", "GET", "GET /f.bin HTTP/1.0\r\n\r\n", 402},
		{"another site", "GET", "GET http://elsewhere.example/f.bin HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n", 402},
		{"a site in the path", "GET", "GET //elsewhere.example/f.bin HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"CONNECT", "CONNECT", "CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		{"asterisk", "OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 200},
		{"a header too large", "GET", "GET / HTTP/1.1\r\nHost: x\r\nX: " + huge + "\r\n\r\n", 431},
		{"a path too large", "GET", "GET /" + huge + " HTTP/1.1\r\nHost: x\r\n\r\n", 431},
		{"a long path", "GET", "GET /" + strings.Repeat("x", 60_000) + " HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"length and chunks", "POST", "POST /f.bin HTTP/1.1\r\nHost: x\r\n" + cred + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"two lengths", "POST", "POST /f.bin HTTP/1.1\r\nHost: x\r\n" + cred + "Content-Length: 0\r\nContent-Length: 5\r\n\r\nabcde", 400},
		{"an empty body in chunks", "POST", "POST /f.bin HTTP/1.1\r\nHost: x\r\n" + cred + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"a body in chunks", "POST", "POST /f.bin HTTP/1.1\r\nHost: x\r\n" + cred + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 400},
		{"gzip transfer", "POST", "POST /f.bin HTTP/1.1\r\nHost: x\r\n" + cred + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
		{"expects something", "POST", "POST /f.bin HTTP/1.1\r\nHost: x\r\n" + cred + "Expect: gold\r\nContent-Length: 0\r\n\r\n", 417},
		{"a line that folds", "GET", "GET /f.bin HTTP/1.1\r\nHost: x\r\nAuthorization: Payment\r\n abc\r\n\r\n", 402},
		{"a zero byte in a field", "GET", "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Pay\x00ment\r\n\r\n", 400},
		{"a zero byte in the path", "GET", "GET /f.bin%00 HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"upwards", "GET", "GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"upwards, escaped", "GET", "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"upwards, escaped slashes", "GET", "GET /..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"upwards, escaped twice", "GET", "GET /%252e%252e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"backslashes", "GET", "GET /..\\..\\etc\\passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"a dot", "GET", "GET /./f.bin HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"bad escapes", "GET", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"bad query", "GET", "GET /f.bin?slice=%zz HTTP/1.1\r\nHost: x\r\n\r\n", 402},
		{"two slices", "GET", "GET /f.bin?slice=0-0&slice=1000000-2999999 HTTP/1.1\r\nHost: x\r\n" + cred + "\r\n", 416},
		{"semicolons", "GET", "GET /f.bin?a;slice=0-0 HTTP/1.1\r\nHost: x\r\n\r\n", 402},
	}
	for _, test := range tests {
		resp := w.send(test.method, test.raw)
		if resp.StatusCode != test.status {
			body, err := io.ReadAll(resp.Body)
			t.Errorf("%s: %d, want %d: %.200s %v", test.name, resp.StatusCode, test.status, body, err)
		}
		if resp.Header.Get("Payment-Receipt") != "" {
			t.Errorf("%s: a receipt", test.name)
		}
	}
	if w.charged() != 0 {
		t.Errorf("charged %d", w.charged())
	}
	// what a client may do
	for name, raw := range map[string]string{
		"a body on a GET": "GET /f.bin?slice=0-0 HTTP/1.1\r\nHost: x\r\n" + cred + "Content-Length: 5\r\n\r\nhello",
		"HTTP/1.0":        "GET /f.bin?slice=0-0 HTTP/1.0\r\n" + cred + "\r\n",
		"Range and slice": "GET /f.bin?slice=0-0 HTTP/1.1\r\nHost: x\r\n" + cred + "Range: bytes=2000000-2999999\r\n\r\n",
		"gzip":            "GET /f.bin?slice=0-0 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br\r\n" + cred + "\r\n",
		"an upgrade":      "GET /f.bin?slice=0-0 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + cred + "\r\n",
	} {
		resp := w.send("GET", raw)
		body, err := io.ReadAll(resp.Body)
		w.Must(err)
		if resp.StatusCode != 200 || len(body) > 20_000 || resp.Header.Get("Content-Encoding") != "" || resp.Header.Get("Content-Range") != "" {
			t.Errorf("%s: %d, %d bytes, %v", name, resp.StatusCode, len(body), resp.Header)
		}
		if w.charged() != 1_000_000 {
			t.Errorf("%s: charged %d", name, w.charged())
		}
	}
}

// A client that waits to be asked for its body is answered without it being sent.
func TestExpectContinue(t *testing.T) {
	w := newWire(t, 10, nil)
	conn := w.dial()
	_, err := fmt.Fprintf(conn, "POST /f.bin HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n", w.voucher())
	w.Must(err)
	resp := w.answer(bufio.NewReader(conn), "POST")
	if resp.StatusCode != 400 {
		t.Errorf("%d", resp.StatusCode)
	}
}

// An answer to HEAD has no body, whatever it says, and the next one on the connection
// is not mixed up with it.
func TestHeadLeaksNothing(t *testing.T) {
	w := newWire(t, 10, nil)
	cred := w.voucher()
	conn := w.dial()
	r := bufio.NewReader(conn)
	for _, path := range []string{"/f.bin", slice0, "/f.bin?manifest", "/", "/nothing"} {
		for _, field := range []string{"", "Authorization: " + cred + "\r\n", "Range: bytes=0-9\r\nAuthorization: " + cred + "\r\n", "Authorization: Payment x\r\n"} {
			_, err := fmt.Fprintf(conn, "HEAD %s HTTP/1.1\r\nHost: x\r\n%s\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", path, field)
			w.Must(err)
			w.answer(r, "HEAD")
			if next := w.answer(r, "GET"); next.StatusCode != 404 {
				t.Fatalf("after HEAD %s: %d", path, next.StatusCode)
			}
		}
	}
	if w.charged() != 0 {
		t.Errorf("a HEAD charged %d", w.charged())
	}
}

// Pitfall 41: headers that come drop by drop, and connections that say nothing, end;
// more connections than there is room for wait, and are served when one ends.
func TestPitfall41_SlowHeaders(t *testing.T) {
	w := newWire(t, 3, func(s *http.Server) {
		s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = 200*time.Millisecond, 400*time.Millisecond, 200*time.Millisecond
	})
	var group sync.WaitGroup
	for _, first := range []string{"", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX-A: ", "POST /f.bin HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nabc", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
		conn := w.dial()
		group.Add(1)
		go func() {
			defer group.Done()
			if _, err := io.WriteString(conn, first); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) { // until the server ends it
				t.Errorf("%q: %v", first, err)
			}
		}()
	}
	group.Wait()
	if resp := w.send("GET", "GET /f.bin HTTP/1.1\r\nHost: x\r\n\r\n"); resp.StatusCode != 402 {
		t.Errorf("%d", resp.StatusCode)
	}
}

// What lies in the folder and is no file of it is neither listed nor opened: a FIFO
// holds nobody up, a link outside and a hidden file are not there, and neither is a
// file that becomes one of these later.
func TestStrangeFiles(t *testing.T) {
	s := newSeller(t, edgetest.Config{Files: map[string][]byte{"f.bin": file, "later": file[:1000], ".secret": file[:10], "dir/.x/y": file[:10]}})
	outside := filepath.Join(t.TempDir(), "outside")
	s.Must(os.WriteFile(outside, []byte("not for sale"), 0o600))
	s.Must(syscall.Mkfifo(filepath.Join(s.Dir, "fifo"), 0o600))
	s.Must(os.Symlink(outside, filepath.Join(s.Dir, "link")))
	s.Must(os.Symlink(filepath.Dir(outside), filepath.Join(s.Dir, "folder")))
	s.Must(os.Symlink("/dev/zero", filepath.Join(s.Dir, "zero")))
	s.Must(os.Symlink(".secret", filepath.Join(s.Dir, "open")))
	s.Must(os.Symlink(".", filepath.Join(s.Dir, "round")))
	_, err := s.Catalogue.Refresh(context.Background())
	s.Must(err)
	for _, name := range []string{"fifo", "link", "folder/outside", "zero", ".secret", "open", "dir/.x/y", "round/f.bin", "%2esecret", "dir/%2ex/y"} {
		if r := s.Do(edgetest.Ask{Method: "GET", Path: "/" + name}); r.Status != 404 {
			t.Errorf("%s: %d", name, r.Status)
		}
	}
	if r := s.Do(edgetest.Ask{Method: "GET", Path: "/"}); bytes.Contains(r.Body, []byte("fifo")) || bytes.Contains(r.Body, []byte("outside")) || bytes.Contains(r.Body, []byte("secret")) {
		t.Errorf("%s", r.Body)
	}
	later := filepath.Join(s.Dir, "later")
	for what, swap := range map[string]func() error{
		"a link":   func() error { return os.Symlink(outside, later) },
		"a FIFO":   func() error { return syscall.Mkfifo(later, 0o600) },
		"a folder": func() error { return os.Mkdir(later, 0o700) },
	} {
		s.Must(os.Remove(later))
		s.Must(swap())
		c := s.Quote("/f.bin").Challenge
		r := s.Do(edgetest.Ask{Method: "GET", Path: "/later?slice=0-0", Credential: s.Seal(c, s.VoucherFor(s.id, 0), "")})
		if r.Status != 404 || s.charged() != 0 {
			t.Errorf("%s: %d %v, charged %d", what, r.Status, r.Problem, s.charged())
		}
		s.Must(os.Remove(later))
		s.Must(os.WriteFile(later, file[:1000], 0o600))
		_, err := s.Catalogue.Refresh(context.Background())
		s.Must(err)
		if r := s.Do(edgetest.Ask{Method: "GET", Path: "/later"}); r.Status != 402 {
			t.Errorf("after %s: %d", what, r.Status)
		}
	}
}

// A delivery outlives the time that a request may take to arrive: it is bounded by its
// own limits only.
func TestLongDeliveries(t *testing.T) {
	w := newWire(t, 10, func(s *http.Server) { s.ReadTimeout, s.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond })
	conn := w.dial()
	_, err := fmt.Fprintf(conn, "GET /f.bin HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", w.voucher())
	w.Must(err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "GET"})
	w.Must(err)
	got := make([]byte, len(file))
	_, err = io.ReadFull(resp.Body, got[:1_000_000])
	w.Must(err)
	slow := time.NewTimer(time.Second)
	defer slow.Stop()
	<-slow.C
	if r := w.Pay("HEAD", "/f.bin", w.VoucherFor(w.id, 3000)); r.Status != 204 {
		t.Fatalf("%d", r.Status)
	}
	if _, err = io.ReadFull(resp.Body, got[1_000_000:]); err != nil || !bytes.Equal(got, file) {
		t.Errorf("the delivery broke off: %v", err)
	}
}
