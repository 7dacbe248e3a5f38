package mpp

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// quote writes a quoted-string of plain ASCII (RFC 9110 section 5.6.4). What is
// not printable ASCII becomes \uhhhh, one for each UTF-16 code unit, so that a
// header value is always legal and no line break gets in.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= 0x20 && r < 0x7f:
			b.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
	}
	b.WriteByte('"')
	return b.String()
}

// unescape reads uhhhh, or two of them that are a surrogate pair, after a
// backslash; n is how many bytes that were, 0 when it is nothing of the kind.
func unescape(s string) (r rune, n int) {
	r, ok := unit(s)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 5
	}
	if len(s) > 5 && s[5] == '\\' {
		if low, ok := unit(s[6:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 11
			}
		}
	}
	return utf8.RuneError, 5
}

func unit(s string) (rune, bool) {
	if len(s) < 5 || s[0] != 'u' {
		return 0, false
	}
	return parseHex4(s[1:5])
}
