package laws

import (
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// public are the packages that another module may build on: those of the design, and the
// suites that an own store or backend is held against.
var public = []string{
	"script", "channel", "mpp", "mpp/bitcoin", "content", "content/bao", "keys",
	"chain", "chain/devnet", "chain/esplora", "chain/bitcoind", "chain/btcd", "chain/neutrino", "chain/several", "chain/chaintest",
	"wallet", "wallet/psbt", "wallet/node", "store", "store/memory", "store/sqlite", "store/storetest", "payer", "payee", "watch", "watch/tower",
	"paywall", "download", "download/downloadtest",
}

// notLibraries are folders of commands.
var notLibraries = []string{"cmd", "tools", "internal", "examples"}

func TestLawWhatIsPublic(t *testing.T) {
	const reason = "what is public stays for good: the design names the packages, all else belongs under internal/"
	found := map[string]bool{}
	for _, s := range load(t) {
		if !under(s.pkg, notLibraries...) && !strings.Contains("/"+s.pkg+"/", "/internal/") {
			found[s.pkg] = true
		}
	}
	for pkg := range found {
		if !slices.Contains(public, pkg) {
			t.Errorf("package %s is public: %s", pkg, reason)
		}
	}
	for _, pkg := range public {
		if !found[pkg] {
			t.Errorf("package %s is listed and is not there", pkg)
		}
	}
}

// amounts are fields and functions that carry an amount: their text has to name its unit.
var (
	amount = regexp.MustCompile(`(?i)(msat|sat|bytes?|blocks?|height|vb|sat/vb|BTC|seconds?|units?)\b`)
)

func TestLawEveryExportedNameIsDocumented(t *testing.T) {
	const reason = "whoever builds on it reads the docstring, not the code"
	seen := 0
	for _, s := range load(t) {
		if !slices.Contains(public, s.pkg) {
			continue
		}
		for _, d := range s.file.Decls {
			for name, doc := range exported(d) {
				seen++
				if strings.TrimSpace(doc) == "" {
					t.Errorf("%s: %s has no docstring: %s", s.fset.Position(d.Pos()), name, reason)
				}
			}
		}
	}
	if seen < 500 {
		t.Fatalf("only %d names were found: the law would be checked over nothing", seen)
	}
}

// exported are the exported names of a declaration with their texts. A name in a group
// may share the group's text or have a remark beside it; a method that implements an
// interface of the standard library explains itself.
func exported(d ast.Decl) map[string]string {
	names := map[string]string{}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || exportedReceiver(d.Recv)) && !known[d.Name.Name] {
			names[d.Name.Name] = d.Doc.Text()
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch sp := spec.(type) {
			case *ast.TypeSpec:
				if sp.Name.IsExported() {
					names[sp.Name.Name] = sp.Doc.Text() + d.Doc.Text()
				}
			case *ast.ValueSpec:
				for _, n := range sp.Names {
					if n.IsExported() {
						names[n.Name] = sp.Doc.Text() + sp.Comment.Text() + groupText(d)
					}
				}
			}
		}
	}
	return names
}

func groupText(d *ast.GenDecl) string {
	if d.Tok == token.CONST || d.Tok == token.VAR {
		return d.Doc.Text()
	}
	return ""
}

// known are methods whose meaning is the standard library's.
var known = map[string]bool{"Error": true, "String": true, "Unwrap": true, "Is": true, "As": true}

func exportedReceiver(r *ast.FieldList) bool {
	at := r.List[0].Type
	if star, ok := at.(*ast.StarExpr); ok {
		at = star.X
	}
	if generic, ok := at.(*ast.IndexExpr); ok {
		at = generic.X
	}
	id, ok := at.(*ast.Ident)
	return ok && id.IsExported()
}

// amountField matches names of struct fields that are amounts by their type and name.
var amountField = regexp.MustCompile(`(Msat|Sat|Amount|Capacity|Deposit|Budget|Prepay|Charge|Charged|Owed|Paid|Credit|Fee|Bytes|Size|Height|Expiry|Margin)$`)

func TestLawAmountsNameTheirUnit(t *testing.T) {
	const reason = "an amount without a unit is read as another one"
	for _, s := range load(t) {
		if !slices.Contains(public, s.pkg) || strings.HasSuffix(s.pkg, "test") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, f := range st.Fields.List {
				id, isIdent := f.Type.(*ast.Ident)
				if !isIdent || !slices.Contains([]string{"uint64", "int64", "uint32", "int", "uint"}, id.Name) {
					continue
				}
				for _, name := range f.Names {
					text := f.Doc.Text() + f.Comment.Text() + name.Name
					if name.IsExported() && amountField.MatchString(name.Name) && !amount.MatchString(text) {
						t.Errorf("%s: %s.%s names no unit: %s", s.fset.Position(f.Pos()), spec.Name.Name, name.Name, reason)
					}
				}
			}
			return true
		})
	}
}

// The guide walks through all of it.
func TestLawGuide(t *testing.T) {
	raw, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range public {
		if !strings.Contains(string(raw), "`"+pkg+"`") {
			t.Errorf("docs/api.md does not name the package %s", pkg)
		}
	}
	for _, name := range []string{"examples/sell", "examples/buy", "paywall.Middleware", "paywall.NewTransport", "Idempotency-Key"} {
		if !strings.Contains(string(raw), name) {
			t.Errorf("docs/api.md does not tell of %s", name)
		}
	}
}
