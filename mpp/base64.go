package mpp

import (
	"encoding/base64"
	"fmt"
)

// EncodeBase64 encodes as base64url without padding. RFC 4648 section 5.
func EncodeBase64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// DecodeBase64 decodes base64url in its one canonical form: the URL alphabet, no
// padding, no white space or line breaks, and the unused bits of the last digit
// zero. So no two strings decode to the same bytes. Errors: ErrBase64.
func DecodeBase64(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil && len(s) == base64.RawURLEncoding.EncodedLen(len(b)) {
		return b, nil // line breaks are skipped by the library
	}
	for i := 0; i < len(s); i++ {
		if !isBase64(s[i]) {
			return nil, fmt.Errorf("%w: byte %d", ErrBase64, i)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBase64, err)
	}
	return b, nil
}

func isBase64(c byte) bool { return isAlnum(c) || c == '-' || c == '_' }

func isAlnum(c byte) bool { return isAlpha(c) || c-'0' <= 9 }

func isAlpha(c byte) bool { return (c|0x20)-'a' < 26 }
