// Package settings reads a configuration file in TOML: which keys it has, on which
// line each stands, which of them nobody knows, and what was probably meant.
//
// It knows no key of its own, and it never falls back to anything: what is wrong with
// a file is said with its line.
package settings

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/v2"
	gotoml "github.com/pelletier/go-toml/v2"
)

// MaxBytes is how large a file may be.
const MaxBytes = 1 << 20

// Errors of a file. The text names the file and, where there is one, the line.
var (
	ErrSyntax  = errors.New("settings: no TOML")
	ErrUnknown = errors.New("settings: unknown key")
	ErrValue   = errors.New("settings: wrong value")
)

// Error is what is wrong with a file, and where.
type Error struct {
	Kind error  // ErrSyntax, ErrUnknown or ErrValue
	Path string // of the file
	Line int    // from 1; 0: of no line
	Text string
}

// Error names the file, the line and what is wrong.
func (e *Error) Error() string { return place(e.Path, e.Line) + ": " + e.Text }

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

func place(path string, line int) string {
	if line == 0 {
		return path
	}
	return path + ":" + strconv.Itoa(line)
}

// Entry is a key of a file, or a table where it holds nothing.
type Entry struct {
	// Path is where the key stands: serve.price, or proxy.rule[1].price of the second
	// [[proxy.rule]].
	Path  string
	Line  int
	Value any // nil of an empty table
	Table bool

	shape string // the path with every index left out: proxy.rule[].price
}

// File is a file that was read. A nil File has no keys.
type File struct {
	path    string
	raw     []byte
	tree    *koanf.Koanf
	entries []Entry
	lines   map[string]int
}

// bytesOf gives koanf what was read already.
type bytesOf []byte

func (b bytesOf) ReadBytes() ([]byte, error)            { return b, nil }
func (b bytesOf) Read() (map[string]interface{}, error) { return nil, errors.ErrUnsupported }

// Parse reads the text of a file; path is named in errors. Errors: *Error of kind
// ErrSyntax.
func Parse(path string, raw []byte) (*File, error) {
	f := &File{path: path, raw: raw, tree: koanf.New("."), lines: map[string]int{}}
	if len(raw) > MaxBytes {
		return nil, &Error{Kind: ErrSyntax, Path: path, Text: fmt.Sprintf("more than %d bytes", MaxBytes)}
	}
	if err := f.tree.Load(bytesOf(raw), toml.Parser()); err != nil {
		return nil, f.syntax(err, ErrSyntax)
	}
	var all map[string]any
	if err := gotoml.Unmarshal(raw, &all); err != nil {
		return nil, f.syntax(err, ErrSyntax)
	}
	if err := f.find(); err != nil {
		return nil, err
	}
	f.walk("", "", all)
	slices.SortStableFunc(f.entries, func(a, b Entry) int { return a.Line - b.Line })
	return f, nil
}

// syntax is an error of the TOML package, with its line.
func (f *File) syntax(err, kind error) error {
	e := &Error{Kind: kind, Path: f.path, Text: strings.TrimPrefix(err.Error(), "toml: ")}
	var at *gotoml.DecodeError
	if errors.As(err, &at) {
		e.Line, _ = at.Position()
		if key := at.Key(); len(key) > 0 && kind == ErrValue {
			e.Text = strings.Join(key, ".") + ": " + e.Text
		}
	}
	return e
}

// walk lists the keys below a table.
func (f *File) walk(path, shape string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 && path != "" {
			f.entries = append(f.entries, Entry{Path: path, Line: f.line(path), Table: true, shape: shape})
		}
		for name, value := range v {
			f.walk(join(path, part(name)), join(shape, part(name)), value)
		}
		return
	case []any:
		tables := len(v) > 0
		for _, one := range v {
			_, is := one.(map[string]any)
			tables = tables && is
		}
		for i, one := range v {
			if tables {
				f.walk(path+"["+strconv.Itoa(i)+"]", shape+"[]", one)
			}
		}
		if tables {
			return
		}
	}
	f.entries = append(f.entries, Entry{Path: path, Line: f.line(path), Value: v, shape: shape})
}

// line is where a path stands, or what it is in.
func (f *File) line(path string) int {
	for path != "" {
		if n := f.lines[path]; n > 0 {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// part is a key as it stands in a path: quoted where it holds more than TOML lets
// stand bare.
func part(name string) string {
	for _, r := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", r) {
			return strconv.Quote(name)
		}
	}
	if name == "" {
		return `""`
	}
	return name
}

// Entries are the keys of the file, in its order.
func (f *File) Entries() []Entry {
	if f == nil {
		return nil
	}
	return f.entries
}

// Path is the file's.
func (f *File) Path() string {
	if f == nil {
		return ""
	}
	return f.path
}

// Get is the value of a key; ok is false where the file has none.
func (f *File) Get(path string) (v any, ok bool) {
	if f == nil || !f.tree.Exists(path) {
		return nil, false
	}
	return f.tree.Get(path), true
}

// At is where a key stands, as FILE:LINE.
func (f *File) At(path string) string {
	if f == nil {
		return ""
	}
	return place(f.path, f.line(path))
}

// Wrong is an error of a key's value.
func (f *File) Wrong(path, format string, args ...any) error {
	e := &Error{Kind: ErrValue, Text: path + ": " + fmt.Sprintf(format, args...)}
	if f != nil {
		e.Path, e.Line = f.path, f.line(path)
	}
	return e
}
