package mpp

import (
	"fmt"
	"strings"
)

// MaxIdempotencyKey bounds an Idempotency-Key, in bytes.
const MaxIdempotencyKey = 255

// IdempotencyKey returns the one Idempotency-Key among the values of the field,
// as it is written (quotes, where there are any, belong to it), or "" where none
// is there. A key is 1 to 255 printable ASCII characters. It names a request
// for good: with it a retry is known, and is never billed again.
// draft-httpauth-payment-02 section 11.4.
// Errors: ErrRepeated, ErrIdempotencyKey.
func IdempotencyKey(headerValues []string) (string, error) {
	switch len(headerValues) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", fmt.Errorf("%s: %w", HeaderIdempotencyKey, ErrRepeated)
	}
	key := strings.Trim(headerValues[0], " \t")
	if key == "" || len(key) > MaxIdempotencyKey {
		return "", fmt.Errorf("%w: %d characters", ErrIdempotencyKey, len(key))
	}
	for i := 0; i < len(key); i++ {
		if key[i] < 0x20 || key[i] > 0x7e {
			return "", fmt.Errorf("%w: character %d", ErrIdempotencyKey, i)
		}
	}
	return key, nil
}
