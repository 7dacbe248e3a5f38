package content

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrName: a name is not a clean relative path that is safe to print and to
// create below a folder.
var ErrName = errors.New("unsafe file name")

const (
	maxName    = 1024 // bytes
	maxElement = 255  // bytes between slashes
)

// CheckName accepts a relative path with slashes: UTF-8, at most 1024 bytes
// and 255 between slashes, no empty, "." or ".." element, none that is hidden
// (begins with a dot), no backslash, and no character that controls a terminal
// or the direction of text. Else ErrName with the reason.
func CheckName(name string) error {
	bad := func(why string) error {
		shown := name
		if len(shown) > 80 {
			shown = shown[:80]
		}
		return fmt.Errorf("%w %+q: %s", ErrName, shown, why)
	}
	switch {
	case name == "":
		return bad("empty")
	case len(name) > maxName:
		return bad("longer than 1024 bytes")
	case !utf8.ValidString(name):
		return bad("not UTF-8")
	case !fs.ValidPath(name):
		return bad("not a clean relative path")
	}
	for element := range strings.SplitSeq(name, "/") {
		if element[0] == '.' {
			return bad("hidden")
		}
		if len(element) > maxElement {
			return bad("an element is longer than 255 bytes")
		}
	}
	for _, r := range name {
		if r == '\\' || unicode.IsControl(r) || unsafeRune(r) {
			return bad(fmt.Sprintf("holds %U", r))
		}
	}
	return nil
}

// unsafeRune are characters that end a line or turn the direction of text, so
// that a name shows as another one.
func unsafeRune(r rune) bool {
	switch {
	case r == 0x2028, r == 0x2029, r == 0x200e, r == 0x200f, r == 0x061c, r == 0xfeff:
		return true
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}
