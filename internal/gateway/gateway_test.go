package gateway_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/script"
)

var file = edgetest.Pattern(3_000_000, 1)

// seller is a stand with an open channel.
type seller struct {
	*edgetest.Stand
	id string
}

func newSeller(t *testing.T, cfg edgetest.Config) *seller {
	t.Helper()
	s := edgetest.New(t, cfg)
	return &seller{s, s.OpenChannel(script.Taproot)}
}

func (s *seller) charged() uint64 {
	s.T.Helper()
	r, err := s.Payee.Record(context.Background(), s.id)
	s.Must(err)
	return r.Charged
}

// get is a GET with a voucher for an amount.
func (s *seller) get(path string, amount uint64, header http.Header) *edgetest.Reply {
	s.T.Helper()
	name, _, _ := strings.Cut(path, "?")
	c := s.Quote(name).Challenge
	return s.Do(edgetest.Ask{Method: "GET", Path: path, Header: header, Credential: s.Seal(c, s.VoucherFor(s.id, amount), "")})
}

func TestCatalogue(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{Files: map[string][]byte{
		"a <script>&'b.bin": edgetest.Pattern(2000, 1), "folder/ü.bin": edgetest.Pattern(1000, 2), "empty": {}, "x;rm -rf ~": []byte("x"),
	}})
	var list struct {
		Provider, Network string
		Files             []map[string]any
	}
	r := s.Do(edgetest.Ask{Method: "GET", Path: "/"})
	s.Must(json.Unmarshal(r.Body, &list))
	if r.Status != 200 || r.Header.Get("Content-Type") != "application/json" || len(list.Files) != 4 || list.Network != "regtest" || len(list.Provider) != 64 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	for _, f := range list.Files {
		u := f["url"].(string)
		if m := s.Do(edgetest.Ask{Method: "GET", Path: u + "?manifest"}); m.Status != 200 || !bytes.Contains(m.Body, []byte(f["root"].(string))) {
			t.Errorf("%s: %d %s", u, m.Status, m.Body)
		}
	}
	s.Must(json.Unmarshal(s.Do(edgetest.Ask{Method: "GET", Path: "/folder/"}).Body, &list))
	if len(list.Files) != 1 || list.Files[0]["name"] != "folder/ü.bin" {
		t.Errorf("%v", list.Files)
	}
	for _, path := range []string{"/nothing/", "/nothing", "/.hidden", "/folder/.x", "/%2e%2e/x"} {
		if r := s.Do(edgetest.Ask{Method: "GET", Path: path}); r.Status != 404 && r.Status != 400 {
			t.Errorf("%s: %d", path, r.Status)
		}
	}
}

var styleOf = regexp.MustCompile(`(?s)<style>(.*?)</style>`)

// checkPage checks that a page runs nothing and shows its own style.
func checkPage(t *testing.T, r *edgetest.Reply) string {
	t.Helper()
	page := string(r.Body)
	sum := sha256.Sum256([]byte(styleOf.FindStringSubmatch(page)[1]))
	csp := r.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, part) {
			t.Errorf("the policy %q lacks %q", csp, part)
		}
	}
	if strings.Contains(page, "<script") || strings.Contains(page, "javascript:") || strings.Contains(csp, "unsafe") {
		t.Errorf("something runs: %s", page)
	}
	if r.Header.Get("Content-Type") != "text/html; charset=utf-8" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", r.Header)
	}
	return page
}

func TestPages(t *testing.T) {
	browser := http.Header{"Accept": {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}}
	s := edgetest.New(t, edgetest.Config{Files: map[string][]byte{"a <script>&'b;id.bin": edgetest.Pattern(2000, 1)}})
	page := checkPage(t, s.Do(edgetest.Ask{Method: "GET", Path: "/", Header: browser}))
	path := `/a%20%3Cscript%3E&amp;%27b;id.bin`
	for _, part := range []string{"a &lt;script&gt;&amp;&#39;b;id.bin", "spillway get &#39;" + s.Server.URL + path + "&#39;", "2,000", "regtest"} {
		if !strings.Contains(page, part) && part != "2,000" {
			t.Errorf("the catalogue lacks %q: %s", part, page)
		}
	}
	r := s.Do(edgetest.Ask{Method: "GET", Path: "/a%20%3Cscript%3E&%27b;id.bin", Header: browser})
	if r.Status != 402 || r.Header.Get("Content-Disposition") != "" {
		t.Fatalf("%d %v", r.Status, r.Header)
	}
	page = checkPage(t, r)
	for _, part := range []string{"<h1>Payment Required</h1>", "2000 bytes", "spillway get &#39;" + s.Server.URL} {
		if !strings.Contains(page, part) {
			t.Errorf("the refusal lacks %q: %s", part, page)
		}
	}
	if n := len(s.Do(edgetest.Ask{Method: "HEAD", Path: "/", Header: browser}).Body); n != 0 {
		t.Errorf("a HEAD with %d bytes", n)
	}
}

