package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/spillway/spillway/internal/settings"
)

// Settings come from flags, then from the environment, then from a file in TOML: the
// first that names one counts. The file has a key for each flag: those of all commands
// at its top, those of one command in the section of its name, [serve] or
// [channels.close]. What is no flag has a section of its own, see sections.

// sections are the parts of the file that are no flags, each with the value that it is
// decoded into: its tags toml:"name" are the keys that are known. Read one with
// app.section. A section may be a command's too: then its flags are known there besides.
func sections() map[string]any {
	return map[string]any{
		"webhook": []hookTable(nil), "proxy": proxySection{},
	}
}

// section reads a part of the settings file that is no flags into what into points to.
// found is false where there is none. Errors: of usage, with the file's line.
func (a *app) section(name string, into any) (found bool, err error) {
	found, err = a.config.Decode(name, into)
	if err != nil {
		return found, usage(err)
	}
	return found, nil
}

// wrongSetting is a usage error about a key of the file, with its line: of
// "proxy.rule[1].price" for the second rule.
func (a *app) wrongSetting(path, format string, args ...any) error {
	return usage(a.config.Wrong(path, format, args...))
}

// origin is where a setting comes from.
type origin struct {
	Kind  string `json:"origin"` // flag, environment, file or default
	Where string `json:"where"`  // the flag, the variable, or FILE:LINE; "" by default
}

// Kinds of origin, highest first.
const (
	fromFlag     = "flag"
	fromVariable = "environment"
	fromFile     = "file"
	fromDefault  = "default"
)

// unsettled are commands that take no setting from a file: they help when one is broken.
const unsettled = "spillway-no-settings"

// settle sets every flag that was not given from the environment, and then from the
// file. Of flags that exclude each other a higher origin's counts alone.
func (a *app) settle(cmd *cobra.Command) error {
	a.origins = map[string]origin{}
	cmd.Flags().Visit(func(f *pflag.Flag) { a.origins[f.Name] = origin{fromFlag, "--" + f.Name} })
	if err := a.fromEnvironment(cmd); err != nil {
		return err
	}
	if cmd.Hidden || cmd.Annotations[unsettled] != "" {
		return nil
	}
	if err := a.openConfig(); err != nil {
		return err
	}
	if err := a.config.Check(knownKeys(cmd.Root())); err != nil {
		return usage(err)
	}
	if err := a.checkValues(); err != nil {
		return err
	}
	if err := a.keepPrivate(); err != nil {
		return err
	}
	return a.fromConfig(cmd)
}

// checkValues refuses values of the file that are none of their flags', also of commands
// that do not run now, and where something else counts: a mistake is not left to wait.
func (a *app) checkValues() error {
	if len(a.config.Entries()) == 0 {
		return nil
	}
	root := (&app{out: &output{}}).root() // whose flags are tried
	flags := map[string]*pflag.Flag{}
	add := func(c *cobra.Command) func(*pflag.Flag) {
		return func(f *pflag.Flag) {
			for _, key := range keysOfFlag(c, f) {
				flags[key] = f
			}
		}
	}
	root.PersistentFlags().VisitAll(add(root))
	for _, c := range commandsOf(root) {
		c.LocalFlags().VisitAll(add(c))
		c.InheritedFlags().VisitAll(add(c))
	}
	for _, e := range a.config.Entries() {
		f := flags[e.Path]
		if f == nil {
			continue
		}
		texts, err := textsOf(f, e.Value)
		for _, text := range texts {
			if err == nil {
				err = f.Value.Set(text)
			}
		}
		if err != nil {
			return usage(a.config.Wrong(e.Path, "%v", err))
		}
	}
	return nil
}

// variable is a flag's name in the environment: SPILLWAY_MAX_PREPAY is --max-prepay.
func variable(flag string) string {
	return "SPILLWAY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets every flag that was not given from SPILLWAY_… where that is set.
func (a *app) fromEnvironment(cmd *cobra.Command) error {
	return a.layer(cmd, func(f *pflag.Flag) ([]string, origin, error) {
		value, ok := os.LookupEnv(variable(f.Name))
		if !ok || value == "" { // a variable that is empty is none
			return nil, origin{}, nil
		}
		return []string{value}, origin{fromVariable, variable(f.Name)}, nil
	}, func(f *pflag.Flag, value string, err error) error {
		return usagef("%s=%q: %v", variable(f.Name), value, err)
	})
}

// fromConfig sets every flag that was not given from the file.
func (a *app) fromConfig(cmd *cobra.Command) error {
	key := map[string]string{}
	return a.layer(cmd, func(f *pflag.Flag) ([]string, origin, error) {
		for _, path := range keysOfFlag(cmd, f) {
			v, ok := a.config.Get(path)
			if !ok {
				continue
			}
			key[f.Name] = path
			values, err := textsOf(f, v)
			if err != nil {
				return nil, origin{}, usage(a.config.Wrong(path, "%v", err))
			}
			return values, origin{fromFile, a.config.At(path)}, nil
		}
		return nil, origin{}, nil
	}, func(f *pflag.Flag, _ string, err error) error {
		return usage(a.config.Wrong(key[f.Name], "%v", err))
	})
}

// layer sets the flags that no higher layer has set, nor one that excludes them.
func (a *app) layer(cmd *cobra.Command, values func(*pflag.Flag) ([]string, origin, error), wrong func(*pflag.Flag, string, error) error) (failed error) {
	above := maps.Clone(a.origins)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if failed != nil || f.Name == "help" || excluded(f, above) {
			return
		}
		texts, from, err := values(f)
		if err != nil {
			failed = err
			return
		}
		for _, text := range texts {
			if err := cmd.Flags().Set(f.Name, text); err != nil {
				failed = wrong(f, text, err)
				return
			}
			a.origins[f.Name] = from
		}
	})
	if failed != nil {
		return failed
	}
	if err := cmd.ValidateFlagGroups(); err != nil {
		return usagef("settings exclude each other: %v", err)
	}
	return nil
}

