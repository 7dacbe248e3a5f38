package badinput

import (
	"bytes"
	"strings"
)

// Header is what can be wrong with a header of the form `Scheme name="value", …`: as
// a whole, and with each parameter.
func Header(name, scheme string, params [][2]string) (cases []Case) {
	write := func(change func(i int) string) string {
		list := []string{}
		for i, p := range params {
			text := p[0] + `="` + p[1] + `"`
			if change != nil {
				if other := change(i); other != "=" {
					text = other
				}
			}
			if text != "" {
				list = append(list, text)
			}
		}
		return scheme + " " + strings.Join(list, ", ")
	}
	good := write(nil)
	add := func(what, input string) {
		cases = append(cases, Case{Group: name, What: what, Input: []byte(input)})
	}
	addTo := func(key, what, input string) {
		cases = append(cases, Case{Group: name + ": " + key, What: what, Input: []byte(input)})
	}
	add("empty", "")
	add("another scheme", "Basic"+strings.TrimPrefix(good, scheme))
	add("the scheme alone", scheme)
	add("cut in half", good[:len(good)/2])
	add("without its last byte", good[:len(good)-1])
	add("something behind it", good+" x")
	add("endless", good+strings.Repeat(" ", 1<<20)+"x")
	add("a line end in it", strings.Replace(good, ", ", ",\r\n ", 1)+"\n")
	add("NUL in it", strings.Replace(good, `="`, "=\"\x00", 1))
	for i, p := range params {
		only := func(text string) string {
			return write(func(j int) string {
				if j == i {
					return text
				}
				return "="
			})
		}
		key, v := p[0], p[1]
		addTo(key, "missing", only(""))
		addTo(key, "empty", only(key+`=""`))
		addTo(key, "twice", only(key+`="`+v+`", `+key+`="`+v+`"`))
		addTo(key, "without a value", only(key))
		addTo(key, "unquoted and cut", only(key+`="`+v))
		addTo(key, "a control character", only(key+"=\"\x01"+v+`"`))
		addTo(key, "endless", only(key+`="`+strings.Repeat("A", 70_000)+`"`))
	}
	return cases
}

// Bytes is what can be wrong with a file or a message of bytes, of whatever form:
// nothing, cut at several places, a bit changed at several places, garbage, twice.
func Bytes(name string, good []byte) (cases []Case) {
	add := func(what string, input []byte) {
		cases = append(cases, Case{Group: name, What: what, Input: input})
	}
	add("empty", nil)
	add("one byte", []byte{good[0]})
	add("garbage", bytes.Repeat([]byte{0x17, 0xff, 0}, 100))
	add("zeros", make([]byte, len(good)))
	add("text", []byte("this is none\n"))
	for _, part := range []int{1, 2, 3} {
		add([]string{"", "a quarter of it", "half of it", "three quarters of it"}[part], good[:len(good)*part/4])
	}
	add("without its last bytes", good[:len(good)-2])
	for _, part := range []int{0, 1, 2, 3} {
		flipped := bytes.Clone(good)
		flipped[len(good)*part/4] ^= 0x15
		add([]string{"a bit of its beginning changed", "a bit in its first half changed", "a bit in its middle changed", "a bit in its second half changed"}[part], flipped)
	}
	return cases
}