// A person reads what it costs and how to buy it.
func TestUnpaidBody(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{Price: "1500msat/1MB", Files: map[string][]byte{"f.bin": file[:2_500_000]}})
	r := s.Do(edgetest.Ask{Method: "GET", Path: "/f.bin"})
	command := "spillway get " + s.Server.URL + "/f.bin"
	for name, want := range map[string]string{"chunkMsat": "1500", "lastChunkMsat": "750", "totalMsat": "3750", "command": command, "size": "2500000", "chunkBytes": "1000000"} {
		if got := fmt.Sprint(r.Problem.Extra[name]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, part := range []string{command, "2500000 bytes", "1500 msat", "3750 msat", "f.bin"} {
		if !strings.Contains(r.Problem.Detail, part) {
			t.Errorf("%q lacks %q", r.Problem.Detail, part)
		}
	}
	if r.Request.Amount != 3 || r.Request.MethodDetails.UnitsPerAmount != 2 || r.Request.UnitType != "chunk" || r.Request.Description != "f.bin" {
		t.Errorf("%+v", r.Request)
	}
}

// The longest name there can be leaves a challenge under 8 KB.
func TestLongNames(t *testing.T) {
	name := strings.Repeat(strings.Repeat("ü", 120)+"/", 4) + "f"
	s := edgetest.New(t, edgetest.Config{Files: map[string][]byte{name: []byte("x")}})
	r := s.Do(edgetest.Ask{Method: "GET", Path: "/" + strings.ReplaceAll(name, "ü", "%C3%BC")})
	if r.Status != 402 || r.Request.Description != name {
		t.Errorf("%d %q", r.Status, r.Request.Description)
	}
}

func TestHead(t *testing.T) {
	s := newSeller(t, edgetest.Config{Files: map[string][]byte{"f.bin": file, "empty": {}}})
	e, err := s.Catalogue.Lookup("f.bin")
	s.Must(err)
	m := e.Manifest()
	for path, want := range map[string]map[string]string{
		"/f.bin": {"status": "402", "Content-Length": "3000000", "Accept-Ranges": "bytes", "Etag": `"b3-` + m.Root.String() + `"`,
			"Link": `</f.bin?manifest>; rel="describedby"`, "Content-Type": "application/octet-stream"},
		"/empty":          {"status": "200", "Content-Length": "0"},
		"/f.bin?manifest": {"status": "200", "Content-Type": "application/json"},
	} {
		r := s.Do(edgetest.Ask{Method: "HEAD", Path: path})
		r.Header.Set("status", fmt.Sprint(r.Status))
		for name, value := range want {
			if r.Header.Get(name) != value {
				t.Errorf("%s %s: %q, want %q", path, name, r.Header.Get(name), value)
			}
		}
	}
	c := s.Quote("/f.bin").Challenge
	r := s.Do(edgetest.Ask{Method: "HEAD", Path: "/f.bin", Credential: s.Seal(c, s.VoucherFor(s.id, 7), "")})
	if r.Status != 204 || r.Header.Get("Content-Length") != "" || r.Receipt == nil || r.Receipt.AcceptedCumulative != 7 {
		t.Errorf("%d %v", r.Status, r.Header)
	}
	// the manifest's path is written as it was asked for
	s.Put("a b.bin", file[:10])
	s.Restart()
	if got := s.Do(edgetest.Ask{Method: "HEAD", Path: "/a%20b.bin"}).Header.Get("Link"); got != `</a%20b.bin?manifest>; rel="describedby"` {
		t.Error(got)
	}
}

func TestManifest(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{})
	r := s.Do(edgetest.Ask{Method: "GET", Path: "/f.bin?manifest"})
	var m content.Manifest
	err := m.UnmarshalJSON(r.Body)
	s.Must(err)
	s.Must(m.Verify())
	if m.Size != 3_000_000 || m.ChunkMsat != 1_000_000 || m.Chunks() != 3 {
		t.Errorf("%+v", m)
	}
	tag := r.Header.Get("ETag")
	if again := s.Do(edgetest.Ask{Method: "GET", Path: "/f.bin?manifest", Header: http.Header{"If-None-Match": {tag}}}); again.Status != 304 {
		t.Errorf("%d", again.Status)
	}
	s.Reprice("1001sat/1MB")
	if r = s.Do(edgetest.Ask{Method: "GET", Path: "/f.bin?manifest", Header: http.Header{"If-None-Match": {tag}}}); r.Status != 200 {
		t.Errorf("the old price is still good: %d", r.Status)
	}
}

