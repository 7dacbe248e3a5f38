package main

import (
	"context"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
)

// FuzzListing: whatever a provider lists as a folder's files, what would be bought is
// asked of the same origin and goes below the folder that was named, or nothing is
// bought at all.
func FuzzListing(f *testing.F) {
	f.Add("http://h/", "out", []byte(`{"files":[{"name":"a.bin","chunk_msat":5,"total_msat":10},{"name":"d/b","chunk_msat":9}]}`))
	f.Add("http://h/d/", "out", []byte(`{"files":[{"name":"d/../../x"}]}`))
	f.Add("http://h/d/", ".", []byte(`{"files":[{"name":"d/ü/\u0000"}]}`))
	f.Add("http://h/d/", "/tmp/x", []byte(`{"files":[{"name":"d/%2e%2e/%2fx","total_msat":18446744073709551615},{"name":"d/?q#f","total_msat":2}]}`))
	f.Add("http://h/", "o", []byte(`{"files":[{"name":"/etc/passwd"},{"name":""}]}`))
	f.Fuzz(func(t *testing.T, target, dir string, body []byte) {
		if !isFolder(target) {
			return
		}
		serve := func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body))), Request: r}, nil
		}
		c, err := paywall.NewClient(paywall.ClientConfig{HTTP: &http.Client{Transport: roundTrip(serve)}, Payer: &payer.Payer{}, Network: "regtest"})
		if err != nil {
			t.Fatal(err)
		}
		b := &buyer{client: c}
		wants, err := b.folder(context.Background(), download.Want{URL: target, Dir: dir})
		if err != nil {
			if len(wants) > 0 {
				t.Fatalf("%d files and %v", len(wants), err)
			}
			return
		}
		root, err := filepath.Abs(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range wants {
			for _, at := range []string{w.Dir, w.Path} {
				whole, err := filepath.Abs(at)
				if err != nil {
					t.Fatal(err)
				}
				rel, err := filepath.Rel(root, whole)
				if err != nil || rel == ".." || strings.HasPrefix(rel, "../") || at == w.Path && rel == "." {
					t.Fatalf("%q would go to %q, outside of %q: %v", w.URL, at, dir, err)
				}
			}
			if paywall.Origin(w.URL) != paywall.Origin(target) || paywall.Origin(w.URL) == "" {
				t.Fatalf("%q is asked for a file of %q", w.URL, target)
			}
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FuzzFlags: flags of amounts, prices, roots and addresses are refused as usage, or
// mean exactly what they say; nothing listens beyond loopback without TLS unless told.
func FuzzFlags(f *testing.F) {
	for _, s := range []string{"1000sat", "1msat", "0.5btc", "1sat/64KiB", "127.0.0.1:1", ":4402", "localhost:1", "[::1]:2", "0.0.0.0:3", "[::ffff:127.0.0.1]:1", "127.1:1", "taproot", "64KiB", "0", "[::1%lo]:1", strings.Repeat("0a", 32)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		asUsage := func(err error) {
			t.Helper()
			var e *failure
			if err != nil && (!errors.As(err, &e) || e.exit != exitUsage) {
				t.Fatalf("%q: no usage error: %v", s, err)
			}
		}
		whole, err := sat("budget", s)
		if asUsage(err); err == nil {
			msat, perr := content.ParseAmountMsat(s)
			want := new(big.Int).Mul(new(big.Int).SetUint64(whole), big.NewInt(1000))
			if perr != nil || want.Cmp(new(big.Int).SetUint64(msat)) != 0 {
				t.Fatalf("%q is %d sat, but %d msat", s, whole, msat)
			}
		}
		lim, err := getFlags{budget: s, prepay: s}.limits()
		if asUsage(err); err == nil && s != "" && (lim.Budget != whole || lim.MaxPrepay != whole) {
			t.Fatalf("%q: %+v", s, lim)
		}
		_, err = construction(s)
		asUsage(err)
		_, err = getFlags{root: s}.want("http://h/f", false)
		asUsage(err)
		_, chunk, err := serveFlags{price: "1sat/KiB", chunk: s}.offer()
		if asUsage(err); err == nil && (chunk.Bytes == 0 || chunk.Bytes > content.MaxSize) {
			t.Fatalf("%q: %+v", s, chunk)
		}
		_, _, err = serveFlags{price: s, chunk: "1"}.offer()
		asUsage(err)
		if err := (serveFlags{listen: s}).checkListen(); err == nil {
			host, _, herr := net.SplitHostPort(s)
			if ip := net.ParseIP(host); herr != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
				t.Fatalf("it would listen on %q", s)
			}
		} else {
			asUsage(err)
		}
	})
}
