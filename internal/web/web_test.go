package web

import (
	"net/http"
	"strings"
	"testing"
)

func TestPrefersHTML(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "text/html": true,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": true,
		"application/json, text/html;q=0.5":                               false,
		"application/problem+json;q=0.1, text/html;q=0.9":                 true,
		"text/html;q=0":                         false,
		"text/html;q=x, application/json;q=0.1": false,
		"text/html; charset=utf-8":              true,
		";;;,text/html":                         true,
		"application/json;q=0.5, application/xhtml+xml;q=0.6, garbage/\x00": true,
	} {
		if got := PrefersHTML(&http.Request{Header: http.Header{"Accept": {accept}}}); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "''",
		"http://127.0.0.1:4402/f.bin":   "http://127.0.0.1:4402/f.bin",
		"https://x/a%20b/c+d=e,f@g":     "https://x/a%20b/c+d=e,f@g",
		"http://x/a;rm -rf":             "'http://x/a;rm -rf'",
		"http://x/$(id)`id`&&id|id":     "'http://x/$(id)`id`&&id|id'",
		"http://x/it's":                 `'http://x/it'\''s'`,
		"http://[::1]:4402/f":           "'http://[::1]:4402/f'",
		"http://x/\u00fc":               "'http://x/\u00fc'",
		"http://x/a*b?c~d!e{f}<g>\nh\\": "'http://x/a*b?c~d!e{f}<g>\nh\\'",
	} {
		if got := ShellWord(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func TestHeaders(t *testing.T) {
	h := http.Header{}
	Headers(h, "body{color:red}")
	csp := h.Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") || !strings.Contains(csp, "'sha256-") {
		t.Errorf("%q", csp)
	}
}
