package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/spillway/spillway/content"
)

// errRange: a range that this file does not have.
var errRange = errors.New("not a range of this file")

// parseSpan reads "a-b", both inclusive, digits only.
func parseSpan(text string) (a, b uint64, err error) {
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		return 0, 0, errors.New("not a-b")
	}
	if a, err = parsePlace(from); err != nil {
		return 0, 0, err
	}
	if b, err = parsePlace(to); err != nil {
		return 0, 0, err
	}
	if a > b {
		return 0, 0, errors.New("a is above b")
	}
	return a, b, nil
}

// parsePlace reads a byte's place: what is beyond every file is the last there is.
func parsePlace(text string) (uint64, error) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, errRange
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if errors.Is(err, strconv.ErrRange) {
		return 1<<63 - 1, nil
	}
	return n, err
}

// wanted is the range of bytes that a request asks for: all, or one range. Several
// ranges at once are refused. RFC 9110, section 14.
func wanted(r *http.Request, m *content.Manifest) (a, b uint64, partial bool, err error) {
	b = m.Size - min(m.Size, 1)
	field := strings.Join(r.Header.Values("Range"), ",")
	if tag := r.Header.Get("If-Range"); tag != "" && tag != etag(m) {
		field = ""
	}
	unit, text, ok := strings.Cut(field, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return 0, b, false, nil
	}
	if strings.Contains(text, ",") {
		return 0, 0, false, errors.New("one range at a time")
	}
	from, to, ok := strings.Cut(strings.TrimSpace(text), "-")
	switch {
	case !ok || m.Size == 0:
		return 0, 0, false, errRange
	case from == "":
		n, err := parsePlace(to)
		if err != nil || n == 0 {
			return 0, 0, false, errRange
		}
		return m.Size - min(n, m.Size), b, true, nil
	case to == "":
		a, err = parsePlace(from)
	default:
		var end uint64
		if a, end, err = parseSpan(from + "-" + to); err == nil {
			b = min(b, end)
		}
	}
	if err != nil || a >= m.Size {
		return 0, 0, false, errRange
	}
	return a, b, true, nil
}
