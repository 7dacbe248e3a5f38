package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdProxy: proxy refuse | proxy lose CHUNK FILE ARGS…
//
// refuse puts a proxy before the provider that refuses every POST: no channel is
// ever accepted. lose buys FILE through a proxy that keeps this chunk, counted from
// one, to itself, and kills the get then: it was charged and never arrived. The
// proxy is $PROXY and goes on, letting everything else through.
func cmdProxy(ts *testscript.TestScript, _ bool, args []string) {
	to, err := url.Parse(ts.Getenv("URL"))
	ts.Check(err)
	next := httputil.NewSingleHostReverseProxy(to)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	if args[0] == "refuse" {
		front(ts, handler)
		return
	}
	keep, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	var slices atomic.Int64
	lost := make(chan struct{})
	front(ts, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" { // as many proxies do; what is lost is a request of its own then
			http.Error(w, "no", http.StatusNotImplemented)
			return
		}
		if r.URL.Query().Has("slice") && slices.Add(1) == keep {
			next.ServeHTTP(httptest.NewRecorder(), r)
			close(lost)
			<-r.Context().Done()
			return
		}
		next.ServeHTTP(w, r)
	})
	p := launch(ts, append([]string{"get", "--json", ts.Getenv("PROXY") + "/" + args[2]}, args[3:]...))
	ts.Setenv("ID", p.await(ts, "progress")["channel_id"].(string))
	<-lost
	p.end(syscall.SIGKILL)
}

// front starts a server for the rest of a script, as $PROXY.
func front(ts *testscript.TestScript, h http.HandlerFunc) {
	s := httptest.NewServer(h)
	ts.Defer(s.Close)
	ts.Setenv("PROXY", s.URL)
}
