package web

import (
	"os/exec"
	"strings"
	"testing"
)

// FuzzShellWord: whatever a file is called, its name in a line for a shell is one word
// to that shell, and it is the name.
func FuzzShellWord(f *testing.F) {
	for _, s := range []string{"", "a", "it's", "$(rm -rf ~)", "a b\nc", "`x`", "\\", "-n", "~", "ü", "\xff", "'''", "!x", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) || len(s) > 2000 {
			return // no file is called that
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s.' `+ShellWord(s)).Output()
		if err != nil || string(out) != s+"." {
			t.Fatalf("%q is written %q, which is %q to a shell, %v", s, ShellWord(s), out, err)
		}
	})
}
