package node

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// btc writes satoshi as the node wants them; no float is involved.
func btc(sat int64) json.Number {
	return json.Number(fmt.Sprintf("%d.%08d", sat/1e8, sat%1e8))
}

// parseBTC reads the node's amounts, in sat. Errors: ErrAnswer.
func parseBTC(n json.Number) (int64, error) {
	whole, part, _ := strings.Cut(n.String(), ".")
	a, err := strconv.ParseUint(whole, 10, 32)
	if err == nil && len(part) <= 8 && a <= 21_000_000 {
		var b uint64
		if b, err = strconv.ParseUint((part + "00000000")[:8], 10, 32); err == nil {
			return int64(a*1e8 + b), nil
		}
	}
	return 0, fmt.Errorf("%w: %q is no amount", ErrAnswer, n)
}

// hexBytes are bytes that are written in hex.
type hexBytes []byte

// UnmarshalText reads hex.
func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}
