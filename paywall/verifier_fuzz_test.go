package paywall

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// FuzzVerifyAsk: whatever a service asks a verifier, the request that is made of it is one
// that the paywall can read: its own method, path and query, and the digest as its body.
func FuzzVerifyAsk(f *testing.F) {
	for _, s := range []string{
		`{"priceMsat":1500,"method":"GET","url":"/","credential":"Payment e30"}`,
		`{"priceMsat":1,"method":"POST","url":"/a%2fb?x=1","credential":"Payment e30","idempotencyKey":"k","range":"bytes=0-1","bodyDigest":"d"}`,
		`{"priceMsat":1,"method":"GET","url":"//h/p"}`, `{"priceMsat":1,"method":"GET","url":"http://h/p"}`, `{"priceMsat":1,"method":"\r\n","url":"/"}`,
		`{"priceMsat":1,"method":"GET","url":"/","credential":"a\r\nb","idempotencyKey":"\u0000"}`, `{}`, `[]`, ``,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var ask verifyAsk
		if json.Unmarshal([]byte(s), &ask) != nil {
			return
		}
		r, err := ask.request(t.Context(), "Authorization")
		if err != nil {
			return
		}
		if r.Method != ask.Method || !strings.HasPrefix(r.URL.Path, "/") || r.Host == "" || r.Header.Get("Authorization") != ask.Credential ||
			(r.ContentLength == 0) != (ask.Body == "") || priceAsked(r) != ask.Price {
			t.Fatalf("%+v of %q", r, s)
		}
		w := &notedAnswer{header: http.Header{}}
		if err := w.run(http.HandlerFunc(granted), r); err != nil || w.status != http.StatusOK || w.header.Get(headerServe) == "" {
			t.Fatalf("%v %d", err, w.status)
		}
		if err := (&notedAnswer{header: http.Header{}}).run(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), r); err == nil {
			t.Fatal("an answer that broke off is one")
		}
	})
}
