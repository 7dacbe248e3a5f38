package content

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrPriceList: a line of a price list that is not understood; the error names it.
var ErrPriceList = errors.New("not a line of a price list")

// maxPriceList bounds a price list, in bytes, and how many rules it has.
const (
	maxPriceList = 1 << 20
	maxRules     = 10_000
)

// PriceList says which files have which terms: a line for each rule, GLOB PRICE and
// then any of "chunk SIZE", "chunks N" and "preview SIZE"; the first that matches a
// file's name counts. docs/selling.md has the format. A nil list has no rules.
type PriceList struct{ rules []rule }

type rule struct {
	glob  string
	terms Terms // Chunk is zero where the line names none
	line  int
}

// ParsePriceList reads a price list to its end. Empty lines and what follows # at the
// beginning of a field are left out; a glob with spaces stands in double quotes.
// Errors: ErrPriceList with the number of the line, and r's.
func ParsePriceList(r io.Reader) (*PriceList, error) {
	scan := bufio.NewScanner(io.LimitReader(r, maxPriceList+1))
	scan.Buffer(nil, maxPriceList)
	list, read := &PriceList{}, 0
	for n := 1; scan.Scan(); n++ {
		if read += len(scan.Bytes()) + 1; read > maxPriceList {
			return nil, fmt.Errorf("%w: longer than %d bytes", ErrPriceList, maxPriceList)
		}
		fields, err := splitFields(scan.Text())
		if err == nil && len(fields) == 0 {
			continue
		}
		one := rule{line: n}
		if err == nil {
			err = one.parse(fields)
		}
		if err == nil && len(list.rules) == maxRules {
			err = fmt.Errorf("more than %d rules", maxRules)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrPriceList, n, err)
		}
		list.rules = append(list.rules, one)
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPriceList, err)
	}
	return list, nil
}

// splitFields splits a line at spaces and tabs; a field in double quotes is a Go
// string. # where a field could begin ends the line.
func splitFields(line string) (fields []string, err error) {
	for {
		line = strings.TrimLeft(line, " \t\r")
		switch {
		case line == "" || line[0] == '#':
			return fields, nil
		case line[0] == '"':
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, errors.New("a quote that does not end")
			}
			text, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, err
			}
			fields, line = append(fields, text), line[len(quoted):]
		default:
			end := strings.IndexAny(line, " \t\r")
			if end < 0 {
				end = len(line)
			}
			fields, line = append(fields, line[:end]), line[end:]
		}
	}
}

func (r *rule) parse(fields []string) (err error) {
	if len(fields) < 2 {
		return errors.New("a glob and a price are wanted, such as: *.iso 1sat/MiB")
	}
	r.glob = strings.TrimPrefix(fields[0], "/")
	if i := strings.IndexFunc(r.glob, unicode.IsControl); i >= 0 || !utf8.ValidString(r.glob) {
		return fmt.Errorf("glob %.80q: no file's name has that", fields[0])
	}
	for element := range strings.SplitSeq(r.glob, "/") {
		if _, err := path.Match(element, ""); err != nil || element == "" {
			return fmt.Errorf("glob %q: %w", fields[0], path.ErrBadPattern)
		}
	}
	if r.terms.Price, err = ParsePrice(fields[1]); err != nil {
		return err
	}
	said := map[string]bool{}
	for rest := fields[2:]; len(rest) > 0; rest = rest[2:] {
		what := strings.TrimSuffix(rest[0], "s")
		if len(rest) < 2 || said[what] {
			return fmt.Errorf("%q: wanted are chunk SIZE or chunks N, and preview SIZE, each once and with a value", rest[0])
		}
		said[what] = true
		if err := r.option(rest[0], rest[1]); err != nil {
			return err
		}
	}
	return nil
}

func (r *rule) option(name, value string) (err error) {
	switch name {
	case "chunk":
		r.terms.Chunk.Bytes, err = ParseBytes(value)
	case "chunks":
		if r.terms.Chunk.Count, err = strconv.ParseUint(value, 10, 53); err != nil {
			return fmt.Errorf("chunks %q: a number is wanted", value)
		}
	case "preview":
		if r.terms.Preview, err = ParseBytes(value); err == nil && r.terms.Price == Free {
			err = errors.New("a free file has no preview")
		}
		return err
	default:
		return fmt.Errorf("%q is neither chunk, chunks nor preview", name)
	}
	if err == nil && r.terms.Chunk == (ChunkSpec{}) {
		err = fmt.Errorf("%s %s: %w", name, value, ErrZero)
	}
	return err
}

// terms are those of the first rule that matches; ok is false where none does. A
// rule that names no chunk takes the given one.
func (l *PriceList) terms(name string, chunk ChunkSpec) (t Terms, ok bool) {
	if l == nil {
		return t, false
	}
	for _, r := range l.rules {
		if MatchGlob(r.glob, name) {
			if t = r.terms; t.Chunk == (ChunkSpec{}) {
				t.Chunk = chunk
			}
			return t, true
		}
	}
	return t, false
}

// Unused returns the lines, with their globs, of rules that are the first to match
// none of the names: a glob that was mistyped, or one behind a wider one.
func (l *PriceList) Unused(names []string) (lines []string) {
	if l == nil {
		return nil
	}
	used := make([]bool, len(l.rules))
	for _, name := range names {
		for i, r := range l.rules {
			if MatchGlob(r.glob, name) {
				used[i] = true
				break
			}
		}
	}
	for i, r := range l.rules {
		if !used[i] {
			lines = append(lines, fmt.Sprintf("line %d: %s", r.line, r.glob))
		}
	}
	return lines
}

// MatchGlob reports whether a file's name matches a glob. A glob without a slash is
// held against the last element of the name; one with slashes against all of it,
// where ** stands for any number of folders, and * and ? for anything but a slash.
func MatchGlob(glob, name string) bool {
	elements := strings.Split(name, "/")
	if !strings.Contains(glob, "/") && glob != "**" {
		elements = elements[len(elements)-1:]
	}
	return matchElements(strings.Split(glob, "/"), elements)
}

// matchElements matches in time that grows with the product of the lengths: of
// several ** only the last one has to be tried again.
func matchElements(glob, name []string) bool {
	g, n, star, from := 0, 0, -1, 0
	for n < len(name) {
		if g < len(glob) && glob[g] == "**" {
			star, from = g, n
			g++
			continue
		}
		if g < len(glob) {
			if ok, err := path.Match(glob[g], name[n]); ok && err == nil {
				g, n = g+1, n+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		g, n = star+1, from
	}
	for g < len(glob) && glob[g] == "**" {
		g++
	}
	return g == len(glob)
}

// Terms are those of a file's name as the catalogue has them now.
func (c *Catalogue) Terms(name string) Terms {
	c.mu.RLock()
	list := c.prices
	c.mu.RUnlock()
	if t, ok := list.terms(name, c.cfg.Chunk); ok {
		return t
	}
	return Terms{Price: c.cfg.Price, Chunk: c.cfg.Chunk}
}

// SetPrices puts another price list in force; nil: none. The next Refresh offers the
// files whose terms changed anew, without hashing them where their chunks' groups
// stay as they are.
func (c *Catalogue) SetPrices(list *PriceList) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prices = list
}
