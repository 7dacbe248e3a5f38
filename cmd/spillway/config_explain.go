package main

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/spillway/spillway/chain/bitcoind"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Show where settings come from, and a sample of the settings file", Args: cobra.NoArgs,
		Long: `A setting comes from a flag, else from the environment (SPILLWAY_MAX_PREPAY for
--max-prepay), else from a file in TOML: the one that --config names, or config.toml
in the folder spillway of the user's configuration. The file has a key for each flag,
those of all commands at its top, those of one command in its section:

  network = "signet"
  chain = "https://mempool.space/signet/api"

  [serve]
  price = "1sat/64KiB"

  [channels.close]
  max-prepay = "0sat"

A key that nobody knows is an error.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "explain [-- COMMAND [FLAG…]]", Short: "Every setting, and where it comes from",
		Long: `Shows every setting with where it comes from: a flag, a variable, the file and its
line, or the default. Secrets are not shown. After -- a command may follow, with flags
of its: then its settings are shown as it would have them.`,
		Example: "  spillway config explain\n  spillway config explain -- serve --price 2sat/64KiB",
		RunE:    a.configExplain,
	}, &cobra.Command{
		Use: "sample", Short: "A settings file with every key at its default", Args: cobra.NoArgs,
		Annotations: map[string]string{unsettled: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			text := configSample(cmd.Root())
			a.out.print("%s", strings.TrimSuffix(text, "\n"))
			return a.out.result(map[string]any{"sample": text})
		},
	})
	return cmd
}

// setting is one value, and where it comes from.
type setting struct {
	Command string `json:"command"` // "": of all commands
	Key     string `json:"key"`
	Value   string `json:"value"`
	origin
}

func (a *app) configExplain(cmd *cobra.Command, args []string) error {
	var rows []setting
	if len(args) > 0 {
		typed, err := a.explainOne(cmd, args)
		if err != nil {
			return err
		}
		rows = typed
	} else {
		rows = a.settingsOf(cmd, "", cmd.Root().PersistentFlags().Lookup)
		for _, c := range commandsOf(cmd.Root()) {
			all, err := a.explainOne(cmd, strings.Fields(command(c)))
			if err != nil {
				return err
			}
			name := command(c)
			rows = append(rows, slices.DeleteFunc(all, func(s setting) bool { return s.Command != name })...)
		}
		rows = append(rows, a.otherSettings()...)
	}
	path, _ := a.configPath()
	there := a.config != nil
	if there {
		a.out.say("Settings file: %s", path)
	} else {
		a.out.say("Settings file: %s, which is not there", path)
	}
	lines := [][]string{}
	for _, s := range rows {
		lines = append(lines, []string{strings.TrimSpace(s.Command + " " + s.Key), printable(s.Value), strings.TrimSpace(s.Kind + " " + s.Where), ""})
	}
	for _, line := range columns(lines) {
		a.out.print("%s", line)
	}
	return a.out.result(map[string]any{"file": path, "found": there, "settings": rows})
}

// columns lays rows out, each column as wide as its widest text, up to a limit.
func columns(rows [][]string) (lines []string) {
	var width [2]int
	for _, r := range rows {
		for i := range width {
			width[i] = min(max(width[i], len([]rune(r[i]))), 48)
		}
	}
	for _, r := range rows {
		lines = append(lines, fmt.Sprintf("%-*s  %-*s  %s", width[0], r[0], width[1], r[1], r[2]))
	}
	return lines
}

// command is a command's name without the program's: "channels close".
func command(c *cobra.Command) string {
	return strings.TrimSpace(strings.TrimPrefix(c.CommandPath(), c.Root().Name()))
}

// explainOne is what a command line would have for settings. Errors: of usage.
func (a *app) explainOne(cmd *cobra.Command, args []string) ([]setting, error) {
	b := &app{out: a.out, stdin: a.stdin}
	root := b.root()
	var common []string // what was typed before goes to it too
	cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if a.origins[f.Name].Kind != fromFlag {
			return
		}
		texts := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			texts = list.GetSlice()
		}
		for _, text := range texts {
			common = append(common, "--"+f.Name+"="+text)
		}
	})
	c, rest, err := root.Find(args)
	if err != nil || c == root {
		return nil, usagef("there is no command %.100q", args)
	}
	if err := c.ParseFlags(append(common, rest...)); err != nil {
		return nil, usage(err)
	}
	if err := checkTyped(c, nil); err != nil {
		return nil, err
	}
	if err := b.settle(c); err != nil {
		return nil, err
	}
	return b.settingsOf(c, command(c), c.Flags().Lookup), nil
}

// settingsOf are the flags of a command that which knows. A common flag counts as the
// command's where the command has a value of its own.
func (a *app) settingsOf(c *cobra.Command, name string, which func(string) *pflag.Flag) (rows []setting) {
	common := c.Root().PersistentFlags()
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || which(f.Name) == nil {
			return
		}
		s := setting{Command: name, Key: f.Name, Value: a.shown(f), origin: a.origins[f.Name]}
		if s.Kind == "" {
			s.Kind = fromDefault
		}
		_, own := a.config.Get(sectionOf(c) + "." + f.Name)
		if common.Lookup(f.Name) != nil && !(own && s.Kind == fromFile) {
			s.Command = ""
		}
		rows = append(rows, s)
	})
	return rows
}

// shown is a flag's value as it is shown: without secrets, and as it works out where
// the default is made up at the start.
func (a *app) shown(f *pflag.Flag) string {
	texts := []string{f.Value.String()}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		texts = list.GetSlice()
	}
	switch {
	case f.Name == "config" && texts[0] == "":
		texts[0], _ = a.configPath()
	case f.Name == "data" && texts[0] == "":
		texts[0] = a.flags.data // it was worked out
		if dir, err := defaultData(); err == nil && texts[0] == "" {
			texts[0] = dir
		}
	case f.Name == "chain" && len(texts) == 0 && a.regtest():
		texts = []string{"http://" + devnetAddress}
	}
	for i, text := range texts {
		texts[i] = masked(f.Name, text)
	}
	return strings.Join(texts, " ")
}

// otherSettings are the parts of the file that are no flags, and the passphrase.
func (a *app) otherSettings() (rows []setting) {
	if os.Getenv(passphraseVariable) != "" {
		rows = append(rows, setting{Key: "passphrase", Value: mask, origin: origin{fromVariable, passphraseVariable}})
	}
	for _, e := range a.config.Entries() {
		name, _, _ := strings.Cut(strings.ReplaceAll(e.Path, "[", "."), ".")
		if _, other := sections()[name]; !other || e.Table {
			continue
		}
		rows = append(rows, setting{Command: name, Key: strings.TrimPrefix(strings.TrimPrefix(e.Path, name), "."),
			Value: masked(e.Path, fmt.Sprint(e.Value)), origin: origin{fromFile, a.config.At(e.Path)}})
	}
	return rows
}

// mask stands for a secret.
const mask = "(secret)"

var (
	secretName = regexp.MustCompile(`(?i)(^|[^a-z])(secret|token|password|passphrase|passwd|api[-_]?key|authorization|cookie|seed|words)s?"?$|^proxy(\.rule\[\d*\])?\.set\.`)
	setField   = regexp.MustCompile(`^proxy(\.rule\[[0-9]+\])?\.set\.`) // what an upstream gets, and nobody else
	hookURL    = regexp.MustCompile(`^webhook\[[0-9]+\]\.url$`)
	withUser   = regexp.MustCompile(`://[^/?#\s]*@`)
)

// secret reports whether a key of the file holds what nobody else may read.
func secret(path string, value any) bool {
	text := fmt.Sprint(value)
	if _, query, ok := strings.Cut(text, "?"); ok && query != "" && hookURL.MatchString(path) {
		return true
	}
	return secretName.MatchString(path) || setField.MatchString(path) || withUser.MatchString(text) && bitcoind.HasPassword(text)
}

// masked is a value without secrets.
func masked(key, text string) string {
	if text == "" {
		return text
	}
	if secretName.MatchString(key) || setField.MatchString(key) {
		return mask
	}
	if u, err := url.Parse(text); err == nil && hookURL.MatchString(key) {
		return u.Scheme + "://" + u.Host + "/…" // what follows may be what lets one in
	}
	words := strings.Fields(text)
	for i, word := range words {
		if withUser.MatchString(word) {
			words[i] = bitcoind.Redact(word)
		}
	}
	if strings.Contains(text, "://") {
		return strings.Join(words, " ")
	}
	return text
}
