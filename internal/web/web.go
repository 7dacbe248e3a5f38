// Package web holds what pages and texts for people over HTTP have in common: who
// wants a page, what it may load, and how a command is written for a shell.
//
// It serves nothing itself.
package web

import (
	"crypto/sha256"
	"encoding/base64"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// PrefersHTML reports whether a client would rather have a page than JSON: a
// browser, by its Accept. RFC 9110, section 12.5.1.
func PrefersHTML(r *http.Request) bool {
	html, data := 0.0, 0.0
	for _, entry := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, params, err := mime.ParseMediaType(strings.TrimSpace(entry))
		if err != nil {
			continue
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		switch kind {
		case "text/html", "application/xhtml+xml":
			html = max(html, q)
		case "application/json", "application/problem+json":
			data = max(data, q)
		}
	}
	return html > data
}

// Headers sets what every page is served with: it shows its one style and loads,
// runs and frames nothing.
func Headers(h http.Header, style string) {
	sum := sha256.Sum256([]byte(style))
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
}

// ShellWord quotes a word for a shell where it has characters that mean something
// there.
func ShellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._:/%@+=,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
