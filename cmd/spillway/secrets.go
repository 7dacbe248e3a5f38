package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// secretFlags are the flags that name a file with a secret that somebody else than this
// program made, by what is in it.
var secretFlags = map[string]string{
	"tower-token-file": "the tower's token", "token-file": "the token", "tls-key": "the key of the certificate", "passphrase-file": "the passphrase of the seed",
}

// warnOfSecrets says of each secret that this command was given and that everybody on this
// machine can read. It is used all the same: whoever made the file may mean it.
func (a *app) warnOfSecrets(cmd *cobra.Command) {
	for name, what := range secretFlags {
		f := cmd.Flags().Lookup(name)
		if f == nil || f.Value.String() == "" {
			continue
		}
		if path := f.Value.String(); readable(path, 0o004) {
			a.out.say("WARNING: everybody on this machine can read %s in %s (--%s). Make it private: chmod 600 %s", what, path, name, path)
		}
	}
}

// readable reports whether a regular file may be read by more than its owner, as far as
// these bits say. What cannot be looked at is told of where it is read.
func readable(path string, bits os.FileMode) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&bits != 0
}

// secretFile reads a small file with a secret, which not everybody may read.
func secretFile(path string) (string, error) { return readSecret(path, 0o004) }

// ownSecret reads a secret that this program wrote, which nobody else may read.
func ownSecret(path string) (string, error) { return readSecret(path, 0o077) }

func readSecret(path string, bits os.FileMode) (string, error) {
	raw, err := readSmall(path)
	if err != nil {
		return "", err
	}
	if readable(path, bits) {
		return "", &failure{exit: exitLocal, code: "permissions", message: "others on this machine can read the secret in " + path, money: noMoney,
			next: "Make it private: chmod 600 " + path + "; where somebody may have read it, replace it."}
	}
	return strings.TrimSpace(string(raw)), nil
}
