package mpp

import (
	"fmt"
	"slices"
	"strings"
)

// maxAccept bounds Accept-Payment, in bytes, and maxRanges its entries.
const (
	maxAccept = 4 << 10
	maxRanges = 64
)

// Range is one entry of Accept-Payment: a method and an intent, either of which
// may be "*", and how much it is liked, in thousandths (0 means never).
type Range struct {
	Method, Intent string
	Q              int
}

// Accept is what a client can pay with. An empty one accepts everything.
// draft-httpauth-payment-02 section 7.4.
type Accept []Range

// ParseAccept reads the values of Accept-Payment. A server may ignore one that
// is malformed. Errors: ErrAccept, ErrTooLarge.
func ParseAccept(headerValues []string) (Accept, error) {
	if err := checkSize(headerValues, maxAccept); err != nil {
		return nil, err
	}
	var a Accept
	for _, value := range headerValues {
		for _, entry := range strings.Split(value, ",") {
			if entry = strings.Trim(entry, " \t"); entry == "" {
				continue
			}
			r, err := parseRange(entry)
			if err != nil {
				return nil, err
			}
			if a = append(a, r); len(a) > maxRanges {
				return nil, fmt.Errorf("%w: more than %d entries", ErrAccept, maxRanges)
			}
		}
	}
	return a, nil
}

func parseRange(entry string) (Range, error) {
	fail := func(why string) (Range, error) { return Range{}, fmt.Errorf("%w: %s in %.60q", ErrAccept, why, entry) }
	name, params, _ := strings.Cut(entry, ";")
	method, intent, ok := strings.Cut(strings.Trim(name, " \t"), "/")
	if !ok {
		return fail("no slash")
	}
	if method != "*" && !isMethod(method) || intent != "*" && !isIntent(intent) {
		return fail("no method or intent")
	}
	r := Range{Method: method, Intent: intent, Q: 1000}
	if !strings.Contains(entry, ";") {
		return r, nil
	}
	weighed := false
	for _, p := range strings.Split(params, ";") {
		name, value, ok := strings.Cut(strings.Trim(p, " \t"), "=")
		if !ok || name == "" {
			return fail("a parameter without a value")
		}
		if !strings.EqualFold(name, "q") {
			continue
		}
		if weighed {
			return fail("two weights")
		}
		if r.Q, weighed = parseQ(value); !weighed {
			return fail("no weight")
		}
	}
	return r, nil
}

// parseQ reads a weight in thousandths: 0 to 1 with at most three decimals.
// RFC 9110 section 12.4.2.
func parseQ(s string) (int, bool) {
	whole, frac, _ := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || len(frac) > 3 {
		return 0, false
	}
	q := int(whole[0] - '0')
	for i := 0; i < 3; i++ {
		q *= 10
		if i < len(frac) {
			if frac[i] < '0' || frac[i] > '9' {
				return 0, false
			}
			q += int(frac[i] - '0')
		}
	}
	return q, q <= 1000
}

// Quality is how much a method and intent are liked, in thousandths; 0 means
// that they must not be offered. The most specific range counts (the one with
// the fewest "*"), of equals the one with the greatest weight.
func (a Accept) Quality(method, intent string) int {
	if len(a) == 0 {
		return 1000
	}
	best, q := -1, 0
	for _, r := range a {
		if r.Method != "*" && r.Method != method || r.Intent != "*" && r.Intent != intent {
			continue
		}
		s := 0
		if r.Method != "*" {
			s++
		}
		if r.Intent != "*" {
			s++
		}
		if s > best || s == best && r.Q > q {
			best, q = s, r.Q
		}
	}
	return q
}

// Rank returns the challenges that the client accepts, the best liked first, in
// the server's order among equals. It is empty where none is accepted; a server
// may then offer all of them.
func (a Accept) Rank(offers []Challenge) []Challenge {
	var ranked []Challenge
	for _, c := range offers {
		if a.Quality(c.Method, c.Intent) > 0 {
			ranked = append(ranked, c)
		}
	}
	slices.SortStableFunc(ranked, func(x, y Challenge) int {
		return a.Quality(y.Method, y.Intent) - a.Quality(x.Method, x.Intent)
	})
	return ranked
}

// String is the value of Accept-Payment.
func (a Accept) String() string {
	entries := make([]string, len(a))
	for i, r := range a {
		entries[i] = r.Method + "/" + r.Intent
		if r.Q < 1000 {
			entries[i] += ";q=" + strings.TrimRight(strings.TrimRight(fmt.Sprintf("0.%03d", max(r.Q, 0)), "0"), ".")
		}
	}
	return strings.Join(entries, ", ")
}