// excluded reports whether a flag was set above, or one that excludes it.
func excluded(f *pflag.Flag, above map[string]origin) bool {
	if _, ok := above[f.Name]; ok {
		return true
	}
	for _, group := range f.Annotations["cobra_annotation_mutually_exclusive"] {
		for _, other := range strings.Fields(group) {
			if _, ok := above[other]; ok {
				return true
			}
		}
	}
	return false
}

// keysOfFlag are the keys of a flag in the file, the first that is there counts: in the
// command's section, and at the top where every command has it.
func keysOfFlag(cmd *cobra.Command, f *pflag.Flag) (keys []string) {
	if f.Name == "config" {
		return nil // it names the file
	}
	if below := sectionOf(cmd); below != "" {
		keys = append(keys, below+"."+f.Name)
	}
	if cmd.Root().PersistentFlags().Lookup(f.Name) != nil {
		keys = append(keys, f.Name)
	}
	return keys
}

// sectionOf is a command's section: channels.close.
func sectionOf(cmd *cobra.Command) string {
	_, below, _ := strings.Cut(cmd.CommandPath(), " ")
	return strings.ReplaceAll(below, " ", ".")
}

// commandsOf are the commands that take settings.
func commandsOf(root *cobra.Command) (all []*cobra.Command) {
	for _, c := range root.Commands() {
		if c.Hidden || c.Annotations[unsettled] != "" || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Runnable() {
			all = append(all, c)
		}
		all = append(all, commandsOf(c)...)
	}
	return all
}

// knownKeys are all keys that the file may have.
func knownKeys(root *cobra.Command) (keys []string) {
	add := func(c *cobra.Command) func(*pflag.Flag) {
		return func(f *pflag.Flag) {
			if f.Name != "help" {
				keys = append(keys, keysOfFlag(c, f)...)
			}
		}
	}
	root.PersistentFlags().VisitAll(add(root))
	for _, c := range commandsOf(root) {
		c.LocalFlags().VisitAll(add(c))
		c.InheritedFlags().VisitAll(add(c))
	}
	for name, v := range sections() {
		keys = append(keys, settings.Keys(name, v)...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// textsOf is a value of the file as its flag takes it.
func textsOf(f *pflag.Flag, v any) ([]string, error) {
	kind := f.Value.Type()
	if list, ok := v.([]any); ok && kind == "stringArray" {
		var texts []string
		for _, one := range list {
			text, ok := one.(string)
			if !ok || text == "" {
				return nil, errors.New("a list of texts in quotes is needed, none of them empty")
			}
			texts = append(texts, text)
		}
		return texts, nil
	}
	switch v := v.(type) {
	case string:
		if v == "" && kind != "bool" {
			return nil, nil // as a variable that is empty
		}
		if kind == "string" || kind == "stringArray" || kind == "duration" {
			return []string{v}, nil
		}
	case bool:
		if kind == "bool" {
			return []string{strconv.FormatBool(v)}, nil
		}
	case int64:
		if strings.HasPrefix(kind, "int") || strings.HasPrefix(kind, "uint") || strings.HasPrefix(kind, "float") {
			return []string{strconv.FormatInt(v, 10)}, nil
		}
	case float64:
		if strings.HasPrefix(kind, "float") {
			return []string{strconv.FormatFloat(v, 'g', -1, 64)}, nil
		}
	}
	if text, ok := v.(string); ok {
		v = strconv.Quote(text)
	}
	return nil, fmt.Errorf("%v is none of the values that --%s takes: %s", v, f.Name, wanted(kind))
}

// wanted says how a value of a flag's type is written in the file.
func wanted(kind string) string {
	switch kind {
	case "bool":
		return "true or false"
	case "string", "duration":
		return "a text in quotes"
	case "stringArray":
		return "a text in quotes, or a list of them"
	default:
		return "a number, without quotes"
	}
}

// configPath is where the file is, and whether somebody named it.
func (a *app) configPath() (path string, named bool) {
	if a.flags.config != "" {
		return a.flags.config, true
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", false // there is no such folder, and so no file in it
	}
	return filepath.Join(dir, "spillway", "config.toml"), false
}

// openConfig reads the file: the one that was named, or the user's where there is one.
func (a *app) openConfig() error {
	path, named := a.configPath()
	if path == "" {
		return nil
	}
	raw, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return usagef("the settings in %s: %w", path, err)
	}
	if a.config, err = settings.Parse(path, raw); err != nil {
		return usage(err)
	}
	return nil
}

// readSmall reads a regular file that is not larger than a file of settings may be.
func readSmall(path string) (_ []byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, settings.MaxBytes+1))
}

// keepPrivate refuses a file with secrets in it that everybody may read.
func (a *app) keepPrivate() error {
	for _, e := range a.config.Entries() {
		if !secret(e.Path, e.Value) {
			continue
		}
		info, err := os.Stat(a.config.Path())
		if err != nil {
			return localError(err)
		}
		if info.Mode().Perm()&0o004 == 0 {
			return nil
		}
		return &failure{exit: exitLocal, code: "permissions", message: fmt.Sprintf("%s: %s is a secret, and everybody on this machine can read the file", a.config.At(e.Path), e.Path),
			money: noMoney, next: "Make it private: chmod 600 " + a.config.Path()}
	}
	return nil
}
