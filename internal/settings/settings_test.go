package settings_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/settings"
)

const text = `network = "signet"
chain = ["a", "b"]

[serve]
price = "1sat/MiB"   # dear
limits = { each = 3,
  all = 9 }

[[proxy.rule]]
path = "/a"
headers = { "X-A.b" = "1" }

[[proxy.rule]]
  path = "/b"
  [[proxy.rule.tier]]
  from = 1
  [[proxy.rule.tier]]
  from = 2

[[proxy.rule]]
[[proxy.rule.tier]]
from = 3

[empty]
`

// TestPlaces: each key is found on its line.
func TestPlaces(t *testing.T) {
	f, err := settings.Parse("f.toml", []byte(strings.Replace(text, "3,\n ", "3,", 1)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range f.Entries() {
		got = append(got, fmt.Sprintf("%d %s=%v", e.Line, e.Path, e.Value))
	}
	want := []string{"1 network=signet", "2 chain=[a b]", "5 serve.price=1sat/MiB", "6 serve.limits.all=9", "6 serve.limits.each=3", `9 proxy.rule[0].path=/a`,
		`10 proxy.rule[0].headers."X-A.b"=1`, "13 proxy.rule[1].path=/b", "15 proxy.rule[1].tier[0].from=1", "17 proxy.rule[1].tier[1].from=2", "21 proxy.rule[2].tier[0].from=3", "23 empty=<nil>"}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if at := f.At("proxy.rule[1].tier[1].from"); at != "f.toml:17" {
		t.Error(at)
	}
	if v, ok := f.Get("serve.price"); !ok || v != "1sat/MiB" {
		t.Error(v, ok)
	}
}

type tier struct {
	From int `toml:"from"`
}

type rule struct {
	Path    string            `toml:"path"`
	Headers map[string]string `toml:"headers"`
	Tiers   []tier            `toml:"tier"`
	After   time.Duration     // not of the file
}

type proxy struct {
	Rules []rule `toml:"rule"`
}

// TestCheck: what nobody knows is named with its line and with what it resembles.
func TestCheck(t *testing.T) {
	known := append([]string{"network", "chain", "serve.price", "serve.credit", "channels.close.max-prepay", "get.budget"}, settings.Keys("proxy", proxy{})...)
	for _, c := range []struct{ text, want string }{
		{"network = 1\n[serve]\n[[proxy.rule]]\npath='x'\nheaders = {a = 'b'}\n[[proxy.rule.tier]]\nfrom=1", ""},
		{"netwrok = 1", "f:1: unknown key netwrok; did you mean network?"},
		{"\n[serve]\npirce = 1", "f:3: unknown key serve.pirce; did you mean serve.price?"},
		{"[channels.close]\nmax_prepay = 1", "f:2: unknown key channels.close.max_prepay; did you mean channels.close.max-prepay?"},
		{"price = 1", "f:1: unknown key price; did you mean serve.price?"},
		{"[get]\nprice = 1", "f:2: unknown key get.price; did you mean serve.price?"},
		{"[serv]", "f:1: unknown section [serv]; did you mean serve?"},
		{"[proxy]\n[[proxy.rules]]\npath = 'x'", "f:3: unknown key proxy.rules[0].path; did you mean proxy.rule[].path?"},
		{"[[proxy.rule]]\nPath = 'x'", "f:2: unknown key proxy.rule[0].Path; did you mean proxy.rule[].path?"},
		{"[[proxy.rule]]\nAfter = 'x'", "f:2: unknown key proxy.rule[0].After"},
		{"\"serve.price\" = 1", "f:1: unknown key \"serve.price\"; did you mean serve.price?"},
		{"nothing-like-it = 1", "f:1: unknown key nothing-like-it"},
	} {
		f, err := settings.Parse("f", []byte(c.text))
		if err != nil {
			t.Fatalf("%s: %v", c.text, err)
		}
		err = f.Check(known)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, settings.ErrUnknown) || err.Error() != c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
}

// TestDecode: a section becomes a struct, and what does not fit is named with its line.
func TestDecode(t *testing.T) {
	f, err := settings.Parse("f.toml", []byte(strings.Replace(text, "3,\n ", "3,", 1)))
	if err != nil {
		t.Fatal(err)
	}
	var p proxy
	if found, err := f.Decode("proxy", &p); err != nil || !found || len(p.Rules) != 3 || p.Rules[0].Headers["X-A.b"] != "1" || p.Rules[1].Tiers[1].From != 2 {
		t.Errorf("%v %v %+v", found, err, p)
	}
	var all []rule
	g, err := settings.Parse("g", []byte("[[hook]]\npath='a'\n[[hook]]\npath='b'\n"))
	if err != nil {
		t.Fatal(err)
	}
	if found, err := g.Decode("hook", &all); err != nil || !found || len(all) != 2 || all[1].Path != "b" {
		t.Errorf("%v %v %+v", found, err, all)
	}
	if found, err := g.Decode("other", &p); found || err != nil {
		t.Error(found, err)
	}
	g, err = settings.Parse("g", []byte("[[hook]]\n\npath=7\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = g.Decode("hook", &all); !errors.Is(err, settings.ErrValue) || !strings.HasPrefix(err.Error(), "g:3: ") {
		t.Error(err)
	}
	var none *settings.File
	if found, err := none.Decode("hook", &all); found || err != nil || none.Check(nil) != nil || none.At("x") != "" {
		t.Error(found, err)
	}
	if err := g.Wrong("hook[0].path", "no %s", "path"); err.Error() != "g:3: hook[0].path: no path" {
		t.Error(err)
	}
}

// TestSyntax: what is no TOML is refused with its line.
func TestSyntax(t *testing.T) {
	for text, line := range map[string]string{"x": "f:1: ", "a = 1\na = 2": "f", "\n\n[a": "f:3: ", "a = \"\n\"": "f:1: ", "a = \xff": "f:1: ", "[a]\nb=1\n[a]\nc=1": "f"} {
		if _, err := settings.Parse("f", []byte(text)); !errors.Is(err, settings.ErrSyntax) || !strings.HasPrefix(err.Error(), line) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := settings.Parse("f", make([]byte, settings.MaxBytes+1)); !errors.Is(err, settings.ErrSyntax) {
		t.Error(err)
	}
}

// FuzzParse: no file makes it panic, and every key has a line.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{text, "a=1", "[[a]]\n[[a.b]]\n[a.b.c]\nd=[{e=1},{e=2}]", "a.b.c=1\n[a.d]\n", "a={b={c=[]}}", "\"\"=1", "a=[[1],[{}]]", "[a]\n[[a.b]]\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := settings.Parse("f", raw)
		if err != nil {
			if !errors.Is(err, settings.ErrSyntax) {
				t.Fatal(err)
			}
			return
		}
		for _, e := range file.Entries() {
			if e.Line < 1 || e.Path == "" {
				t.Errorf("%q: %+v", raw, e)
			}
		}
		if err := file.Check(nil); err != nil && !errors.Is(err, settings.ErrUnknown) {
			t.Error(err)
		}
		var p proxy
		if _, err := file.Decode("proxy", &p); err != nil && !errors.Is(err, settings.ErrValue) {
			t.Error(err)
		}
	})
}
