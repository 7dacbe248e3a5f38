package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// fromEnvironment sets every flag that was not given from SPILLWAY_… where that
// is set: SPILLWAY_MAX_PREPAY is --max-prepay.
func fromEnvironment(cmd *cobra.Command) error {
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := "SPILLWAY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(name)
		if f.Changed || !ok || value == "" || failed != nil { // a variable that is empty is none
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			failed = usagef("%s=%q: %v", name, value, err)
		}
	})
	return failed
}

// checkFlags checks the common flags.
func (a *app) checkFlags() error {
	if _, err := a.params(); err != nil {
		return err
	}
	if a.flags.data == "" {
		dir, err := defaultData()
		if err != nil {
			return usage(err)
		}
		a.flags.data = dir
	}
	dir, err := filepath.Abs(a.flags.data)
	if err != nil {
		return usage(err)
	}
	a.flags.data = dir
	if a.flags.passphraseFile != "" {
		_, err = a.passphrase()
	}
	return err
}

func defaultData() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "spillway"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "share", "spillway"), nil
}

// params are the parameters of the network that was chosen.
func (a *app) params() (*chaincfg.Params, error) {
	switch a.flags.network {
	case "regtest":
		return &chaincfg.RegressionNetParams, nil
	case "signet":
		return &chaincfg.SigNetParams, nil
	case "testnet4":
		return &chaincfg.TestNet4Params, nil
	case "mainnet":
		return &chaincfg.MainNetParams, nil
	default:
		return nil, usagef("unknown network %q: regtest, signet, testnet4 or mainnet", a.flags.network)
	}
}

func (a *app) regtest() bool { return a.flags.network == "regtest" }