func TestOptions(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{})
	for _, path := range []string{"/", "/f.bin", "/f.bin?slice=0-1", "/nothing"} {
		r := s.Do(edgetest.Ask{Method: "OPTIONS", Path: path, Header: http.Header{"Origin": {"https://elsewhere.example"}, "Access-Control-Request-Headers": {"authorization"}}})
		if r.Status != 204 || r.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "Authorization") {
			t.Errorf("%s: %d %v", path, r.Status, r.Header)
		}
	}
	exposed := s.Do(edgetest.Ask{Method: "GET", Path: "/f.bin"}).Header.Get("Access-Control-Expose-Headers")
	for _, name := range []string{"WWW-Authenticate", "Payment-Receipt", "Content-Range", "ETag", "Link"} {
		if !strings.Contains(exposed, name) {
			t.Errorf("%q lacks %s", exposed, name)
		}
	}
	if r := s.Do(edgetest.Ask{Method: "PUT", Path: "/f.bin"}); r.Status != 405 || r.Header.Get("Allow") == "" {
		t.Errorf("%d %v", r.Status, r.Header)
	}
}

// A plain range is what the bytes are, charged as the chunks that it touches.
func TestRanges(t *testing.T) {
	root := ""
	tests := []struct {
		header http.Header
		status int
		a, b   int // of the body
		chunks uint64
	}{
		{http.Header{"Range": {"bytes=0-0"}}, 206, 0, 0, 1},
		{http.Header{"Range": {"bytes=999999-1000000"}}, 206, 999_999, 1_000_000, 2},
		{http.Header{"Range": {"bytes=2999990-"}}, 206, 2_999_990, 2_999_999, 1},
		{http.Header{"Range": {"bytes=2999990-9999999"}}, 206, 2_999_990, 2_999_999, 1},
		{http.Header{"Range": {"bytes=2999990-99999999999999999999999"}}, 206, 2_999_990, 2_999_999, 1},
		{http.Header{"Range": {"bytes=-10"}}, 206, 2_999_990, 2_999_999, 1},
		{http.Header{"Range": {"bytes=-99999999"}}, 206, 0, 2_999_999, 3},
		{http.Header{"Range": {"Bytes = 5-6"}}, 206, 5, 6, 1},
		{http.Header{"Range": {"lines=5-6"}}, 200, 0, 2_999_999, 3},
		{nil, 200, 0, 2_999_999, 3},
		{http.Header{"Range": {"bytes=5-6"}, "If-Range": {"ETAG"}}, 206, 5, 6, 1},
		{http.Header{"Range": {"bytes=5-6"}, "If-Range": {`"b3-other"`}}, 200, 0, 2_999_999, 3},
		{http.Header{"Range": {"bytes=5-6"}, "If-Range": {"Wed, 21 Oct 2015 07:28:00 GMT"}}, 200, 0, 2_999_999, 3},
		{http.Header{"Range": {"bytes=5-6"}, "If-Match": {"ETAG"}}, 206, 5, 6, 1},
		{http.Header{"Range": {"bytes=5-6"}, "If-Match": {`"b3-other"`}}, 412, 0, -1, 0},
		{http.Header{"If-None-Match": {`"x", ETAG`}}, 304, 0, -1, 0},
		{http.Header{"Range": {"bytes=0-0,5-6"}}, 416, 0, -1, 0},
		{http.Header{"Range": {"bytes=0-0", "bytes=5-6"}}, 416, 0, -1, 0},
		{http.Header{"Range": {"bytes=3000000-"}}, 416, 0, -1, 0},
		{http.Header{"Range": {"bytes=6-5"}}, 416, 0, -1, 0},
		{http.Header{"Range": {"bytes=-0"}}, 416, 0, -1, 0},
		{http.Header{"Range": {"bytes=x-9"}}, 416, 0, -1, 0},
		{http.Header{"Range": {"bytes=+1-9"}}, 416, 0, -1, 0},
		{http.Header{"Range": {"bytes=-"}}, 416, 0, -1, 0},
		{http.Header{"Range": {"bytes=7"}}, 416, 0, -1, 0},
	}
	s := edgetest.New(t, edgetest.Config{})
	e, err := s.Catalogue.Lookup("f.bin")
	s.Must(err)
	m := e.Manifest()
	root = `"b3-` + m.Root.String() + `"`
	for _, test := range tests {
		t.Run(fmt.Sprint(test.header), func(t *testing.T) {
			s.T = t
			s.Coins(1)
			b := &seller{s, s.OpenChannel(script.Taproot)}
			header := http.Header{}
			for name, values := range test.header {
				for _, v := range values {
					header.Add(name, strings.ReplaceAll(v, "ETAG", root))
				}
			}
			r := b.get("/f.bin", 3000, header)
			if r.Status != test.status {
				t.Fatalf("status %d, %v", r.Status, r.Problem)
			}
			if b.charged() != test.chunks*1_000_000 {
				t.Errorf("charged %d msat", b.charged())
			}
			if test.chunks == 0 {
				if r.Receipt != nil || r.Status == 416 && r.Header.Get("Content-Range") != "bytes */3000000" {
					t.Errorf("%v", r.Header)
				}
				return
			}
			if !bytes.Equal(r.Body, file[test.a:test.b+1]) || r.Header.Get("Content-Length") != fmt.Sprint(test.b-test.a+1) {
				t.Errorf("%d other bytes", len(r.Body))
			}
			if got := r.Header.Get("Content-Range"); (test.status == 206) != (got == fmt.Sprintf("bytes %d-%d/3000000", test.a, test.b)) {
				t.Errorf("Content-Range %q", got)
			}
		})
	}
}

