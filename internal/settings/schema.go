package settings

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	gotoml "github.com/pelletier/go-toml/v2"
)

// Keys are the keys that a struct, or a slice of structs, takes below a section, by
// the tags toml:"name" of its fields: proxy.rule[].price, or proxy.headers.* of a map.
// A field without a tag, or with "-", takes none.
func Keys(section string, v any) []string {
	return keysOf(section, reflect.TypeOf(v))
}

func keysOf(path string, t reflect.Type) (keys []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if _, text := reflect.New(t).Interface().(interface{ UnmarshalText([]byte) error }); text {
		return []string{path}
	}
	switch {
	case t.Kind() == reflect.Slice && holdsKeys(t.Elem()):
		return append([]string{path}, keysOf(path+"[]", t.Elem())...)
	case t.Kind() == reflect.Map:
		return append([]string{path}, keysOf(path+".*", t.Elem())...)
	case t.Kind() != reflect.Struct:
		return []string{path}
	}
	keys = []string{path}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("toml"), ",")
		if name != "" && name != "-" {
			keys = append(keys, keysOf(join(path, part(name)), t.Field(i).Type)...)
		}
	}
	return keys
}

func holdsKeys(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	_, text := reflect.New(t).Interface().(interface{ UnmarshalText([]byte) error })
	return t.Kind() == reflect.Struct && !text
}

// Check refuses a file with a key that is none of the known ones, and says which one
// it resembles. Errors: *Error of kind ErrUnknown.
func (f *File) Check(known []string) error {
	if f == nil {
		return nil
	}
	for _, e := range f.entries {
		if slices.ContainsFunc(known, func(k string) bool { return matches(e, k) }) {
			continue
		}
		text := fmt.Sprintf("unknown key %s", e.Path)
		if e.Table {
			text, known = fmt.Sprintf("unknown section [%s]", e.Path), tables(known)
		}
		if near := Near(e.shape, known); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return &Error{Kind: ErrUnknown, Path: f.path, Line: e.Line, Text: text}
	}
	return nil
}

// tables are the tables that known keys are in.
func tables(known []string) (all []string) {
	for _, k := range known {
		for i := range len(k) {
			if k[i] == '.' && !slices.Contains(all, k[:i]) {
				all = append(all, k[:i])
			}
		}
	}
	return all
}

// matches reports whether an entry is of a known key, or an empty table above it.
func matches(e Entry, known string) bool {
	have, want := strings.Split(e.shape, "."), strings.Split(known, ".")
	if len(have) != len(want) && !(e.Table && len(have) < len(want)) {
		return false
	}
	for i, name := range have {
		if want[i] != name && want[i] != "*" && !(e.Table && i == len(have)-1 && want[i] == name+"[]") {
			return false
		}
	}
	return true
}

// Decode decodes a section, or an array of them, into what into points to, by the tags
// toml:"name". What the file has besides is left alone: Check has looked at it. found
// is false where the file has no such section. Errors: *Error of kind ErrValue with the
// line.
func (f *File) Decode(section string, into any) (found bool, err error) {
	if _, ok := f.Get(section); !ok {
		return false, nil
	}
	t := reflect.StructOf([]reflect.StructField{{Name: "Section", Type: reflect.TypeOf(into), Tag: reflect.StructTag(`toml:"` + section + `"`)}})
	v := reflect.New(t)
	v.Elem().Field(0).Set(reflect.ValueOf(into))
	if err := gotoml.Unmarshal(f.raw, v.Interface()); err != nil {
		return true, f.syntax(err, ErrValue)
	}
	return true, nil
}

// Near are the known keys that a text was probably meant to be, at most three: in the
// same section or in another.
func Near(text string, known []string) (near []string) {
	last := func(s string) string { return s[strings.LastIndexByte(s, '.')+1:] }
	plain := strings.NewReplacer("_", "", "-", "", "[]", "").Replace
	try := func(like func(string) bool) {
		for _, k := range known {
			if len(near) < 3 && !strings.HasSuffix(k, "*") && !slices.Contains(near, k) && like(k) {
				near = append(near, k)
			}
		}
	}
	try(func(k string) bool { return strings.EqualFold(plain(k), plain(text)) })
	try(func(k string) bool {
		return strings.Count(k, ".") == strings.Count(text, ".") && distance(strings.ToLower(k), strings.ToLower(text)) <= 2
	})
	if len(near) == 0 { // the right name in another place
		try(func(k string) bool { return strings.EqualFold(plain(last(k)), plain(last(text))) })
	}
	return near
}

// distance is how many characters have to be added, dropped or changed.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return 3
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
