package laws

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The ways in which channels go wrong are numbered. Each has a test that names its
// number, or a line in docs/protocol.md that says why the case cannot arise here. Those of
// the chain, the network and the machine (37 to 45) can arise everywhere: they have tests.
const lastPitfall = 75

func mustBeTested(n int) bool { return n >= 37 && n <= 45 }

var (
	pitfallTest = regexp.MustCompile(`^Test(?:[A-Za-z0-9]*)Pitfall([0-9]{2}(?:_[0-9]{2})*)_[A-Z]`)
	pitfallLine = regexp.MustCompile(`(?m)^- Pitfall ([0-9]+): \S.{40,}$`)
)

// pitfallTests are the names of the tests of each number, all over the module; a test
// with an empty body is none.
func pitfallTests(t *testing.T) map[int][]string {
	t.Helper()
	found := map[int][]string{}
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || f.Body == nil || len(f.Body.List) == 0 {
				continue
			}
			m := pitfallTest.FindStringSubmatch(f.Name.Name)
			if m == nil {
				continue
			}
			for number := range strings.SplitSeq(m[1], "_") {
				n, err := strconv.Atoi(number)
				if err != nil {
					return err
				}
				found[n] = append(found[n], filepath.ToSlash(filepath.Dir(path))+"."+f.Name.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// pitfallLines are the numbers that docs/protocol.md says cannot arise.
func pitfallLines(t *testing.T) map[int]bool {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[int]bool{}
	for _, m := range pitfallLine.FindAllStringSubmatch(string(raw), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		lines[n] = true
	}
	return lines
}

// Each pitfall has its test or its line.
func TestPitfallsAreCovered(t *testing.T) {
	tests, lines := pitfallTests(t), pitfallLines(t)
	for n := 1; n <= lastPitfall; n++ {
		switch {
		case mustBeTested(n) && len(tests[n]) == 0:
			t.Errorf("pitfall %d has no test of its name (TestPitfall%02d_…)", n, n)
		case len(tests[n]) > 0:
			t.Logf("%d: %s", n, strings.Join(tests[n], ", "))
		case lines[n]:
			t.Logf("%d: docs/protocol.md", n)
		default:
			t.Errorf("pitfall %d has no test of its name (TestPitfall%02d_…) and no line in docs/protocol.md", n, n)
		}
	}
	for n := range tests {
		if n < 1 || n > lastPitfall {
			t.Errorf("%v: there is no pitfall %d", tests[n], n)
		}
	}
	for n := range lines {
		if len(tests[n]) > 0 {
			t.Errorf("docs/protocol.md says that pitfall %d cannot arise, and %v test it", n, tests[n])
		}
	}
}

// The law itself notices what is missing: names that are almost right do not count.
func TestPitfallNames(t *testing.T) {
	for name, want := range map[string]string{
		"TestPitfall08_SavedFirst": "08", "TestPitfall07_65_NoMoney": "07_65", "TestDuplexPitfall55_Idle": "55",
		"TestPitfall8_SavedFirst": "", "TestPitfall08": "", "TestPitfall08_": "", "Pitfall08_SavedFirst": "", "TestPitfall108_Many": "",
	} {
		got := ""
		if m := pitfallTest.FindStringSubmatch(name); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
