package reverse

import (
	"bufio"
	"net/http"
	"path"
	"strings"
	"testing"
)

// FuzzPath: whatever a request line says, what is priced is what the upstream is asked
// for: no segment is resolved, and nothing decoded, after the price was looked up.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"/", "/free/../paid", "/a/./b", "/%2e%2e/x", "/a%2fb", "/a%5cb", `/a\b`, "/..;/x", "//a//b", "/a/..", "/a/.", "http://h/a/../b", "/%00", "/a?b=../c", "*", "/%", "/é", "/a;b=../c", "/.%2e/x", "/a/%2E",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if strings.ContainsAny(target, "\r\n ") {
			return // not a request line
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n")))
		if err != nil {
			return
		}
		if status, _ := refuse(r); status != 0 {
			return
		}
		in := clean(r)
		again, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + in.URL.RequestURI() + " HTTP/1.1\r\nHost: h\r\n\r\n")))
		if err != nil {
			t.Fatalf("%q becomes %q: %v", target, in.URL.RequestURI(), err)
		}
		if again.URL.Path != in.URL.Path {
			t.Fatalf("%q: priced as %q, read as %q", target, in.URL.Path, again.URL.Path)
		}
		if dots(in.URL.Path) || !strings.HasPrefix(in.URL.Path, "/") || in.URL.Host != "" {
			t.Fatalf("%q goes on as %q", target, in.URL.String())
		}
		once := path.Clean(in.URL.Path)
		if strings.ReplaceAll(strings.TrimSuffix(in.URL.Path, "/"), "//", "/") != once && !strings.Contains(in.URL.Path, "//") && once != "/" {
			t.Fatalf("%q: a rule sees %q, the upstream %q", target, once, in.URL.Path)
		}
	})
}
