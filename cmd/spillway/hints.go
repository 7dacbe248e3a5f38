package main

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/internal/web"
)

// carried are the common flags without which a command that is named to a person would
// look at another folder or network than this one did.
var carried = []string{"config", "data", "network", "chain", "passphrase-file"}

// hints makes commands that are named to a person runnable as they stand: with the common
// flags that this command was given. What came from the environment is there for the next
// command too.
type hints struct {
	named *regexp.Regexp
	typed string
}

// hintsOf reads the flags before anything but the command line has set them.
func hintsOf(cmd *cobra.Command) *hints {
	var words []string
	for _, name := range carried {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		values := []string{f.Value.String()}
		if several, ok := f.Value.(interface{ GetSlice() []string }); ok {
			values = several.GetSlice()
		}
		for _, v := range values {
			words = append(words, "--"+name, web.ShellWord(v))
		}
	}
	if len(words) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Root().Commands() {
		switch c.Name() {
		case "man", "version", "completion", "help":
		default:
			names = append(names, regexp.QuoteMeta(c.Name()))
		}
	}
	return &hints{regexp.MustCompile(`(^|[\s(:"` + "`" + `])spillway (` + strings.Join(names, "|") + `)\b`), strings.Join(words, " ")}
}

// runnable puts the flags into the commands that a text names.
func (h *hints) runnable(text string) string {
	if h == nil || !strings.Contains(text, "spillway ") {
		return text
	}
	text = strings.ReplaceAll(text, forOthers+"spillway ", forOthers+"\x00spillway ")
	text = h.named.ReplaceAllString(text, "${1}spillway "+strings.ReplaceAll(h.typed, "$", "$$")+" ${2}")
	return strings.ReplaceAll(text, "\x00", "")
}

// forOthers begins what is named to somebody else, who has a folder of their own.
const forOthers = "Buy with: "
