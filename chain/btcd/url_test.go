package btcd_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/chain/btcd"
)

func TestParseURL(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	password := filepath.Join(home, "password")
	if err := os.WriteFile(password, []byte("secretword\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := "?password-file=" + password
	for text, want := range map[string]btcd.Config{
		"btcd://u@h" + file:                  {Address: "h:8334", User: "u", Password: "secretword"},
		"btcd://u:secretword@h:1":            {Address: "h:1", User: "u", Password: "secretword"},
		"btcd://u@[::1]:7" + file + "&tls=0": {Address: "[::1]:7", User: "u", Password: "secretword", Plain: true},
		"btcd://u@h/" + file + "&cert=/c":    {Address: "h:8334", User: "u", Password: "secretword", CertFile: "/c"},
		"btcd://u@h" + file + "&birthday=9":  {Address: "h:8334", User: "u", Password: "secretword", Birthday: 9},
		"btcd://u@h" + file + "&window=2016": {Address: "h:8334", User: "u", Password: "secretword", Window: 2016},
		"btcd://u@localhost" + file:          {Address: "localhost:8334", User: "u", Password: "secretword"},
		"btcd://u@h" + file + "&version3=1":  {Address: "h:8334", User: "u", Password: "secretword", Version3: true},
	} {
		want.Network = &chaincfg.MainNetParams
		got, err := btcd.ParseURL(text, &chaincfg.MainNetParams)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "btcd://", "btcd://h", "btcd://u@h", "bitcoind://u@h" + file, "btcd://u@h:0" + file, "btcd://u@h:x" + file, "btcd://u@h/path" + file,
		"btcd://u@h" + file + "&tls=0", "btcd://u@127.0.0.1" + file + "&tls=1", "btcd://u@127.0.0.1" + file + "&tls=0&cert=/c",
		"btcd://u@h?password-file=" + home, "btcd://u@h?password-file=/none", "btcd://u:secretword@h" + file, "btcd://u@h" + file + "&cert=",
		"btcd://u@h" + file + "&cert=a&cert=b", "btcd://u@h" + file + "&birthday=0", "btcd://u@h" + file + "&window=143", "btcd://u@h" + file + "&colour=red",
		"btcd://u:secretword@h:99999", "btcd://u:secretword@h?%zz", "btcd://u@h" + file + "#x", "btcd://u@h" + file + "&version3=2",
	} {
		if _, err := btcd.ParseURL(text, &chaincfg.MainNetParams); !errors.Is(err, btcd.ErrConfig) || strings.Contains(err.Error(), "secretword") {
			t.Errorf("%s: %v", text, err)
		}
	}
	usual := filepath.Join(home, ".btcd", "rpc.cert")
	if err := os.MkdirAll(filepath.Dir(usual), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(usual, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"btcd://u@127.0.0.1" + file: usual, "btcd://u@h" + file: ""} {
		if got, err := btcd.ParseURL(text, &chaincfg.RegressionNetParams); err != nil || got.CertFile != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestConfig(t *testing.T) {
	good := btcd.Config{Address: "h:1", User: "u", Password: "p"}
	for what, change := range map[string]func(*btcd.Config){
		"no address":      func(c *btcd.Config) { c.Address = "" },
		"no password":     func(c *btcd.Config) { c.Password = "" },
		"plain with cert": func(c *btcd.Config) { c.Plain, c.CertFile = true, "x" },
		"fee rates":       func(c *btcd.Config) { c.MinFeeRate, c.MaxFeeRate = 2, 1 },
		"a negative time": func(c *btcd.Config) { c.Timeout = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := btcd.New(cfg); !errors.Is(err, btcd.ErrConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("btcd://u:p@h:1?cert=x&window=200")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "password-file") {
			return // no file is read here
		}
		cfg, err := btcd.ParseURL(text, &chaincfg.MainNetParams)
		if err == nil {
			if _, err := btcd.New(cfg); err != nil {
				t.Fatalf("%q is taken, and its configuration is not: %v", text, err)
			}
		} else if !errors.Is(err, btcd.ErrConfig) {
			t.Fatal(err)
		}
	})
}
