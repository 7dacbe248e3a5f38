// Package said reads what nodes say, for backends: text that is fit for a log, hashes and
// fee rates that are what they should be, and refusals as chain.ErrUnavailable. It asks
// nobody and remembers nothing.
package said

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

// Clip makes a node's text fit for a log: one line of at most so many printable bytes.
func Clip(text string, most int) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text[:min(most, len(text))], "?")))
}

// Failed turns what the node refused into unavailability: the question was a right one.
func Failed(err error) error {
	if err == nil || errors.Is(err, chain.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", chain.ErrUnavailable, err)
}

// Unavailable says what could not be asked, and why.
func Unavailable(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", chain.ErrUnavailable, what, err)
}

// Hash reads a hash as nodes write it. ok: it is one, whole.
func Hash(text string) (h chainhash.Hash, ok bool) {
	if len(text) != 2*chainhash.HashSize {
		return h, false
	}
	return h, chainhash.Decode(&h, text) == nil
}

// Rate reads a fee rate in bitcoin per 1000 vB, rounded up, at most chain.MaxFeeRate.
// ok: it is one.
func Rate(n json.Number) (rate script.FeeRate, ok bool) {
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f < 0 {
		return 0, false
	}
	return script.FeeRate(math.Min(float64(chain.MaxFeeRate), math.Ceil(f*1e8-1e-6))), true
}
