package nodeurl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var errTest = errors.New("bad configuration")

var reader = Reader{Scheme: "node", Form: "node://HOST", Err: errTest}

// TestParse: what names a node, and what does not.
func TestParse(t *testing.T) {
	for text, want := range map[string]Node{
		"node://h":               {Host: "h", Port: "7"},
		"node://h:9/":            {Host: "h", Port: "9"},
		"node://u:p%40w@[::1]:9": {Host: "::1", Port: "9", User: "u", Password: "p@w"},
		"node://u@10.0.0.1?a=b":  {Host: "10.0.0.1", Port: "7", User: "u"},
	} {
		got, err := reader.Parse(text, "7")
		if err != nil || got.Host != want.Host || got.Port != want.Port || got.User != want.User || got.Password != want.Password {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "node:", "node://", "other://h", "node://h/x", "node://h#x", "node://h:0", "node://h:99999", "node://h:x", "node://u:secret@h?%zz", "node://u:secret@h\x00"} {
		if _, err := reader.Parse(text, "7"); !errors.Is(err, errTest) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := reader.Parse("node://h", ""); !errors.Is(err, errTest) {
		t.Errorf("no port: %v", err)
	}
}

// TestTake: each option once, with a value, and known.
func TestTake(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type config struct {
		n        uint32
		yes      bool
		word, pw string
	}
	take := func(user, query string) (c config, err error) {
		q, err := reader.Query(query)
		if err != nil {
			return c, err
		}
		return c, reader.Take(q, map[string]Option{"n": reader.Number("n", 3, &c.n), "yes": reader.Only("yes", "1", &c.yes), "word": Text(&c.word), "password-file": reader.PasswordFile(user, &c.pw)})
	}
	good := file("good", "pass word\r\n")
	if c, err := take("u", "n=3&yes=1&word=a%20b&password-file="+good); err != nil || c != (config{3, true, "a b", "pass word"}) {
		t.Errorf("%+v, %v", c, err)
	}
	for _, query := range []string{"n=2", "n=x", "n=-1", "n=2147483648", "n=", "n=3&n=4", "yes=0", "yes=", "none=1", "password-file=" + file("empty", "\n"), "password-file=" + dir, "password-file=" + good + "x", "%zz"} {
		if _, err := take("u", query); !errors.Is(err, errTest) {
			t.Errorf("%s: %v", query, err)
		}
	}
	if _, err := take("", "password-file="+good); !errors.Is(err, errTest) {
		t.Errorf("a password of nobody: %v", err)
	}
}

// TestRedact: credentials are in no message, and a host is this machine or not.
func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"node://u:secret@h:1/x?p=secret": "node://h:1", "node://u:secret@h\x7f": "node://…", "x": "node://…", "": "node://…",
	} {
		if got := Redact("node", text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := Redact("", "ftp:secret@x"); got != "ftp://…" {
		t.Error(got)
	}
	for host, want := range map[string]bool{"localhost": true, "127.3.2.1": true, "::1": true, "10.0.0.1": false, "h": false, "": false} {
		if Loopback(host) != want {
			t.Errorf("%q", host)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("node://u:p@h:7?n=3&password-file=x")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := reader.Parse(text, "7")
		if err != nil && !errors.Is(err, errTest) {
			t.Fatal(err)
		}
		if err == nil && (n.Host == "" || n.Port == "") {
			t.Fatalf("%q: %+v", text, n)
		}
	})
}