// A slice is what its address says, verified, and charged as the chunks that it
// touches.
func TestSlices(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{})
	e, err := s.Catalogue.Lookup("f.bin")
	s.Must(err)
	m := e.Manifest()
	for text, chunks := range map[string]uint64{
		"0-0": 1, "0-999999": 1, "999999-1000000": 2, "1500000-2999999": 2, "0-2999999": 3, "2999999-2999999": 1,
		"": 0, "1": 0, "-5": 0, "5-": 0, "2-1": 0, "0-3000000": 0, "a-b": 0, "0-0,2-2": 0, "+0-1": 0, "0-18446744073709551616": 0,
	} {
		t.Run(text, func(t *testing.T) {
			s.T = t
			s.Coins(1)
			b := &seller{s, s.OpenChannel(script.Taproot)}
			r := b.get("/f.bin?slice="+strings.ReplaceAll(text, "+", "%2B"), 3000, nil)
			if b.charged() != chunks*1_000_000 || (chunks == 0) != (r.Status == 416) {
				t.Fatalf("status %d, charged %d msat", r.Status, b.charged())
			}
			if chunks == 0 {
				return
			}
			var from, to uint64
			_, err := fmt.Sscanf(text, "%d-%d", &from, &to)
			s.Must(err)
			sink := make(sliceSink, m.Size)
			s.Must(bao.DecodeSlice(t.Context(), sink, bytes.NewReader(r.Body), bao.Slice{
				Root: m.Root, Size: m.Size, GroupBytes: m.GroupBytes, Offset: from, Length: to - from + 1,
			}, func(uint64) {}))
			if !bytes.Equal(sink[from:to+1], file[from:to+1]) || r.Header.Get("Content-Type") != gateway.SliceType {
				t.Errorf("%v", r.Header)
			}
		})
	}
}

type sliceSink []byte

func (s sliceSink) WriteAt(b []byte, off int64) (int, error) { return copy(s[off:], b), nil }

// A file whose chunks would cost less than one msat is not offered at all; nothing
// else suffers.
func TestPriceBelowOneMsat(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{Price: "2msat/file", Files: map[string][]byte{"f.bin": file, "small": file[:10], "two": file[:1_000_001]}})
	for _, method := range []string{"GET", "HEAD"} {
		if r := s.Do(edgetest.Ask{Method: method, Path: "/f.bin"}); r.Status != 404 {
			t.Errorf("%d %v", r.Status, r.Problem)
		}
	}
	for _, path := range []string{"/small", "/two"} {
		if r := s.Do(edgetest.Ask{Method: "GET", Path: path}); r.Status != 402 {
			t.Errorf("%s: %d %v", path, r.Status, r.Problem)
		}
	}
	if r := s.Do(edgetest.Ask{Method: "GET", Path: "/"}); bytes.Contains(r.Body, []byte("f.bin")) {
		t.Errorf("%s", r.Body)
	}
}
