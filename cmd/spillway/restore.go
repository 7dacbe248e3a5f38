package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"

	"github.com/spillway/spillway/payer"
)

// skipKeys lets a wallet that was made from its words begin with channel keys that it
// has hardly used before: nothing tells how many channels it had. A number of 15 bits
// names the block of 65,536 keys.
func (r *role) skipKeys(ctx context.Context) error {
	if r.name != "payer" {
		return nil
	}
	var dice [2]byte
	if _, err := rand.Read(dice[:]); err != nil {
		return err
	}
	block := uint32(binary.BigEndian.Uint16(dice[:]) >> 1)
	return payer.SkipKeys(ctx, r.store, max(block, 1)<<16-1)
}
