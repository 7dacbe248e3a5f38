package mpp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may nest.
const maxDepth = 32

// ParseJSON reads one JSON text strictly and returns it as nil, bool, string,
// json.Number, []any and map[string]any. Beyond RFC 8259 it refuses what two
// readers could understand differently (I-JSON, RFC 7493): duplicate names,
// invalid UTF-8, lone surrogates, numbers beyond a double; also nesting deeper
// than 32. Errors: ErrJSON.
func ParseJSON(data []byte) (any, error) {
	p := &jsonParser{data: data}
	p.space()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.at != len(data) {
		return nil, p.fail("something follows the value")
	}
	return v, nil
}

// ParseObject is ParseJSON for a text that must be an object. Errors: ErrJSON.
func ParseObject(data []byte) (map[string]any, error) {
	v, err := ParseJSON(data)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: not an object", ErrJSON)
	}
	return m, nil
}

type jsonParser struct {
	data []byte
	at   int
}

func (p *jsonParser) fail(why string) error {
	return fmt.Errorf("%w: %s at byte %d", ErrJSON, why, p.at)
}

func (p *jsonParser) peek() byte {
	if p.at < len(p.data) {
		return p.data[p.at]
	}
	return 0
}

func (p *jsonParser) space() {
	for p.at < len(p.data) {
		switch p.data[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

func (p *jsonParser) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, p.fail("nested too deep")
	}
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.str()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	case p.word("null"):
		return nil, nil
	}
	return nil, p.fail("no value")
}

func (p *jsonParser) word(w string) bool {
	if len(p.data)-p.at < len(w) || string(p.data[p.at:p.at+len(w)]) != w {
		return false
	}
	p.at += len(w)
	return true
}

func (p *jsonParser) object(depth int) (map[string]any, error) {
	m := map[string]any{}
	p.at++
	p.space()
	if p.peek() == '}' {
		p.at++
		return m, nil
	}
	for {
		p.space()
		if p.peek() != '"' {
			return nil, p.fail("no name")
		}
		name, err := p.str()
		if err != nil {
			return nil, err
		}
		if _, ok := m[name]; ok {
			return nil, p.fail(fmt.Sprintf("duplicate name %.40q", name))
		}
		p.space()
		if p.peek() != ':' {
			return nil, p.fail("no colon")
		}
		p.at++
		p.space()
		if m[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		if end, err := p.next('}'); end || err != nil {
			return m, err
		}
	}
}

func (p *jsonParser) array(depth int) ([]any, error) {
	list := []any{}
	p.at++
	p.space()
	if p.peek() == ']' {
		p.at++
		return list, nil
	}
	for {
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if end, err := p.next(']'); end || err != nil {
			return list, err
		}
	}
}

// next reads what follows a member: a comma, or the end.
func (p *jsonParser) next(end byte) (bool, error) {
	p.space()
	switch p.peek() {
	case ',':
		p.at++
		return false, nil
	case end:
		p.at++
		return true, nil
	}
	return false, p.fail("no comma and no end")
}

func (p *jsonParser) digits() bool {
	from := p.at
	for p.peek() >= '0' && p.peek() <= '9' {
		p.at++
	}
	return p.at > from
}

func (p *jsonParser) number() (json.Number, error) {
	from := p.at
	if p.peek() == '-' {
		p.at++
	}
	switch {
	case p.peek() == '0':
		p.at++
	case !p.digits():
		return "", p.fail("no digits")
	}
	if p.peek() == '.' {
		p.at++
		if !p.digits() {
			return "", p.fail("no digits")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if !p.digits() {
			return "", p.fail("no digits")
		}
	}
	text := string(p.data[from:p.at])
	if _, err := strconv.ParseFloat(text, 64); err != nil {
		return "", p.fail("number beyond a double")
	}
	return json.Number(text), nil
}

func (p *jsonParser) str() (string, error) {
	p.at++
	from := p.at
	for p.at < len(p.data) && isPlain(p.data[p.at]) {
		p.at++
	}
	if p.peek() == '"' { // as nearly every string is
		p.at++
		return string(p.data[from : p.at-1]), nil
	}
	out := bytes.Clone(p.data[from:p.at])
	for p.at < len(p.data) {
		switch c := p.data[p.at]; {
		case c == '"':
			p.at++
			return string(out), nil
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		case c < 0x20:
			return "", p.fail("control character in a string")
		case c < utf8.RuneSelf:
			out = append(out, c)
			p.at++
		default:
			r, n := utf8.DecodeRune(p.data[p.at:])
			if r == utf8.RuneError && n == 1 {
				return "", p.fail("invalid UTF-8")
			}
			out = append(out, p.data[p.at:p.at+n]...)
			p.at += n
		}
	}
	return "", p.fail("unterminated string")
}

// isPlain reports whether a byte stands for itself in a string.
func isPlain(c byte) bool { return c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' }

const (
	escapeCodes = `"\/bfnrt`
	escapeRunes = "\"\\/\b\f\n\r\t"
)

func (p *jsonParser) escape() (rune, error) {
	p.at++
	c := p.peek()
	if c == 'u' {
		p.at++
		return p.unicode()
	}
	for i := range escapeCodes {
		if c == escapeCodes[i] {
			p.at++
			return rune(escapeRunes[i]), nil
		}
	}
	return 0, p.fail("unknown escape")
}

func (p *jsonParser) unicode() (rune, error) {
	r, err := p.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if !p.word(`\u`) {
		return 0, p.fail("lone surrogate")
	}
	low, err := p.hex4()
	if err != nil {
		return 0, err
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, p.fail("lone surrogate")
	}
	return r, nil
}

func (p *jsonParser) hex4() (rune, error) {
	if len(p.data)-p.at < 4 {
		return 0, p.fail("short escape")
	}
	r, ok := parseHex4(string(p.data[p.at : p.at+4]))
	if !ok {
		return 0, p.fail("escape is not hex")
	}
	p.at += 4
	return r, nil
}

// parseHex4 reads four hex digits.
func parseHex4(s string) (r rune, ok bool) {
	for i := 0; i < 4; i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
