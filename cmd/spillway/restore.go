package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"path/filepath"

	"github.com/spillway/spillway/internal/durable"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
)

// skipKeys lets a wallet that was made from its words begin with channel keys that it
// has hardly used before: nothing tells how many channels it had. A number of 15 bits
// names the block of 65,536 keys.
func skipKeys(ctx context.Context, s payer.Store) error {
	var dice [2]byte
	if _, err := rand.Read(dice[:]); err != nil {
		return err
	}
	block := uint32(binary.BigEndian.Uint16(dice[:]) >> 1)
	return payer.SkipKeys(ctx, s, max(block, 1)<<16-1)
}

// challengeSecrets are the secret of the present epoch of a provider's challenges, and
// those of the epochs before restores.
func (r *role) challengeSecrets(ctx context.Context) (now [32]byte, before [][32]byte, err error) {
	epoch, old, err := payee.Epochs(ctx, r.store)
	if err != nil {
		return now, nil, err
	}
	for _, e := range old {
		secret, err := r.keys.ChallengeSecret(e)
		if err != nil {
			return now, nil, err
		}
		before = append(before, secret)
	}
	now, err = r.keys.ChallengeSecret(epoch)
	return now, before, err
}

// dropSeed takes back a seed that was put just now into a folder of another one.
func dropSeed(dir string) error {
	return errors.Join(durable.Remove(filepath.Join(dir, plainSeed)), durable.Remove(filepath.Join(dir, sealedSeed)))
}

// noSeedYet says that a folder that was restored from a backup lacks its seed.
func noSeedYet(r *role) error {
	next := "Put the seed back: spillway wallet restore"
	if r.name == "payee" {
		next += " --provider"
	}
	return &failure{exit: exitLocal, code: "no-wallet", message: "the seed of " + r.dir + " is not there", money: noMoney, next: next, err: keys.ErrNoSeed}
}
