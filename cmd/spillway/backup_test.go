package main

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/store"
)

// A backup is restored only where it says that it is of this role and network, in a
// form that is known.
func TestReadAbout(t *testing.T) {
	a := &app{}
	a.flags.network = "regtest"
	for text, want := range map[string]error{
		`{"version":1,"role":"payee","network":"regtest","made":"2026-01-02T03:04:05Z"}`: nil,
		`{"version":1,"role":"payee","network":"mainnet","made":""}`:                     errOtherBackup,
		`{"version":1,"role":"payer","network":"regtest","made":""}`:                     errOtherBackup,
		`{"version":2,"role":"payee","network":"regtest","more":1}`:                      store.ErrNewer,
		`{"version":1,"role":"payee","network":"regtest","more":1}`:                      store.ErrDamaged,
		`{"version":0,"role":"payee","network":"regtest"}`:                               store.ErrDamaged,
		`{}`: store.ErrDamaged, ``: store.ErrDamaged, `null`: store.ErrDamaged, `{`: store.ErrDamaged,
	} {
		is, err := a.readAbout([]byte(text))
		if !errors.Is(err, want) || err == nil && (is.Role != "payee" || is.Made == "") {
			t.Errorf("%s: %+v, %v, want %v", text, is, err, want)
		}
	}
}

// Epochs are numbers that keys can be derived at, and differ.
func TestFreshEpoch(t *testing.T) {
	seen := map[uint32]bool{}
	for range 64 {
		n, err := freshEpoch()
		if err != nil || n >= 1<<31 || seen[n] {
			t.Fatalf("%d, %v", n, err)
		}
		seen[n] = true
	}
}
