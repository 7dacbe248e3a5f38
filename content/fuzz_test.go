package content_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spillway/spillway/content"
)

// decimals is how a person may write a number with a unit.
var decimals = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)$`)

// exact is what a text of a number and a unit means, in big numbers; nil where it
// means nothing.
func exact(s string, units map[string]int64) *big.Rat {
	m := decimals.FindStringSubmatch(s)
	if m == nil {
		return nil
	}
	factor, known := units[m[2]]
	if !known || strings.HasSuffix(s, " ") {
		return nil
	}
	r, ok := new(big.Rat).SetString(m[1])
	if !ok {
		return nil
	}
	return r.Mul(r, new(big.Rat).SetInt64(factor))
}

// whole checks a parser's answer against the exact value and its bound.
func whole(t *testing.T, s string, got uint64, err error, want *big.Rat, limit uint64) {
	t.Helper()
	fits := want != nil && want.IsInt() && want.Num().Cmp(new(big.Int).SetUint64(limit)) <= 0
	if err == nil && (!fits || want.Num().Uint64() != got) {
		t.Fatalf("%q was read as %d, means %v", s, got, want)
	}
	var input *content.InputError
	if err != nil && (!errors.As(err, &input) || !utf8.ValidString(s) != !utf8.ValidString(input.Input)) {
		t.Fatalf("%q: %v", s, err)
	}
	// More than 19 digits may be refused although zeros stand behind the point.
	if err != nil && fits && len(s) < 19 {
		t.Fatalf("%q means %v, and was refused: %v", s, want, err)
	}
}

// FuzzAmount: an amount means exactly what arithmetic on big numbers says, and is
// read again as it is written.
func FuzzAmount(f *testing.F) {
	for _, s := range []string{"1sat", "0.5btc", "5msat", "0.00000000001btc", "21000000btc", "21000000.00000000001btc", "1.0009sat", "1.000000000000000000000sat", " 1sat", "1 sat", "+1sat", "1e3sat", "٣sat", "1"} {
		f.Add(s)
	}
	units := map[string]int64{"msat": 1, "sat": 1000, "sats": 1000, "btc": 1e11, "BTC": 1e11}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := content.ParseAmountMsat(s)
		whole(t, s, got, err, exact(s, units), content.MaxMsat)
		if err != nil {
			return
		}
		if again, err := content.ParseAmountMsat(content.FormatMsat(got)); err != nil || again != got {
			t.Fatalf("%q: %d became %d, %v", s, got, again, err)
		}
	})
}

// FuzzBytes: a size means exactly what arithmetic on big numbers says, and is read
// again as it is written.
func FuzzBytes(f *testing.F) {
	for _, s := range []string{"500000", "64KiB", "1.5MiB", "10 MB", "8PiB", "9007199254740991", "9007199254740992", "0.1KiB", "0x10", "1kb", "1.", ".5MB", "00001"} {
		f.Add(s)
	}
	units := map[string]int64{
		"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50,
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := content.ParseBytes(s)
		whole(t, s, got, err, exact(s, units), content.MaxSize)
		if err != nil {
			return
		}
		if again, err := content.ParseBytes(content.FormatBytes(got)); err != nil || again != got {
			t.Fatalf("%q: %d became %d, %v", s, got, again, err)
		}
	})
}

// FuzzApply: for any price, chunks and size the prices add up to what the file costs
// in big numbers: exactly by the file, rounded up chunk by chunk by the size.
func FuzzApply(f *testing.F) {
	f.Add(uint64(1000), uint64(65_536), false, uint64(1_000_001), uint64(65_536))
	f.Add(uint64(999_999_999), uint64(0), true, uint64(1<<40), uint64(1))
	f.Add(content.MaxMsat, uint64(1), false, uint64(content.MaxSize), uint64(content.MaxSize))
	f.Fuzz(func(t *testing.T, msat, per uint64, file bool, size, chunk uint64) {
		p := content.PriceSpec{Msat: msat, PerBytes: per, File: file}
		if file {
			p.PerBytes = 0
		}
		m, err := content.NewManifest("f.bin", size, content.Hash{}, content.ChunkSpec{Bytes: chunk}, p)
		if err != nil || size == 0 {
			return
		}
		whole, last := m.Chunks()-1, size-(m.Chunks()-1)*chunk
		ceil := func(bytes uint64) *big.Int {
			n := new(big.Int).Mul(new(big.Int).SetUint64(msat), new(big.Int).SetUint64(bytes))
			n.Add(n, new(big.Int).SetUint64(per-1))
			return n.Div(n, new(big.Int).SetUint64(per))
		}
		want := new(big.Int).SetUint64(msat)
		if !file {
			want = new(big.Int).Add(new(big.Int).Mul(new(big.Int).SetUint64(whole), ceil(chunk)), ceil(last))
		}
		if got := m.TotalMsat(); want.Cmp(new(big.Int).SetUint64(got)) != 0 {
			t.Fatalf("%d msat for %+v of %d bytes in chunks of %d, should be %v", got, p, size, chunk, want)
		}
		off, length := m.ChunkRange(whole)
		if off+length != size || length != last {
			t.Fatalf("the last chunk is %d bytes from %d of %d", length, off, size)
		}
		first, end, err := m.ChunksTouched(size-1, size-1)
		if sum, err2 := m.RangeMsat(0, end); err != nil || err2 != nil || first != whole || sum != m.TotalMsat() {
			t.Fatalf("all chunks cost %d of %d: %v, %v", sum, m.TotalMsat(), err, err2)
		}
	})
}

// FuzzName: a name that is taken stays below any folder, and shows on a terminal as
// what it is.
func FuzzName(f *testing.F) {
	for _, s := range []string{"films/f.bin", "../a", "a/../b", "/a", "a//b", "a\\b", ".a", "a\u202eb", "a\x1b[2J", "a\x00", "\xff", "ü/日本", strings.Repeat("a/", 600) + "b", "C:a", "a/.", "con"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := content.CheckName(name)
		if err != nil {
			if !errors.Is(err, content.ErrName) || !utf8.ValidString(err.Error()) || len(err.Error()) > 1200 {
				t.Fatalf("%q: %v", name, err)
			}
			return
		}
		at := filepath.Join("/folder", filepath.FromSlash(name))
		if !strings.HasPrefix(at, "/folder/") || path.Clean(name) != name || at != "/folder/"+name || len(name) > 1024 || strings.ContainsAny(name, "\x00\n\r\x1b\\\u202e") {
			t.Fatalf("%q leads to %q", name, at)
		}
	})
}

// FuzzHash: a hash has one form.
func FuzzHash(f *testing.F) {
	for _, s := range []string{strings.Repeat("0a", 32), strings.Repeat("0A", 32), "", "zz", strings.Repeat("0", 63)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := content.ParseHash(s); err == nil && h.String() != s || err != nil && h != (content.Hash{}) {
			t.Fatalf("%q was read as %s, %v", s, h, err)
		}
	})
}

// FuzzRangesJSON: ranges in JSON are refused and change nothing, or are read back
// from JSON and from bytes as the same set, which holds what it lists.
func FuzzRangesJSON(f *testing.F) {
	for _, s := range []string{"[[0,5],[6,7]]", "[]", "null", "[[5,5]]", "[[0,18446744073709551615]]", "[[1,2,3]]", "[[0,5],[5,6]]", "{}"} {
		f.Add([]byte(s), uint64(3), uint64(9))
	}
	f.Fuzz(func(t *testing.T, raw []byte, start, end uint64) {
		var r content.Ranges
		r.Add(1, 2)
		if err := json.Unmarshal(raw, &r); err != nil {
			if r.Total() != 1 {
				t.Fatalf("%q was refused, and left %v", raw, r.List())
			}
			return
		}
		var a, b content.Ranges
		text, err1 := json.Marshal(&r)
		bin, err2 := r.MarshalBinary()
		if err1 != nil || err2 != nil || json.Unmarshal(text, &a) != nil || b.UnmarshalBinary(bin) != nil || !a.Equal(&r) || !b.Equal(&r) {
			t.Fatalf("%q: %v, then %v and %v (%v, %v)", raw, r.List(), a.List(), b.List(), err1, err2)
		}
		if end < start {
			start, end = end, start
		}
		missing := uint64(0)
		for _, m := range r.Missing(start, end) {
			if missing += m.Len(); r.Within(m.Start, m.End) != 0 {
				t.Fatalf("%v holds some of %v", r.List(), m)
			}
		}
		if r.Within(start, end)+missing != end-start || r.Contains(start, end) != (missing == 0) {
			t.Fatalf("%v: of %d to %d %d are missing, %d there", r.List(), start, end, missing, r.Within(start, end))
		}
		before := r.Total()
		r.Add(start, end)
		if r.Total() != before+missing || !r.Contains(start, end) {
			t.Fatalf("%d to %d added to %v of %d", start, end, r.List(), before)
		}
	})
}
