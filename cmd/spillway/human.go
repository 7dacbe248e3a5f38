package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// money writes msat for people: in BTC from a million satoshi on, exactly.
func money(msat uint64) string {
	sat, rest := msat/1000, msat%1000
	switch {
	case msat == 0:
		return "nothing"
	case sat >= 1_000_000 && rest == 0:
		frac := strings.TrimRight(fmt.Sprintf("%08d", sat%100_000_000), "0")
		if frac != "" {
			frac = "." + frac
		}
		return fmt.Sprintf("%s%s BTC", thousands(sat/100_000_000), frac)
	case rest == 0:
		return thousands(sat) + " sat"
	case sat == 0:
		return fmt.Sprintf("%d msat", rest)
	default:
		return fmt.Sprintf("%s.%s sat", thousands(sat), strings.TrimRight(fmt.Sprintf("%03d", rest), "0"))
	}
}

// count writes how many of a thing there are: 1 chunk, 2 chunks.
func count(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return thousands(n) + " " + thing + "s"
}

// clip cuts a line to this many columns, each character taken as one.
func clip(line string, columns int) string {
	runes := []rune(line)
	if columns < 1 || len(runes) <= columns {
		return line
	}
	return string(runes[:columns-1]) + "…"
}

// thousands groups digits.
func thousands(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// ungrouped are amounts of four digits and more as they stand in a text for people.
var ungrouped = regexp.MustCompile(`(^|[^\d.,])(\d{4,15}) (m?sat)\b`)

// grouped groups the digits of the amounts in a text.
func grouped(text string) string {
	return ungrouped.ReplaceAllStringFunc(text, func(found string) string {
		parts := ungrouped.FindStringSubmatch(found)
		n, err := strconv.ParseUint(parts[2], 10, 64)
		if err != nil {
			return found
		}
		return parts[1] + thousands(n) + " " + parts[3]
	})
}

// size writes bytes for people.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
