package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/paywall"
)

// What is typed is looked at before a folder is opened or made: a mistake changes
// nothing.

// checkTyped refuses flags and arguments that were given and say nothing, as a
// variable that is not set does in a script, and flags that exclude each other.
func checkTyped(cmd *cobra.Command, args []string) (failed error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		list, many := f.Value.(pflag.SliceValue)
		empty := f.Value.Type() == "string" && f.Value.String() == ""
		if many {
			for _, s := range list.GetSlice() {
				empty = empty || s == ""
			}
		}
		if empty && failed == nil {
			failed = usagef("--%s is empty: give it a value, or leave it out", f.Name)
		}
	})
	for i, arg := range args {
		if arg == "" && failed == nil {
			failed = usagef("argument %d of %s is empty", i+1, cmd.CommandPath())
		}
	}
	if failed != nil {
		return failed
	}
	if err := cmd.ValidateFlagGroups(); err != nil {
		return usagef("flags were given that exclude each other: %v", err)
	}
	return nil
}

// checkTopics makes the commands that cobra adds refuse what they do not know.
func checkTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" || c.Name() == "help" {
			for _, topic := range append(c.Commands(), c) {
				topic.Annotations = map[string]string{unsettled: "yes"}
			}
		}
		switch c.Name() {
		case "completion":
			c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			help := c.Run
			c.Run = nil
			c.RunE = func(cmd *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return usagef("there is no command %q to help with", args)
				}
				help(cmd, args)
				return nil
			}
		}
	}
}

// checkURL refuses what is no address of a provider.
func checkURL(target string) error {
	u, err := url.Parse(target)
	if err != nil || paywall.Origin(target) == "" || u.Hostname() == "" || !goodPort(u.Port()) {
		return usagef("%q is no http or https URL, such as https://HOST/FILE", clipped(target))
	}
	if u.User != nil {
		return usagef("an address with a user or password in it is not asked: %s", bitcoind.Redact(target))
	}
	return nil
}

// goodPort reports whether a text is a port, or none.
func goodPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && n > 0
}

// checkAddress refuses what nothing can listen on. Port 0 is any that is free.
func checkAddress(listen string) (host string, err error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", usage(err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", usagef("--listen %s: a port is a number up to 65535", clipped(listen))
	}
	return host, nil
}

// loadTLS reads the certificate and the key of a listener; nil: it has none. They are
// read again at a reload.
func (a *app) loadTLS(cert, key string) (*tls.Config, error) {
	if (cert == "") != (key == "") {
		return nil, usagef("--tls-cert and --tls-key go together")
	}
	if cert == "" {
		return nil, nil
	}
	c := &certificate{cert: cert, key: key}
	if err := c.read(); err != nil {
		return nil, usagef("--tls-cert and --tls-key: %w", err)
	}
	a.cert = c
	a.onReload("certificate", c.read)
	return c.config(), nil
}

// checkChain refuses a --chain that cannot be. Nobody is asked.
func (a *app) checkChain() error {
	urls, err := a.chainURLs()
	if err != nil {
		return err
	}
	params, err := a.params()
	if err != nil {
		return err
	}
	for _, text := range urls {
		b, err := a.backend(text, params)
		if err != nil {
			return err
		}
		if c, ok := b.(interface{ Close() error }); ok {
			if err := c.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkOpening refuses, before a role's folder is made, a --chain that cannot be, and
// a network on which nobody makes a wallet by the way and there is none.
func (a *app) checkOpening(name string) error {
	if err := a.checkChain(); err != nil {
		return err
	}
	if err := a.checkSeller(name); err != nil {
		return err
	}
	if !a.regtest() && !a.exists(name) && !a.hasSeed(name) {
		return noWallet(a.folder(name))
	}
	return a.askRealMoney()
}

func noWallet(dir string) error {
	f := *explain(keys.ErrNoSeed)
	f.message = "there is no wallet in " + dir
	return &f
}

// hasSeed reports whether a role has a file with a seed, whatever is in it.
func (a *app) hasSeed(name string) bool {
	for _, file := range []string{plainSeed, sealedSeed} {
		if _, err := os.Lstat(filepath.Join(a.folder(name), file)); err == nil {
			return true
		}
	}
	return false
}

// checkSealing refuses to make a wallet that could not be kept.
func (a *app) checkSealing() error {
	pass, err := a.passphrase()
	if err == nil && pass != "" {
		return a.askRealMoney()
	}
	if err != nil || a.regtest() {
		return err
	}
	return &failure{exit: exitUsage, code: "no-passphrase", message: "a wallet on " + a.flags.network + " is sealed with a passphrase",
		money: noMoney, next: "Give one with --passphrase-file or SPILLWAY_PASSPHRASE."}
}

// check refuses a choice that is none, before anything is opened.
func (f *feeChoice) check() error {
	_, err := f.choose(context.Background(), nil)
	if errors.Is(err, errAskChain) {
		return nil
	}
	return err
}

// errAskChain: the going rate is the chain's to say.
var errAskChain = errors.New("the chain has to be asked")
