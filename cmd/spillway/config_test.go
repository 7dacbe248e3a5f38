package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/spillway/spillway/internal/settings"
)

// explained runs config explain and returns its settings by command and key.
func explained(t *testing.T, args ...string) map[string]setting {
	t.Helper()
	var out, said bytes.Buffer
	if exit := runUntil(t.Context(), append([]string{"--json", "config", "explain"}, args...), strings.NewReader(""), &out, &said); exit != exitDone {
		t.Fatalf("%q: exit %d: %s%s", args, exit, out.String(), said.String())
	}
	var got struct {
		File     string
		Settings []setting
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	all := map[string]setting{}
	for _, s := range got.Settings {
		all[strings.TrimSpace(s.Command+" "+s.Key)] = s
	}
	return all
}

// settingsFile writes a file of settings that only its owner reads.
func settingsFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSettingsLayers: a flag counts before the environment, this before the file, this
// before the default, and config explain says which one it was.
func TestSettingsLayers(t *testing.T) {
	path := settingsFile(t, `network = "signet"
quiet = true
chain = ["https://a.example/api", "bitcoind://me:sesame@h:8332"]

[serve]
price = "3sat/64KiB"
credit = 7
listen = "127.0.0.1:7"
network = "testnet4"
chunk = "2MiB"

[tower]
listen = "127.0.0.1:8"
`)
	t.Setenv("SPILLWAY_CONFIG", path)
	t.Setenv("SPILLWAY_CREDIT", "8")
	t.Setenv("SPILLWAY_LISTEN", "127.0.0.1:9")
	t.Setenv(passphraseVariable, "sesame")
	got := explained(t, "--", "serve", "--listen=127.0.0.1:10", "--chunks=5")
	for key, want := range map[string][3]string{
		"serve listen":  {"127.0.0.1:10", fromFlag, "--listen"},
		"serve credit":  {"8", fromVariable, "SPILLWAY_CREDIT"},
		"serve price":   {"3sat/64KiB", fromFile, path + ":6"},
		"serve network": {"testnet4", fromFile, path + ":9"},
		"serve chunk":   {"1MiB", fromDefault, ""}, // --chunks excludes it
		"serve chunks":  {"5", fromFlag, "--chunks"},
		"serve trade":   {"false", fromDefault, ""},
		"chain":         {"https://a.example/api bitcoind://h:8332", fromFile, path + ":3"},
		"quiet":         {"true", fromFile, path + ":2"},
		"config":        {path, fromVariable, "SPILLWAY_CONFIG"},
	} {
		if s := got[key]; s.Value != want[0] || s.Kind != want[1] || s.Where != want[2] {
			t.Errorf("%s: %+v, want %q", key, s, want)
		}
	}
	all := explained(t)
	for key, want := range map[string]string{"network": "signet", "serve network": "testnet4", "tower listen": "127.0.0.1:9", "passphrase": mask} {
		if all[key].Value != want {
			t.Errorf("%s: %+v, want %s", key, all[key], want)
		}
	}
	if text := fmt.Sprint(got, all); strings.Contains(text, "sesame") {
		t.Errorf("a secret is shown: %s", text)
	}
	t.Setenv("SPILLWAY_LISTEN", "")
	if s := explained(t)["tower listen"]; s.Value != "127.0.0.1:8" || s.Where != path+":13" {
		t.Errorf("%+v", s)
	}
}

// TestSettingsAreUsed: what the file says is what a command does.
func TestSettingsAreUsed(t *testing.T) {
	t.Setenv("SPILLWAY_CONFIG", settingsFile(t, "json = true\nnetwork = \"signet\"\n[wallet.create]\ndata = \""+filepath.Join(t.TempDir(), "d")+"\"\n"))
	var out, said bytes.Buffer
	exit := runUntil(t.Context(), []string{"wallet", "create"}, strings.NewReader(""), &out, &said)
	if exit != exitUsage || !strings.Contains(out.String(), "a wallet on signet is sealed") {
		t.Errorf("exit %d: %s%s", exit, out.String(), said.String())
	}
}

// TestBadSettings: what is wrong with the file is said with its line, by any command
// that takes settings, and by none that helps with it.
func TestBadSettings(t *testing.T) {
	for text, want := range map[string]string{
		"netwrok = 'signet'":                          `c.toml:1: unknown key netwrok; did you mean network?`,
		"[serve]\nmax-prepay = '1sat'":                `c.toml:2: unknown key serve.max-prepay; did you mean channels.close.max-prepay or get.max-prepay`,
		"[channels.close]\nmax_prepay = '1sat'":       `c.toml:2: unknown key channels.close.max_prepay; did you mean channels.close.max-prepay?`,
		"\nnetwork = 7":                               `c.toml:2: network: 7 is none of the values that --network takes: a text in quotes`,
		"json = 'true'":                               `c.toml:1: json: "true" is none of the values that --json takes: true or false`,
		"chain = ['http://a', 7]":                     `c.toml:1: chain: a list of texts in quotes is needed, none of them empty`,
		"network = ":                                  `c.toml:1: `,
		"config = 'x'":                                `c.toml:1: unknown key config`,
		"[version]":                                   `c.toml:1: unknown section [version]`,
		"[earnings]\nsince = 2026-11-21":              `c.toml:2: earnings.since: 2026-11-21 is none of the values that --since takes: a text in quotes`,
		"[earnings]\nby = 'day'\nby = 'file'":         `c.toml`,
		"[serve]\nprice = '1sat/MiB'\n[earnings]\n\n": "",
	} {
		path := settingsFile(t, text)
		var out, said bytes.Buffer
		exit := runUntil(t.Context(), []string{"earnings", "--data", t.TempDir(), "--config", path}, strings.NewReader(""), &out, &said)
		if want == "" && exit != exitDone || want != "" && (exit != exitUsage || !strings.Contains(said.String(), want)) {
			t.Errorf("%q: exit %d: %s, want %s", text, exit, said.String(), want)
		}
		for _, args := range [][]string{{"version"}, {"help", "serve"}, {"config", "sample"}} {
			if exit := runUntil(t.Context(), append(args, "--config", path), strings.NewReader(""), &out, &out); exit != exitDone {
				t.Errorf("%q with %q: exit %d", args, text, exit)
			}
		}
	}
}

// TestHomeless: what helps works without a home.
func TestHomeless(t *testing.T) {
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "SPILLWAY_DATA"} {
		t.Setenv(name, "")
	}
	var said bytes.Buffer
	for _, args := range [][]string{{"version"}, {"help"}, {"config", "sample"}, {"config", "explain", "--data", t.TempDir()}} {
		if exit := runUntil(t.Context(), args, strings.NewReader(""), &said, &said); exit != exitDone {
			t.Errorf("%q: exit %d: %s", args, exit, said.String())
		}
	}
	if exit := runUntil(t.Context(), []string{"earnings"}, strings.NewReader(""), &said, &said); exit != exitUsage {
		t.Errorf("a command without a data folder: exit %d", exit)
	}
}

