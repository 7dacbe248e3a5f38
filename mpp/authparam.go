package mpp

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// authItem is one challenge or one credential in a header value: a scheme with
// either a token68 or parameters. RFC 9110 sections 11.3 and 11.4.
type authItem struct {
	scheme string
	token  string // token68
	params map[string]string
}

// is reports whether the item is of a scheme; schemes have no case.
func (a authItem) is(scheme string) bool { return strings.EqualFold(a.scheme, scheme) }

// parseAuth reads one header value as a list of challenges or credentials.
// Empty list elements are skipped (RFC 9110 section 5.6.1). A comma both
// separates parameters and starts the next challenge: an element is a parameter
// where "=" follows its first token. Errors: ErrChallengeSyntax.
func parseAuth(value string) ([]authItem, error) {
	p := &authParser{s: value}
	var items []authItem
	for {
		p.skip(" \t,")
		if p.at == len(p.s) {
			return items, nil
		}
		word := p.token()
		if word == "" {
			return nil, p.fail("no token")
		}
		if from := p.at; len(items) > 0 && items[len(items)-1].token == "" && p.equals() {
			if err := p.param(&items[len(items)-1], word); err != nil {
				return nil, err
			}
			if !p.end() {
				return nil, p.fail("no comma")
			}
			continue
		} else {
			p.at = from
		}
		item := authItem{scheme: word, params: map[string]string{}}
		if err := p.first(&item); err != nil {
			return nil, err
		}
		items = append(items, item)
	}
}

type authParser struct {
	s  string
	at int
}

func (p *authParser) fail(why string) error {
	return fmt.Errorf("%w: %s at byte %d", ErrChallengeSyntax, why, p.at)
}

func (p *authParser) skip(chars string) {
	for p.at < len(p.s) && strings.IndexByte(chars, p.s[p.at]) >= 0 {
		p.at++
	}
}

// run reads bytes as long as they are of a kind.
func (p *authParser) run(is func(byte) bool) string {
	from := p.at
	for p.at < len(p.s) && is(p.s[p.at]) {
		p.at++
	}
	return p.s[from:p.at]
}

func (p *authParser) token() string { return p.run(isToken) }

// equals reads the "=" of a parameter, with the bad white space around it.
func (p *authParser) equals() bool {
	p.skip(" \t")
	if p.at == len(p.s) || p.s[p.at] != '=' {
		return false
	}
	p.at++
	p.skip(" \t")
	return true
}

// end reports whether the list element ends here.
func (p *authParser) end() bool {
	p.skip(" \t")
	return p.at == len(p.s) || p.s[p.at] == ','
}

// first reads what follows a scheme: nothing, a token68, or its first parameter.
func (p *authParser) first(item *authItem) error {
	if p.end() {
		return nil
	}
	from := p.at
	if p.s[from-1] != ' ' && p.s[from-1] != '\t' {
		return p.fail("no space after the scheme")
	}
	p.run(isToken68)
	p.skip("=")
	if text := p.s[from:p.at]; p.end() && text != "" && text[0] != '=' {
		item.token = text
		return nil
	}
	p.at = from
	name := p.token()
	if name == "" || !p.equals() {
		return p.fail("neither a token68 nor a parameter")
	}
	if err := p.param(item, name); err != nil {
		return err
	}
	if !p.end() {
		return p.fail("no comma")
	}
	return nil
}

// param reads a parameter's value. Names have no case and come once.
func (p *authParser) param(item *authItem, name string) error {
	name = strings.ToLower(name)
	if _, ok := item.params[name]; ok {
		return p.fail("repeated parameter " + name[:min(len(name), 40)])
	}
	if p.at < len(p.s) && p.s[p.at] == '"' {
		text, err := p.quoted()
		item.params[name] = text
		return err
	}
	text := p.token()
	if text == "" {
		return p.fail("no value")
	}
	item.params[name] = text
	return nil
}

// quoted reads a quoted-string. Beyond RFC 9110, \uhhhh (a UTF-16 code unit in
// hex) stands for a character that a header can't carry, as [quote] writes it.
// Bytes above 0x7f are taken as UTF-8 where that is what they are, else as
// ISO 8859-1.
func (p *authParser) quoted() (string, error) {
	p.at++
	from := p.at
	for p.at < len(p.s) && isPlain(p.s[p.at]) && p.s[p.at] != 0x7f {
		p.at++
	}
	if p.at < len(p.s) && p.s[p.at] == '"' { // as nearly every value is
		p.at++
		return p.s[from : p.at-1], nil
	}
	out := []byte(p.s[from:p.at])
	for p.at < len(p.s) {
		c := p.s[p.at]
		switch {
		case c == '"':
			p.at++
			return text(out), nil
		case c == '\\':
			p.at++
			if err := p.pair(&out); err != nil {
				return "", err
			}
		case c < 0x20 && c != '\t' || c == 0x7f:
			return "", p.fail("control character")
		default:
			out = append(out, c)
			p.at++
		}
	}
	return "", p.fail("unterminated quoted-string")
}

// pair reads what follows a backslash.
func (p *authParser) pair(out *[]byte) error {
	if r, n := unescape(p.s[p.at:]); n > 0 {
		*out = utf8.AppendRune(*out, r)
		p.at += n
		return nil
	}
	if p.at == len(p.s) {
		return p.fail("unterminated quoted-string")
	}
	c := p.s[p.at]
	if c < 0x20 && c != '\t' || c == 0x7f {
		return p.fail("control character")
	}
	*out = append(*out, c)
	p.at++
	return nil
}

// text makes valid UTF-8 of a quoted-string's bytes.
func text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = utf8.AppendRune(out, rune(c))
	}
	return string(out)
}

func isToken(c byte) bool { return isAlnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 }

func isToken68(c byte) bool {
	switch c {
	case '-', '.', '_', '~', '+', '/':
		return true
	}
	return isAlnum(c)
}
