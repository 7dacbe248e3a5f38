package main

import (
	"os"
	"path/filepath"

	"github.com/btcsuite/btcd/chaincfg/v2"
)

// checkFlags checks the common flags.
func (a *app) checkFlags() error {
	if _, err := a.params(); err != nil {
		return err
	}
	if err := a.caps.check(); err != nil {
		return err
	}
	if a.flags.data == "" {
		dir, err := defaultData()
		if err != nil && a.homeless {
			return nil // it asks for no folder
		}
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
