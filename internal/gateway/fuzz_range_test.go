package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/content"
)

var plainRange = regexp.MustCompile(`^bytes=[0-9]*-[0-9]*$`)

// FuzzRange: one range of bytes means what it means to net/http, and any field that
// is taken stays within the file.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-0", "bytes=5-", "bytes=-5", "bytes=-0", "bytes=9-5", "bytes=0-99999999999999999999", "bytes=99999999999999999999-", "bytes=-99999999999999999999", "bytes=0-1,2-3", "items=0-1", "bytes=", "bytes=-", "Bytes = 1-2", "bytes=+1-2", "bytes=1 - 2"} {
		f.Add(s, uint16(10))
		f.Add(s, uint16(0))
	}
	f.Fuzz(func(t *testing.T, field string, size uint16) {
		m := &content.Manifest{Size: uint64(size), ChunkBytes: 1}
		r := httptest.NewRequest(http.MethodGet, "http://x/f", nil)
		r.Header["Range"] = []string{field}
		a, b, partial, err := wanted(r, m)
		if err == nil && partial && (a > b || b >= m.Size) || err == nil && !partial && (a != 0 || b != max(m.Size, 1)-1) {
			t.Fatalf("%q of %d bytes: %d-%d, %t", field, size, a, b, partial)
		}
		if err != nil && partial {
			t.Fatalf("%q: %t and %v", field, partial, err)
		}
		if !plainRange.MatchString(field) || size == 0 || len(field) > 24 || strings.Trim(field, "0") == "bytes=-" {
			return // net/http knows no numbers beyond 64 bits, and answers to the last no bytes with a range that is none
		}
		w := httptest.NewRecorder()
		http.ServeContent(w, r, "f", time.Time{}, bytes.NewReader(make([]byte, size)))
		switch w.Code {
		case http.StatusPartialContent:
			if want := fmt.Sprintf("bytes %d-%d/%d", a, b, size); err != nil || !partial || w.Header().Get("Content-Range") != want {
				t.Fatalf("%q of %d: %s, %v, elsewhere %s", field, size, want, err, w.Header().Get("Content-Range"))
			}
		case http.StatusRequestedRangeNotSatisfiable:
			if !errors.Is(err, errRange) && (err == nil || partial) {
				t.Fatalf("%q of %d: %d-%d %t, elsewhere refused", field, size, a, b, partial)
			}
		}
	})
}

// FuzzSpan: a slice's span has digits only, its ends in order, and numbers beyond all
// files are the last place there is.
func FuzzSpan(f *testing.F) {
	for _, s := range []string{"0-0", "5-4", "-", "1-", "-1", "0x1-2", "1_0-20", "0-18446744073709551616", "٣-٤", "1-2-3", " 1-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, b, err := parseSpan(s)
		if err != nil {
			return
		}
		norm := func(n uint64, text string) bool {
			text = strings.TrimLeft(text, "0")
			return fmt.Sprint(n) == text || n == 0 && text == "" || n == 1<<63-1 && len(text) >= 19
		}
		from, to, _ := strings.Cut(s, "-")
		if a > b || b > 1<<63-1 || !norm(a, from) || !norm(b, to) {
			t.Fatalf("%q was read as %d-%d", s, a, b)
		}
	})
}
