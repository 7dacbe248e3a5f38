package main

import (
	"errors"
	"path/filepath"

	"github.com/spillway/spillway/keys"
)

// Names of seed files in a role's folder.
const (
	plainSeed  = "seed"     // regtest without a passphrase, mode 0600
	sealedSeed = "seed.age" // sealed with a passphrase
)

// passphraseVariable holds the passphrase where no file does.
const passphraseVariable = "SPILLWAY_PASSPHRASE"

// passphrase reads the passphrase from its file or from the environment, never
// from the arguments.
func (a *app) passphrase() (string, error) {
	if a.secret != nil {
		return *a.secret, nil
	}
	text, err := keys.Passphrase(a.flags.passphraseFile, 0, passphraseVariable)
	if errors.Is(err, keys.ErrPassphrase) {
		return "", err
	} else if err != nil {
		return "", &failure{exit: exitLocal, code: "passphrase", message: err.Error(), money: noMoney, next: "Check --passphrase-file.", err: err}
	}
	a.secret = &text
	return text, nil
}

// guardMemory keeps what is about to be known out of core dumps. A system that
// forbids that is told of; the money is not kept from its owner for it.
func (a *app) guardMemory() {
	if err := keys.NoDumps(); err != nil {
		a.out.say("A crash could write the wallet's seed into a core dump here: %v", err)
	}
}

// readSeed reads the seed of a folder. Errors: keys.ErrNoSeed, ErrPassphrase.
func (a *app) readSeed(dir string) (string, error) {
	a.guardMemory()
	if err := a.sealedOnly(dir); err != nil {
		return "", err
	}
	words, err := keys.ReadPlain(filepath.Join(dir, plainSeed))
	if !errors.Is(err, keys.ErrNoSeed) {
		return words, err
	}
	pass, err := a.passphrase()
	if err != nil {
		return "", err
	}
	return keys.Open(filepath.Join(dir, sealedSeed), pass)
}

// writeSeed writes a seed to a folder that has none: sealed where there is a
// passphrase; only on regtest a plain file will do.
func (a *app) writeSeed(dir, words string) error {
	pass, err := a.passphrase()
	if err != nil {
		return err
	}
	if pass != "" {
		return keys.Seal(filepath.Join(dir, sealedSeed), words, pass)
	}
	if err := a.checkSealing(); err != nil {
		return err
	}
	return keys.WritePlain(filepath.Join(dir, plainSeed), words)
}
