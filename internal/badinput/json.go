package badinput

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// JSON is what can be wrong with a JSON message: with the whole of it, and with each
// of its fields, those of objects within it included. Each field is left out, null,
// of every other type, there twice, and has values that its own value's form
// excludes: amounts that are negative, fractions or too large, hex that is cut,
// odd or in capitals, texts that are empty, endless or no text.
func JSON(name string, good []byte) ([]Case, error) {
	var tree any
	d := json.NewDecoder(bytes.NewReader(good))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		return nil, fmt.Errorf("%s: the good one: %w", name, err)
	}
	cases := whole(name, good)
	for _, f := range fieldsOf(tree, "") {
		for _, e := range editsOf(f.value) {
			text := render(tree, "", f.path, e.edit)
			cases = append(cases, Case{Group: name + ": " + f.path, What: e.name, Input: []byte(text)})
		}
	}
	return cases, nil
}

// whole is what can be wrong with a text of JSON as such.
func whole(name string, good []byte) []Case {
	text := string(good)
	cases := []Case{}
	add := func(what, input string) {
		cases = append(cases, Case{Group: name, What: what, Input: []byte(input)})
	}
	add("empty", "")
	add("blank", " \n")
	add("null", "null")
	add("a list", "["+text+"]")
	add("a string", `"x"`)
	add("a number", "7")
	add("an empty object", "{}")
	add("cut in half", text[:len(text)/2])
	add("without its last byte", text[:len(strings.TrimSpace(text))-1])
	add("something behind it", text+"x")
	add("there twice", text+text)
	add("garbage", "\x00\xff\x17garbage")
	add("no UTF-8", strings.Replace(text, `"`, "\"\xff", 1))
	add("too deep", strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000))
	return cases
}

// field is one field of a message, with the path to it.
type field struct {
	path  string
	value any
}

func fieldsOf(v any, path string) (list []field) {
	obj, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	for _, k := range sortedKeys(obj) {
		at := strings.TrimPrefix(path+"."+k, ".")
		list = append(append(list, field{at, obj[k]}), fieldsOf(obj[k], at)...)
	}
	return list
}

func sortedKeys(m map[string]any) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// edit writes a member of an object in another way; "" leaves it out.
type edit struct {
	name string
	edit func(key, value string) string
}

// put is an edit that gives a field another value, in JSON.
func put(name, value string) edit {
	return edit{name, func(key, _ string) string { return key + ":" + value }}
}

func quoted(s string) string { return `"` + s + `"` }

// editsOf are the edits of a field by the form of its value.
func editsOf(v any) []edit {
	list := []edit{
		{"missing", func(string, string) string { return "" }},
		put("null", "null"),
		{"twice", func(key, value string) string { return key + ":" + value + "," + key + ":" + value }},
		{"in capitals", func(key, value string) string { return strings.ToUpper(key) + ":" + value }},
	}
	switch v := v.(type) {
	case string:
		list = append(list, put("a number", "7"), put("an object", "{}"), put("a list", "["+mustJSON(v)+"]"), put("true", "true"), put("empty", `""`), put("endless", quoted(strings.Repeat("7", 70_000))))
		return append(list, texts(v)...)
	case json.Number:
		return append(list, put("a string", quoted(v.String())), put("an object", "{}"), put("true", "true"), put("negative", "-1"), put("a fraction", v.String()+".5"),
			put("with an exponent", "1e400"), put("above 2^64", "18446744073709551616"), put("above 2^53", "9007199254740993"), put("with a leading zero", "0"+v.String()))
	case bool:
		return append(list, put("a string", `"true"`), put("a number", "1"))
	case []any:
		return append(list, put("a string", `"x"`), put("an object", "{}"), put("empty", "[]"), put("of null", "[null]"), put("of numbers", "[7]"), put("of lists", "[[]]"), put("of empty strings", `[""]`))
	default:
		return append(list, put("a string", `"x"`), put("a number", "7"), put("a list", "[]"), put("empty", "{}"))
	}
}

// texts are the edits of a string by what it looks like.
func texts(v string) []edit {
	switch {
	case decimal(v):
		return []edit{
			put("negative", quoted("-"+v)), put("with a plus", quoted("+"+v)), put("a fraction", quoted(v+".5")), put("with an exponent", quoted("1e3")),
			put("with a leading zero", quoted("0"+v)), put("with a space", quoted(" "+v)), put("in hex", quoted("0x10")), put("above 2^64", quoted("18446744073709551616")),
			put("above all coins", quoted("2100000000000000001")), put("a word", quoted("many")),
		}
	case hexText(v):
		return []edit{
			put("cut", quoted(v[:len(v)-2])), put("odd", quoted(v[1:])), put("longer", quoted(v+strings.Repeat("00", 110_000))), put("no hex", quoted("zz"+v[2:])),
			put("with a capital", quoted("AB"+v[2:])), put("with 0x", quoted("0x"+v)), put("with a space", quoted(" "+v)),
		}
	default:
		return []edit{put("with NUL", quoted(`\u0000`)), put("a lone surrogate", quoted(`\ud800`)), put("a word", quoted("nonsense")), put("with a space", quoted(" "+escaped(v)))}
	}
}

func decimal(s string) bool {
	return s != "" && len(s) < 21 && strings.Trim(s, "0123456789") == ""
}

func hexText(s string) bool {
	return len(s) > 3 && len(s)%2 == 0 && strings.Trim(s, "0123456789abcdef") == ""
}

func mustJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers and what was decoded from JSON
	}
	return string(raw)
}

func escaped(s string) string { text := mustJSON(s); return text[1 : len(text)-1] }

// render writes a tree as JSON, with one member written by an edit.
func render(v any, path, target string, how func(key, value string) string) string {
	obj, ok := v.(map[string]any)
	if !ok {
		return mustJSON(v)
	}
	members := []string{}
	for _, k := range sortedKeys(obj) {
		at := strings.TrimPrefix(path+"."+k, ".")
		key, value := mustJSON(k), render(obj[k], at, target, how)
		member := key + ":" + value
		if at == target {
			member = how(key, value)
		}
		if member != "" {
			members = append(members, member)
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}
