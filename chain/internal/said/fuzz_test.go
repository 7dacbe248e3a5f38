package said

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spillway/spillway/chain"
)

// FuzzSaid: a node's text is one short line whatever it is, a hash has one form, and a
// rate is the number that stands there, rounded up, and never more than the highest.
func FuzzSaid(f *testing.F) {
	for _, text := range []string{"", "0.00001", "1e-8", "-1", "1e999", "0.000010001", "NaN", "0x1p-2", "a\nb\x00\xff\x1b[2J", strings.Repeat("ab", 32), strings.Repeat("AB", 32), "\u202e\u2028", "20999999.99999999", "1e-400"} {
		f.Add(text, 20)
	}
	f.Fuzz(func(t *testing.T, text string, most int) {
		most = max(most&0xfff, 0)
		line := Clip(text, most)
		if len(line) > most || !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q of %q, %d bytes at most", line, text, most)
		}
		if h, ok := Hash(text); ok && h.String() != strings.ToLower(text) {
			t.Fatalf("%q is %s", text, h)
		}
		rate, ok := Rate(json.Number(text))
		if !ok {
			return
		}
		if rate < 0 || rate > chain.MaxFeeRate {
			t.Fatalf("%q is %d sat per 1000 vB", text, rate)
		}
		exact, good := new(big.Rat).SetString(text)
		if !good || len(text) > 40 || strings.ContainsAny(text, "xX_/pPbBoO") {
			return
		}
		exact.Mul(exact, big.NewRat(1e8, 1))
		below, above := new(big.Rat).SetInt64(int64(rate)-1), new(big.Rat).SetInt64(int64(rate)+1)
		if rate < chain.MaxFeeRate && (exact.Cmp(below) < 0 || exact.Cmp(above) > 0) {
			t.Fatalf("%q is %d sat per 1000 vB", text, rate)
		}
	})
}
