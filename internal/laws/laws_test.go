package laws

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/spillway/spillway/"

// source is one parsed file that is not a test.
type source struct {
	path string // relative to the module's root
	pkg  string // folder relative to the root
	file *ast.File
	fset *token.FileSet
}

// load parses every file of the module that is not a test.
func load(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{rel, filepath.ToSlash(filepath.Dir(rel)), file, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files were found: the laws would be checked over nothing", len(all))
	}
	return all
}

func (s source) imports() (paths []string) {
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// under reports whether a package is one of these or lies below one.
func under(pkg string, of ...string) bool {
	for _, o := range of {
		if pkg == o || strings.HasPrefix(pkg, o+"/") {
			return true
		}
	}
	return false
}

// calls walks a file for calls of pkg.name.
func (s source) calls(pkg, name string) (at []string) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != name {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == pkg {
			at = append(at, s.fset.Position(sel.Pos()).String())
		}
		return true
	})
	return at
}

func TestLawPureCore(t *testing.T) {
	const reason = "the rules must run the same in a simulator, a test and production: time, tip, randomness and keys are arguments"
	forbidden := []string{"net", "net/http", "os", "database/sql", "log/slog", "crypto/rand", "math/rand", "math/rand/v2"}
	for _, s := range load(t) {
		if !under(s.pkg, "script", "channel", "mpp") {
			continue
		}
		for _, p := range s.imports() {
			for _, f := range forbidden {
				if p == f {
					t.Errorf("%s imports %q: %s", s.path, p, reason)
				}
			}
		}
		for _, at := range s.calls("time", "Now") {
			t.Errorf("%s calls time.Now: %s", at, reason)
		}
	}
}

func TestLawDriversHaveNoClockNoGoroutine(t *testing.T) {
	const reason = "the simulator runs the drivers that ship, step by step: clock, randomness and committer are passed in"
	for _, s := range load(t) {
		if !under(s.pkg, "payer", "payee", "watch") {
			continue
		}
		for _, p := range s.imports() {
			if p == "crypto/rand" || p == "math/rand" || p == "math/rand/v2" || p == "net/http" {
				t.Errorf("%s imports %q: %s", s.path, p, reason)
			}
		}
		for _, name := range []string{"Now", "Sleep", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc", "Since", "Until"} {
			for _, at := range s.calls("time", name) {
				t.Errorf("%s calls time.%s: %s", at, name, reason)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s starts a goroutine: %s", s.fset.Position(g.Pos()), reason)
			}
			return true
		})
	}
}

func TestLawWhoImportsWhom(t *testing.T) {
	type law struct {
		pkg       string   // this package and those below it
		forbidden []string // may not import these or what is below them
		reason    string
	}
	backends := []string{"chain/devnet", "chain/esplora", "chain/bitcoind", "chain/btcd", "chain/neutrino"}
	laws := []law{
		{"content", []string{"script", "channel", "chain", "wallet", "payer", "payee", "paywall", "mpp", "keys", "store"}, "content knows nothing of bitcoin"},
		{"channel", []string{"mpp", "paywall", "store", "chain", "keys", "payer", "payee", "watch"}, "the rules know nothing of the wire, the store or the chain"},
		{"script", []string{"channel", "mpp", "chain", "keys", "store", "payer", "payee", "paywall", "wallet"}, "scripts stand on bitcoin alone"},
		{"mpp", []string{"channel", "script", "chain", "store", "payer", "payee", "paywall"}, "the wire is for any implementation"},
		{"store", []string{"channel", "script", "chain", "payer", "payee", "paywall", "wallet"}, "a store keeps bytes"},
		{"payer", []string{"paywall", "payee", "download", "internal/gateway", "content", "cmd"}, "a driver does not know its edge"},
		{"payee", []string{"paywall", "payer", "download", "internal/gateway", "content", "cmd"}, "a driver does not know its edge"},
		{"watch", []string{"paywall", "payee", "payer", "download", "internal/gateway", "cmd"}, "the watch asks drivers through an interface"},
		{"watch/tower", []string{"keys", "wallet"}, "a tower has no key and no coin"},
	}
	for _, b := range backends {
		var others []string
		for _, o := range backends {
			if o != b {
				others = append(others, o)
			}
		}
		laws = append(laws, law{b, others, "backends never import each other"})
	}
	for _, s := range load(t) {
		for _, p := range s.imports() {
			rel, own := strings.CutPrefix(p, module)
			if !own {
				if bare := strings.TrimPrefix(p, "golang.org/x/"); s.pkg == "mpp" && strings.Contains(bare, ".") {
					t.Errorf("%s imports %q: mpp stands on the standard library alone", s.path, p)
				}
				continue
			}
			if under(rel, "cmd") {
				t.Errorf("%s imports %q: only the command sees everything, nothing sees the command", s.path, p)
			}
			for _, l := range laws {
				if under(s.pkg, l.pkg) && under(rel, l.forbidden...) {
					t.Errorf("%s imports %q: %s", s.path, p, l.reason)
				}
			}
		}
	}
}

func TestLawNoStubs(t *testing.T) {
	const reason = "a stub is not done"
	marks := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "not " + "implemented"}
	for _, s := range load(t) {
		for _, group := range s.file.Comments {
			for _, m := range marks {
				if strings.Contains(group.Text(), m) {
					t.Errorf("%s says %q: %s", s.fset.Position(group.Pos()), m, reason)
				}
			}
		}
	}
}

func TestLawTestsNeitherSleepNorSkip(t *testing.T) {
	root := filepath.Join("..", "..")
	checked := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		checked++
		s := source{path: path, file: file, fset: fset}
		for _, at := range s.calls("time", "Sleep") {
			t.Errorf("%s sleeps: wait on a condition instead", at)
		}
		for _, who := range []string{"t", "b", "tb"} {
			for _, name := range []string{"Skip", "Skipf", "SkipNow"} {
				for _, at := range s.calls(who, name) {
					t.Errorf("%s skips: a missing component is installed or the test fails", at)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 10 {
		t.Fatalf("only %d test files were found", checked)
	}
}

// What the curve is made to remember is the simulator's: no program calls curve.Know.
func TestLawOnlyTheSimulatorRemembers(t *testing.T) {
	seen := 0
	for _, s := range load(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok || call.Sel.Name != "Know" {
				return true
			}
			if from, ok := call.X.(*ast.Ident); ok && from.Name == "curve" {
				if seen++; !under(s.pkg, "internal/sim") {
					t.Errorf("%s makes the curve remember a key", s.path)
				}
			}
			return true
		})
	}
	if seen == 0 {
		t.Error("the simulator does not use it either: the law is checked over nothing")
	}
}
