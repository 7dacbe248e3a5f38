package mpp

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// exact is the largest whole number up to which a double holds every one.
const exact = 1 << 53

// appendPlain writes the canonical JSON of what needs no reading back: objects and
// lists of strings in UTF-8, whole numbers that a double holds, and booleans. ok is
// false for everything else, of which JCS makes JSON first.
func appendPlain(out []byte, v any, depth int) (_ []byte, ok bool) {
	if depth > maxDepth {
		return nil, false
	}
	switch v := v.(type) {
	case string:
		return appendString(out, v), utf8.ValidString(v)
	case bool:
		return strconv.AppendBool(out, v), true
	case map[string]any:
		return appendMembers(out, v, depth)
	case json.Number, json.Marshaler, encoding.TextMarshaler, nil:
		return nil, false
	}
	r := reflect.ValueOf(v)
	switch {
	case r.Kind() == reflect.String:
		return appendString(out, r.String()), utf8.ValidString(r.String())
	case r.CanInt() && -exact <= r.Int() && r.Int() <= exact:
		return strconv.AppendInt(out, r.Int(), 10), true
	case r.CanUint() && r.Uint() <= exact:
		return strconv.AppendUint(out, r.Uint(), 10), true
	case r.Kind() == reflect.Slice && !r.IsNil() && isPlainList(r.Type().Elem()):
		return appendList(out, r, depth)
	case r.Kind() == reflect.Map && r.CanConvert(reflect.TypeFor[map[string]any]()):
		return appendMembers(out, r.Convert(reflect.TypeFor[map[string]any]()).Interface().(map[string]any), depth)
	}
	return nil, false
}

// isPlainList reports whether a list's elements are strings, or tell their types
// themselves: what a pointer to one may marshal itself is not asked for here.
func isPlainList(elem reflect.Type) bool {
	return elem.Kind() == reflect.Interface || elem.Kind() == reflect.String && reflect.PointerTo(elem).NumMethod() == 0
}

func appendList(out []byte, list reflect.Value, depth int) (_ []byte, ok bool) {
	out = append(out, '[')
	for i := range list.Len() {
		if i > 0 {
			out = append(out, ',')
		}
		if out, ok = appendPlain(out, list.Index(i).Interface(), depth+1); !ok {
			return nil, false
		}
	}
	return append(out, ']'), true
}

// appendMembers writes an object; only names in ASCII are sorted alike by bytes and by
// UTF-16 code units, as far as this function knows.
func appendMembers(out []byte, m map[string]any, depth int) (_ []byte, ok bool) {
	if m == nil {
		return nil, false
	}
	names := make([]string, 0, 32)
	for name := range m {
		for i := range len(name) {
			if name[i] >= utf8.RuneSelf {
				return nil, false
			}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	out = append(out, '{')
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(out, name), ':')
		if out, ok = appendPlain(out, m[name], depth+1); !ok {
			return nil, false
		}
	}
	return append(out, '}'), true
}
