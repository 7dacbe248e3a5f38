package psbt

import (
	"crypto/sha256"

	"github.com/btcsuite/btcd/address/v2"
)

func sha256Sum(b []byte) [32]byte { return sha256.Sum256(b) }

func hash160(b []byte) []byte { return address.Hash160(b) }

// p2pkh is a script of the old kind.
func p2pkh() []byte {
	return append(append([]byte{0x76, 0xa9, 20}, make([]byte, 20)...), 0x88, 0xac)
}
