package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unseen are the sentinels that no person is shown as they are, by package or by name,
// and why. A star stands for the rest of a package.
var unseen = map[string]string{
	"script.*":                 "wrapped by channel: ErrTerms, ErrSignature, ErrConflict",
	"mpp.*":                    "a provider answers them as problems; a payer wraps them in paywall.ErrMisbehaved",
	"bitcoin.*":                "as those of mpp",
	"downloadtest.ErrInjected": "of tests",
	"store.ErrNotFound":        "whoever looks something up handles it",
	"store.ErrClosed":          "of a store that is being closed: a defect of ours",
	"keys.ErrIndex":            "of a counter that is never so large",
	"keys.ErrNonce":            "of a nonce that is drawn or was checked",
	"devnet.ErrClosed":         "of a devnet that is being closed",
	"neutrino.ErrClosed":       "of a light client that is being closed",
	"devnet.ErrBlock":          "of a devnet's own HTTP API",
	"paywall.ErrDiscovery":     "of a program that describes its own service wrongly",
	"paywall.ErrRate":          "of prices in a currency, which only programs set",
	"paywall.ErrChallengeOver": "credential has words of its own for it",
	"paywall.ErrQuote":         "a provider answers it as a problem, and logs it",
	"paywall.ErrNotAllowed":    "of paying transports: pay-proxy answers its clients with it, as with the next ones",
	"paywall.ErrDeposit":       "as paywall.ErrNotAllowed",
	"paywall.ErrReplaced":      "as paywall.ErrNotAllowed",
	"paywall.ErrBody":          "as paywall.ErrNotAllowed",
	"paywall.ErrAuthorization": "as paywall.ErrNotAllowed",
	"paywall.ErrClosed":        "as paywall.ErrNotAllowed",
	"download.ErrStopped":      "of a run that was asked to stop: pay-proxy does that when a client leaves",
	"content.ErrRange":         "a provider answers it with 416; a payer asks only for what a manifest names",
	"bao.ErrRange":             "as content.ErrRange",
	"bao.ErrGroup":             "wrapped by content.ErrManifest",
	"tower.ErrMalformed":       "a tower answers its providers with it, as with the next ones; they log it",
	"tower.ErrOutpoint":        "as tower.ErrMalformed",
	"tower.ErrLocked":          "as tower.ErrMalformed",
	"tower.ErrForm":            "as tower.ErrMalformed",
	"tower.ErrFees":            "as tower.ErrMalformed",
	"tower.ErrExecute":         "as tower.ErrMalformed",
	"tower.ErrTime":            "as tower.ErrMalformed",
	"tower.ErrUnseen":          "as tower.ErrMalformed",
	"tower.ErrSpent":           "as tower.ErrMalformed",
	"tower.ErrFull":            "as tower.ErrMalformed",
}

// Every error that a public package exports has a row in the tables of errors, or a
// reason why nobody is shown it: none ends as a defect of ours by oversight.
func TestEverySentinelHasARow(t *testing.T) {
	rows := tableNames(t, "kinds", "remoteKinds")
	for _, name := range sentinels(t) {
		pkg, _, _ := strings.Cut(name, ".")
		_, never := unseen[name]
		_, none := unseen[pkg+".*"]
		if listed := slices.Contains(rows, name); listed == (never || none) {
			t.Errorf("%s: in a table of errors %v, in unseen %v", name, listed, never || none)
		}
	}
}

// Each row, and each failure that is made by hand, says what it means for the money and
// what to do next, as sentences.
func TestEveryFailureSaysWhatToDo(t *testing.T) {
	for _, k := range slices.Concat(kinds, remoteKinds) {
		for part, text := range map[string]string{"code": k.code, "money": k.money, "next": k.next} {
			if problem := badPart(part, text); problem != "" {
				t.Errorf("%v: its %s %s: %q", k.is, part, problem, text)
			}
		}
	}
	made := 0
	for _, file := range parseHere(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if name, named := litName(lit, ok); !named || name != "failure" || len(lit.Elts) == 0 {
				return true
			}
			made++
			said := map[string]bool{}
			for _, e := range lit.Elts {
				pair, ok := e.(*ast.KeyValueExpr)
				if !ok {
					said["exit"], said["code"], said["message"], said["money"], said["next"] = true, true, true, true, true
					break
				}
				part := pair.Key.(*ast.Ident).Name
				said[part] = true
				if text, ok := pair.Value.(*ast.BasicLit); ok && text.Kind == token.STRING {
					if problem := badPart(part, strings.Trim(text.Value, "\"`")); problem != "" {
						t.Errorf("%s: its %s %s: %s", file.Name, part, problem, text.Value)
					}
				}
			}
			for _, part := range []string{"exit", "code", "message", "money", "next"} {
				if !said[part] {
					t.Errorf("a failure without %s: %s", part, snippet(lit))
				}
			}
			return true
		})
	}
	if made < 20 {
		t.Errorf("%d failures were found", made)
	}
}

