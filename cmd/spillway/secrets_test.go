package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecretsOthersCanRead: what this program wrote as 0600 is refused when others can read
// it; a secret that somebody else made is used, with a warning.
func TestSecretsOthersCanRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode      os.FileMode
		own, made bool // refused
	}{{0o600, false, false}, {0o400, false, false}, {0o640, true, false}, {0o644, true, true}, {0o604, true, true}} {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		for name, read := range map[string]func(string) (string, error){"own": ownSecret, "made": secretFile} {
			text, err := read(path)
			var f *failure
			if refused := errors.As(err, &f) && f.exit == exitLocal && f.code == "permissions"; refused != (name == "own" && c.own || name == "made" && c.made) || !refused && text != "0123456789abcdef" {
				t.Errorf("%s at %o: %q, %v", name, c.mode, text, err)
			}
		}
	}
}

// TestWarnsOfSecrets: each flag that names a secret is warned of, on every command that has it.
func TestWarnsOfSecrets(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	if err := os.WriteFile(path, []byte("0123456789abcdef\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) string {
		var stderr bytes.Buffer
		runUntil(context.Background(), append(args, "--data", filepath.Join(dir, "data"), "--chain", "http://127.0.0.1:1"), strings.NewReader(""), &bytes.Buffer{}, &stderr)
		return stderr.String()
	}
	for name, args := range map[string][]string{
		"passphrase-file":  {"wallet", "balance", "--passphrase-file", path},
		"tower-token-file": {"serve", dir, "--tower", "http://127.0.0.1:1", "--tower-token-file", path},
		"token-file":       {"pay-proxy", "--token-file", path},
		"tls-key":          {"serve", dir, "--tls-cert", path, "--tls-key", path},
	} {
		said := ask(args...)
		if !strings.Contains(said, "WARNING: everybody on this machine can read") || !strings.Contains(said, "(--"+name+"). Make it private: chmod 600 "+path) {
			t.Errorf("%s: %s", name, said)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if said := ask("wallet", "balance", "--passphrase-file", path); strings.Contains(said, "WARNING") {
		t.Errorf("a private one: %s", said)
	}
}