// TestPitfall45_SettingsWithSecretsArePrivate: a file with a password in it that
// everybody may read is refused.
func TestPitfall45_SettingsWithSecretsArePrivate(t *testing.T) {
	path := settingsFile(t, `chain = "bitcoind://me:sesame@127.0.0.1:1"`)
	args := []string{"earnings", "--data", t.TempDir(), "--config", path}
	for mode, want := range map[os.FileMode]int{0o600: exitDone, 0o640: exitDone, 0o644: exitLocal, 0o604: exitLocal} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		if exit := runUntil(t.Context(), args, strings.NewReader(""), &said, &said); exit != want || strings.Contains(said.String(), "sesame") {
			t.Errorf("mode %o: exit %d: %s", mode, exit, said.String())
		}
	}
}

// TestSampleIsTrue: docs/spillway.toml is what config sample writes, it is commented out
// as a whole, and with the # taken away it sets every key to what it is without a file.
func TestSampleIsTrue(t *testing.T) {
	root := (&app{out: &output{}}).root()
	text := configSample(root)
	frozen := filepath.Join("..", "..", "docs", "spillway.toml")
	if *update {
		if err := os.WriteFile(frozen, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if raw, err := os.ReadFile(frozen); err != nil || string(raw) != text {
		t.Errorf("docs/spillway.toml is not what config sample writes (%v): write it with go test ./cmd/spillway -run TestSampleIsTrue -update", err)
	}
	empty, err := settings.Parse("sample", []byte(text))
	if err != nil || len(empty.Entries()) != len(sectionsOf(text)) {
		t.Errorf("%v: something is set in the sample: %+v", err, empty.Entries())
	}
	bare := regexp.MustCompile(`(?m)^#(\[|[a-z0-9-]+ = )`).ReplaceAllString(text, "$1")
	full, err := settings.Parse("sample", []byte(bare))
	if err != nil {
		t.Fatal(err)
	}
	if err := full.Check(knownKeys(root)); err != nil {
		t.Fatal(err)
	}
	compare := func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" || f.Name == "config" || f.Hidden {
				return
			}
			key := strings.TrimPrefix(sectionOf(c)+"."+f.Name, ".")
			v, ok := full.Get(key)
			texts, err := textsOf(f, v)
			if want := f.DefValue; !ok || err != nil || strings.Join(texts, " ") != strings.Trim(want, "[]") {
				t.Errorf("%s is %v (%v) in the sample, %q by default: %v", key, v, ok, want, err)
			}
		})
	}
	compare(root)
	for _, c := range commandsOf(root) {
		if c.LocalNonPersistentFlags().HasFlags() {
			compare(c)
		}
	}
	for name := range sections() {
		if _, ok := full.Get(name); !ok {
			t.Errorf("the sample says nothing of [%s]: add it to sectionSamples", name)
		}
	}
}

// sectionsOf are the headers of tables that stand in a text uncommented.
func sectionsOf(text string) []string {
	return regexp.MustCompile(`(?m)^\[.*\]$`).FindAllString(text, -1)
}
