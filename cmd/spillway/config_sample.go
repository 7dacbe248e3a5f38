package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// configSample is a settings file with every key at its default, each commented out.
func configSample(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(`# Settings of spillway: every key, at its default. Take the # away from what you change.
#
# A flag counts before the environment (SPILLWAY_PRICE for --price), and this before the
# file. See where a setting comes from with: spillway config explain
# The file is the one that --config names, else spillway/config.toml in the user's folder
# of configurations (~/.config). A key that nobody knows is an error.

# What all commands take. Each may stand in a command's section too, and counts there.
`)
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { sampleKey(&b, f) })
	for _, c := range commandsOf(root) {
		var below strings.Builder
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if root.PersistentFlags().Lookup(f.Name) == nil {
				sampleKey(&below, f)
			}
		})
		if below.Len() > 0 {
			fmt.Fprintf(&b, "\n# spillway %s: %s\n[%s]\n%s", command(c), c.Short, sectionOf(c), below.String())
		}
	}
	samples := sectionSamples()
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		b.WriteString("\n" + strings.TrimSpace(samples[name]) + "\n")
	}
	return b.String()
}

// sampleKey writes a flag's key with its default and what it means.
func sampleKey(b *strings.Builder, f *pflag.Flag) {
	if f.Name == "help" || f.Name == "config" || f.Hidden {
		return
	}
	value := f.DefValue
	switch f.Value.Type() {
	case "string", "duration":
		value = strconv.Quote(value)
	}
	_, meaning := pflag.UnquoteUsage(f)
	fmt.Fprintf(b, "# %s\n#%s = %s\n", meaning, f.Name, value)
}

// sectionSamples are samples of the sections that are no flags, every line commented
// out: one for each of sections.
func sectionSamples() map[string]string {
	return map[string]string{
		"webhook": `
# Whom events are told to, by HTTP; one such table for each. docs/operations.md.
#[[webhook]]
# of its outbox, for people: letters, digits, - and _
#name = "books"
# https, or http to this machine
#url = "https://books.example/spillway"
# file with what events are signed with: at least 24 bytes, or whsec_ and base64; a new
# one goes on the first line, the one before stays on the second as long as it is used
#secret-file = "/etc/spillway/books.secret"
# which events; none named: all
#events = ["opened", "paid", "closing", "closed", "refunded", "alarm"]
# how long a channel's payments wait for the next to be told of
#paid-every = "10s"
# http beyond this machine all the same
#insecure-http = false
`,
	}
}
