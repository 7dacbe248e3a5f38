package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

type payProxyKey struct{}

// cmdPayProxy: payproxy start ARGS… | payproxy kill | payproxy term. Its URL is $PAY; a
// restart keeps the address.
func cmdPayProxy(ts *testscript.TestScript, _ bool, args []string) {
	running := ts.Value(payProxyKey{}).(*process)
	switch args[0] {
	case "start":
		listen := "127.0.0.1:0"
		if at := ts.Getenv("PAY"); at != "" {
			listen = strings.TrimPrefix(at, "http://")
		}
		p := launch(ts, append([]string{"pay-proxy", "--json", "--listen", listen}, args[1:]...))
		ts.Setenv("PAY", fmt.Sprint(p.await(ts, "paying")["url"]))
		*running = *p
		ts.Defer(func() {
			if running.cmd != nil {
				running.end(os.Interrupt)
			}
		})
	case "kill":
		running.end(syscall.SIGKILL)
		running.cmd = nil
	case "term": // it has to end by itself, in order
		ts.Check(running.cmd.Process.Signal(syscall.SIGTERM))
		for range running.lines {
			continue
		}
		ts.Check(<-running.done)
		running.cmd = nil
	default:
		ts.Fatalf("payproxy %s?", args[0])
	}
}

// cmdThrough: through STATUS FILE URL [RANGE [BYTES]] fetches a URL through the pay-proxy;
// with BYTES it goes away after so many.
func cmdThrough(ts *testscript.TestScript, _ bool, args []string) {
	at, err := url.Parse(ts.Getenv("PAY"))
	ts.Check(err)
	req, err := http.NewRequest(http.MethodGet, args[2], nil)
	ts.Check(err)
	if len(args) > 3 {
		req.Header.Set("Range", "bytes="+args[3])
	}
	t := &http.Transport{DisableKeepAlives: true}
	if args[2] != at.String()+"/" {
		t.Proxy = http.ProxyURL(at)
	}
	resp, err := t.RoundTrip(req)
	ts.Check(err)
	defer resp.Body.Close()
	var body io.Reader = resp.Body
	if len(args) > 4 {
		n, err := strconv.ParseInt(args[4], 10, 64)
		ts.Check(err)
		body = io.LimitReader(resp.Body, n)
	}
	raw, err := io.ReadAll(body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), raw, 0o644))
	if strconv.Itoa(resp.StatusCode) != args[0] {
		ts.Fatalf("%s: HTTP status %d: %.300s", args[2], resp.StatusCode, raw)
	}
}