func litName(lit *ast.CompositeLit, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	id, named := lit.Type.(*ast.Ident)
	if !named {
		return "", false
	}
	return id.Name, true
}

func snippet(lit *ast.CompositeLit) string {
	var parts []string
	for _, e := range lit.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			if text, ok := pair.Value.(*ast.BasicLit); ok {
				parts = append(parts, text.Value)
			}
		}
	}
	return strings.Join(parts, ", ")
}

// badPart says what is wrong with a part of a failure; "": nothing.
func badPart(part, text string) string {
	switch part {
	case "code":
		if text == "" || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz-") != "" {
			return "is no word for scripts"
		}
	case "money", "next":
		if len(text) < 10 || !strings.ContainsAny(text[:1], "ABCDEFGHIJKLMNOPQRSTUVWXYZ%") {
			return "is no sentence"
		}
	}
	return ""
}

// parseHere parses this command's files that are no tests.
func parseHere(t *testing.T) (files []*ast.File) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// tableNames are the errors of tables of kinds as they are written there, in order.
func tableNames(t *testing.T, tables ...string) (names []string) {
	t.Helper()
	for _, file := range parseHere(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !slices.Contains(tables, spec.Names[0].Name) {
				return true
			}
			for _, e := range spec.Values[0].(*ast.CompositeLit).Elts {
				switch is := e.(*ast.CompositeLit).Elts[0].(type) {
				case *ast.SelectorExpr:
					names = append(names, is.X.(*ast.Ident).Name+"."+is.Sel.Name)
				case *ast.Ident:
					names = append(names, is.Name)
				}
			}
			return false
		})
	}
	return names
}

// sentinels are the errors that the packages outside of internal and of commands export.
func sentinels(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"internal", "cmd", "testdata", ".git", "docs", "tools"}, d.Name()) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, f.Name.Name+"."+name.Name)
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 150 {
		t.Fatalf("%d sentinels were found", len(names))
	}
	return names
}

const errorsPage = "../../docs/errors.md"

// The page of errors is written from the tables.
func TestErrorsPage(t *testing.T) {
	page := errorsText(t)
	if *update {
		if err := os.WriteFile(errorsPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(errorsPage)
	if err != nil || string(raw) != page {
		t.Errorf("%s is not what the tables say (%v): go test ./cmd/spillway -run TestErrorsPage -update", errorsPage, err)
	}
}

// errorsText is the page of errors.
func errorsText(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`# Errors

Every error has three parts: what happened, what it means for the money, what to do next. With ` + "`--json`" + ` the last line of the output carries them, with a code
that stays the same, as ` + "`{\"type\":\"error\",\"code\":…,\"exit\":…,\"message\":…,\"money\":…,\"next\":…}`" + `. What is typed is checked before anything is opened: exit 2
changes nothing.

| exit | means |
|---|---|
| 0 | done |
| 1 | a defect of ours |
| 2 | usage: a flag, an argument or a file that was named |
| 3 | consent is needed: a budget, a prepayment, real money |
| 4 | not enough coins |
| 5 | the other side misbehaved: wrong bytes, proof, quote or signature |
| 6 | the other side cannot be reached |
| 7 | the blockchain that is asked fails, lags or refuses |
| 8 | local state: locked, damaged, passphrase, disk, permissions |
| 9 | refused by the other side, or by the state of a channel |
| 130 | interrupted; the same command goes on |

The first row that an error is counts. Made from the program's own tables.

| code | exit | error | money | next |
|---|---|---|---|---|
`)
	all, names := slices.Concat(remoteKinds, kinds), slices.Concat(tableNames(t, "remoteKinds"), tableNames(t, "kinds"))
	if len(all) != len(names) {
		t.Fatalf("%d rows, %d names", len(all), len(names))
	}
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
	for i, k := range all {
		fmt.Fprintf(&b, "| `%s` | %d | `%s` | %s | %s |\n", k.code, k.exit, names[i], cell.Replace(k.money), cell.Replace(k.next))
	}
	return b.String()
}
