package laws

import (
	"go/ast"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// jsonName is what a field of the wire looks like in the code.
var jsonName = regexp.MustCompile(`^[a-z]+([A-Z][a-z0-9]*)+$`)

// The specification of the method names every field that the code reads or writes, and
// its transcript is the one that is replayed.
func TestLawTheMethodIsSpecified(t *testing.T) {
	raw, err := os.ReadFile("../../docs/method-bitcoin-session.md")
	if err != nil {
		t.Fatal(err)
	}
	text, fields := string(raw), map[string]bool{}
	for _, s := range load(t) {
		if s.pkg != "mpp/bitcoin" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok {
				if name, err := strconv.Unquote(lit.Value); err == nil && jsonName.MatchString(name) {
					fields[name] = true
				}
			}
			return true
		})
	}
	if len(fields) < 40 {
		t.Fatalf("only %d fields were found", len(fields))
	}
	for name := range fields {
		if !strings.Contains(text, "`"+name+"`") && !strings.Contains(text, "`methodDetails."+name+"`") {
			t.Errorf("the specification does not name %s", name)
		}
	}
	transcript, err := os.ReadFile("../../paywall/testdata/purchase-taproot.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "```\n"+string(transcript)+"```") {
		t.Error("its transcript is not the one that is replayed")
	}
}
