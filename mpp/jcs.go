package mpp

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// JCS returns the canonical JSON of a value (RFC 8785): names sorted by their
// UTF-16 code units, numbers as ECMAScript prints doubles, the shortest escapes,
// no white space. Any value that encoding/json takes will do; a json.RawMessage
// is read as JSON, strictly. Integers that a double can't hold exactly are
// refused rather than rounded (amounts travel as decimal strings). Errors: ErrJSON, ErrNumber.
func JCS(v any) ([]byte, error) {
	if out, ok := appendPlain(make([]byte, 0, 512), v, 0); ok {
		return out, nil
	}
	raw, ok := v.(json.RawMessage)
	if !ok {
		var err error
		if raw, err = json.Marshal(v); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrJSON, err)
		}
	}
	tree, err := ParseJSON(raw)
	if err != nil {
		return nil, err
	}
	return appendJCS(nil, tree)
}

// EncodeJSON is the form of request, opaque and receipts: JCS in base64url
// without padding. Errors: those of JCS.
func EncodeJSON(v any) (string, error) {
	b, err := JCS(v)
	if err != nil {
		return "", err
	}
	return EncodeBase64(b), nil
}

// DecodeJSON is the reverse of EncodeJSON for an object. It takes any strict
// JSON, canonical or not: what is bound is the string as it came, never what it
// would be encoded to anew. Errors: ErrBase64, ErrJSON.
func DecodeJSON(s string) (map[string]any, error) {
	b, err := DecodeBase64(s)
	if err != nil {
		return nil, err
	}
	return ParseObject(b)
}

// EncodeOpaque encodes a challenge's opaque parameter, a flat map of strings.
// Errors: ErrJSON.
func EncodeOpaque(m map[string]string) (string, error) {
	if m == nil {
		m = map[string]string{}
	}
	return EncodeJSON(m)
}

// DecodeOpaque decodes a challenge's opaque parameter. Errors: ErrBase64, ErrJSON.
func DecodeOpaque(s string) (map[string]string, error) {
	obj, err := DecodeJSON(s)
	if err != nil {
		return nil, err
	}
	flat := make(map[string]string, len(obj))
	for name, v := range obj {
		text, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%w: opaque %.40q is not a string", ErrJSON, name)
		}
		flat[name] = text
	}
	return flat, nil
}

func appendJCS(out []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(out, "null"...), nil
	case bool:
		return strconv.AppendBool(out, v), nil
	case string:
		return appendString(out, v), nil
	case json.Number:
		return appendNumber(out, v)
	case []any:
		return appendArray(out, v)
	case map[string]any:
		return appendObject(out, v)
	}
	return nil, fmt.Errorf("%w: %T", ErrJSON, v)
}

func appendArray(out []byte, list []any) (_ []byte, err error) {
	out = append(out, '[')
	for i, v := range list {
		if i > 0 {
			out = append(out, ',')
		}
		if out, err = appendJCS(out, v); err != nil {
			return nil, err
		}
	}
	return append(out, ']'), nil
}

func appendObject(out []byte, m map[string]any) (_ []byte, err error) {
	type member struct {
		units []uint16
		name  string
	}
	members := make([]member, 0, len(m))
	for name := range m {
		members = append(members, member{utf16.Encode([]rune(name)), name})
	}
	slices.SortFunc(members, func(a, b member) int { return slices.Compare(a.units, b.units) })
	out = append(out, '{')
	for i, e := range members {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(out, e.name), ':')
		if out, err = appendJCS(out, m[e.name]); err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

// appendString writes a string with the escapes of RFC 8785 section 3.2.2.2.
func appendString(out []byte, s string) []byte {
	out = append(out, '"')
	plain := 0
	for plain < len(s) && isPlain(s[plain]) {
		plain++
	}
	out = append(out, s[:plain]...)
	for _, r := range s[plain:] {
		switch r {
		case '"', '\\':
			out = append(out, '\\', byte(r))
		case '\b':
			out = append(out, `\b`...)
		case '\f':
			out = append(out, `\f`...)
		case '\n':
			out = append(out, `\n`...)
		case '\r':
			out = append(out, `\r`...)
		case '\t':
			out = append(out, `\t`...)
		default:
			if r < 0x20 {
				out = append(out, fmt.Sprintf(`\u%04x`, r)...)
			} else {
				out = utf8.AppendRune(out, r)
			}
		}
	}
	return append(out, '"')
}

// appendNumber prints a number. A whole number of up to 21 digits would be
// printed without an exponent: it must come out as it went in.
func appendNumber(out []byte, n json.Number) ([]byte, error) {
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNumber, n)
	}
	from := len(out)
	out = appendDouble(out, f)
	if whole := strings.TrimPrefix(string(n), "-"); f != 0 && len(whole) <= 21 &&
		!strings.ContainsAny(whole, ".eE") && string(out[from:]) != string(n) {
		return nil, fmt.Errorf("%w: %s is beyond what a double holds", ErrNumber, n)
	}
	return out, nil
}

// appendDouble prints a finite double as ECMAScript's Number::toString does:
// the shortest digits that read back the same, laid out by the exponent.
// RFC 8785 section 3.2.2.3.
func appendDouble(out []byte, f float64) []byte {
	if f == 0 {
		return append(out, '0') // also -0
	}
	if f < 0 {
		out, f = append(out, '-'), -f
	}
	text := strconv.FormatFloat(f, 'e', -1, 64) // d.ddde±dd
	mantissa, exp, _ := strings.Cut(text, "e")
	whole, frac, _ := strings.Cut(mantissa, ".")
	digits := whole + frac
	e, _ := strconv.Atoi(exp) // FormatFloat's own
	point := e + 1            // digits before the decimal point
	switch {
	case len(digits) <= point && point <= 21:
		return appendZeros(append(out, digits...), point-len(digits))
	case 0 < point && point <= 21:
		return append(append(append(out, digits[:point]...), '.'), digits[point:]...)
	case -6 < point && point <= 0:
		return append(appendZeros(append(out, '0', '.'), -point), digits...)
	}
	out = append(out, digits[0])
	if len(digits) > 1 {
		out = append(append(out, '.'), digits[1:]...)
	}
	out = append(out, 'e')
	if e > 0 {
		out = append(out, '+')
	}
	return strconv.AppendInt(out, int64(e), 10)
}

func appendZeros(out []byte, n int) []byte {
	for range n {
		out = append(out, '0')
	}
	return out
}
