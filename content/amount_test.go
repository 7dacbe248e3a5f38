package content_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/spillway/spillway/content"
	"pgregory.net/rapid"
)

func TestParseAmountMsat(t *testing.T) {
	for in, want := range map[string]uint64{
		"0sat": 0, "1sat": 1000, "1 sat": 1000, "100000sat": 100_000_000, "5msat": 5, "0.5sat": 500,
		"1btc": 100_000_000_000, "0.5btc": 50_000_000_000, "0.00000001btc": 1000, "0.00000000001btc": 1,
		"1.50000000000000000000000000btc": 150_000_000_000, "21000000btc": content.MaxMsat, "2100000000000000sat": content.MaxMsat,
		"20999999.9769btc": 2_099_999_997_690_000_000,
	} {
		if got, err := content.ParseAmountMsat(in); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", in, got, err, want)
		}
	}
	for in, want := range map[string]error{
		"": content.ErrSyntax, "sat": content.ErrSyntax, "-1sat": content.ErrSyntax, "+1sat": content.ErrSyntax, " 1sat": content.ErrSyntax,
		"1": content.ErrUnit, "1e3sat": content.ErrUnit, "1 000sat": content.ErrUnit, "1,5btc": content.ErrUnit, "1SAT": content.ErrUnit,
		"1usd": content.ErrUnit, "1sat ": content.ErrUnit, "1_000sat": content.ErrUnit, "1  sat": content.ErrUnit,
		".5btc": content.ErrSyntax, "1.btc": content.ErrSyntax, "1..5btc": content.ErrSyntax, "1.2.3btc": content.ErrSyntax,
		"0.5msat": content.ErrPrecision, "0.0001sat": content.ErrPrecision, "0.000000000001btc": content.ErrPrecision,
		"0.00000000000000000000001btc": content.ErrPrecision,
		"21000000.00000000001btc":      content.ErrTooLarge, "21000001btc": content.ErrTooLarge,
		"99999999999999999999msat": content.ErrTooLarge, "18446744073709551616msat": content.ErrTooLarge,
		"18446744073709551615btc": content.ErrTooLarge,
	} {
		got, err := content.ParseAmountMsat(in)
		var typed *content.InputError
		if !errors.Is(err, want) || !errors.As(err, &typed) || typed.Hint == "" || got != 0 {
			t.Errorf("%q: %d, %v, want %v", in, got, err, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]uint64{
		"0": 0, "500000": 500_000, "500000B": 500_000, "64KiB": 65536, "1MiB": 1 << 20, "1MB": 1_000_000, "1.5MiB": 3 << 19,
		"2 GiB": 2 << 30, "1kB": 1000, "1KB": 1000, "1TiB": 1 << 40, "9007199254740991": 1<<53 - 1, "0.5KiB": 512,
	} {
		if got, err := content.ParseBytes(in); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", in, got, err, want)
		}
	}
	for in, want := range map[string]error{
		"": content.ErrSyntax, "MiB": content.ErrSyntax, "-1": content.ErrSyntax, "0x10": content.ErrUnit, "1K": content.ErrUnit, "1Mb": content.ErrUnit,
		"1mib": content.ErrUnit, "0.1KiB": content.ErrPrecision, "0.5": content.ErrPrecision, "9007199254740992": content.ErrTooLarge,
		"8PiB": content.ErrTooLarge, "99999999999999999999GiB": content.ErrTooLarge,
	} {
		if got, err := content.ParseBytes(in); !errors.Is(err, want) || got != 0 {
			t.Errorf("%q: %d, %v, want %v", in, got, err, want)
		}
	}
}

func TestFormatsAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		msat := rapid.Uint64Range(0, content.MaxMsat).Draw(t, "msat")
		if got, err := content.ParseAmountMsat(content.FormatMsat(msat)); err != nil || got != msat {
			t.Fatalf("%d msat as %s: %d, %v", msat, content.FormatMsat(msat), got, err)
		}
		n := rapid.Uint64Range(0, 1<<20).Draw(t, "n") * rapid.SampledFrom([]uint64{1, 1000, 1024, 1 << 20, 1e9, 1 << 30}).Draw(t, "unit")
		if got, err := content.ParseBytes(content.FormatBytes(n)); err != nil || got != n {
			t.Fatalf("%d bytes as %s: %d, %v", n, content.FormatBytes(n), got, err)
		}
	})
	for n, want := range map[uint64]string{1 << 20: "1MiB", 65536: "64KiB", 500_000: "500kB", 1000: "1kB", 1023: "1023", 0: "0", 1 << 30: "1GiB"} {
		if got := content.FormatBytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestParsePrice(t *testing.T) {
	for in, want := range map[string]content.PriceSpec{
		"1sat/64KiB": {Msat: 1000, PerBytes: 65536}, "250msat/MiB": {Msat: 250, PerBytes: 1 << 20}, "1btc/file": {Msat: 1e11, File: true},
		"10msat/1MB": {Msat: 10, PerBytes: 1_000_000}, "1 sat / 64 KiB": {Msat: 1000, PerBytes: 65536}, "0.001btc/GiB": {Msat: 1e8, PerBytes: 1 << 30},
		"1msat/B": {Msat: 1, PerBytes: 1},
	} {
		got, err := content.ParsePrice(in)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", in, got, err, want)
		}
		if again, err := content.ParsePrice(got.String()); err != nil || again != got {
			t.Errorf("%q: written %s, read %+v, %v", in, got, again, err)
		}
	}
	for in, want := range map[string]error{
		"": content.ErrSyntax, "1sat": content.ErrSyntax, "1sat/": content.ErrUnit, "/file": content.ErrSyntax, "1sat/chunk": content.ErrUnit,
		"0sat/file": content.ErrZero, "1sat/0": content.ErrZero, "1/64KiB": content.ErrUnit, "1sat/64KiB/s": content.ErrUnit,
		"21000001btc/file": content.ErrTooLarge, "0.1msat/MiB": content.ErrPrecision, "1sat/0.3KiB": content.ErrPrecision,
	} {
		_, err := content.ParsePrice(in)
		var typed *content.InputError
		if !errors.Is(err, want) || !errors.As(err, &typed) || typed.What != "price" {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
}

func TestApply(t *testing.T) {
	perFile := func(msat uint64) content.PriceSpec { return content.PriceSpec{Msat: msat, File: true} }
	by := func(msat, per uint64) content.PriceSpec { return content.PriceSpec{Msat: msat, PerBytes: per} }
	tests := []struct {
		name              string
		price             content.PriceSpec
		size, chunk       uint64
		wantChunk, wantLa uint64
	}{
		{"1 btc in 100 chunks", perFile(1e11), 50_000_000, 500_000, 1e9, 1e9},
		{"remainder on the last", perFile(1000), 30, 10, 333, 334},
		{"fewer msat than chunks", perFile(2), 30, 10, 0, 2},
		{"one chunk", perFile(999), 5, 10, 999, 999},
		{"empty file", perFile(999), 0, 10, 0, 0},
		{"1 sat per 64 KiB at 1 MiB", by(1000, 65536), 5<<20 + 65536, 1 << 20, 16_000, 1000},
		{"rounded up for each chunk", by(1, 1000), 25, 10, 1, 1},
		{"last by its length", by(1000, 1000), 25, 10, 10, 5},
		{"one short chunk", by(1000, 65536), 100, 1 << 20, 2, 2},
		{"empty file by size", by(1, 1), 0, 10, 0, 0},
		{"all the bitcoin", perFile(content.MaxMsat), 7, 2, content.MaxMsat / 4, content.MaxMsat - 3*(content.MaxMsat/4)},
	}
	for _, tt := range tests {
		c, l, err := tt.price.Apply(tt.size, tt.chunk)
		if err != nil || c != tt.wantChunk || l != tt.wantLa {
			t.Errorf("%s: %d, %d, %v, want %d, %d", tt.name, c, l, err, tt.wantChunk, tt.wantLa)
		}
	}
	for name, err := range map[string]error{
		"too dear":     second(by(content.MaxMsat, 1).Apply(2, 1)),
		"overflow":     second(by(content.MaxMsat, 1).Apply(content.MaxSize, content.MaxSize)),
		"sum too dear": second(by(1e15, 1).Apply(3000, 1)),
		"big file":     second(perFile(content.MaxMsat+1).Apply(1, 1)),
	} {
		if !errors.Is(err, content.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, err := range []error{second(perFile(1).Apply(1, 0)), second(content.PriceSpec{Msat: 1}.Apply(1, 1))} {
		if !errors.Is(err, content.ErrZero) {
			t.Errorf("zero: %v", err)
		}
	}
}

func second(_, _ uint64, err error) error { return err }

// Prices are exact: held against arithmetic without bounds.
func TestApplyIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(1, content.MaxSize).Draw(t, "size")
		chunk := rapid.Uint64Range(1, content.MaxSize).Draw(t, "chunk")
		msat := rapid.OneOf(rapid.Uint64Range(1, 1e6), rapid.Uint64Range(1, content.MaxMsat)).Draw(t, "msat")
		per := rapid.Uint64Range(1, content.MaxSize).Draw(t, "per")
		file := rapid.Bool().Draw(t, "file")
		p := content.PriceSpec{Msat: msat, PerBytes: per, File: file}
		c, l, err := p.Apply(size, chunk)

		n := new(big.Int).SetUint64((size-1)/chunk + 1)
		fewer := new(big.Int).Sub(n, big.NewInt(1))
		wantC, wantL := new(big.Int), new(big.Int)
		if file {
			wantC.Div(new(big.Int).SetUint64(msat), n)
			wantL.Sub(new(big.Int).SetUint64(msat), new(big.Int).Mul(wantC, fewer))
		} else {
			wantC, wantL = ceilDiv(msat, chunk, per), ceilDiv(msat, size-fewer.Uint64()*chunk, per)
			if n.Cmp(big.NewInt(1)) == 0 {
				wantC = wantL
			}
		}
		total := new(big.Int).Add(new(big.Int).Mul(fewer, wantC), wantL)
		limit := new(big.Int).SetUint64(content.MaxMsat)
		if tooDear := total.Cmp(limit) > 0; tooDear != (err != nil) {
			t.Fatalf("total %v, but %v", total, err)
		} else if tooDear {
			return
		}
		if wantC.Cmp(new(big.Int).SetUint64(c)) != 0 || wantL.Cmp(new(big.Int).SetUint64(l)) != 0 {
			t.Fatalf("%d, %d, want %v, %v", c, l, wantC, wantL)
		}
	})
}

func ceilDiv(a, b, c uint64) *big.Int {
	x := new(big.Int).Mul(new(big.Int).SetUint64(a), new(big.Int).SetUint64(b))
	x.Add(x, new(big.Int).SetUint64(c-1))
	return x.Div(x, new(big.Int).SetUint64(c))
}

func TestChunkSpec(t *testing.T) {
	tests := []struct {
		spec       content.ChunkSpec
		size, want uint64
	}{
		{content.ChunkSpec{Count: 100}, 50_000_000, 500_000},
		{content.ChunkSpec{Count: 100}, 50_000_001, 500_001},
		{content.ChunkSpec{Count: 100}, 10, 1},
		{content.ChunkSpec{Count: 100}, 0, 1},
		{content.ChunkSpec{Count: 1}, 77, 77},
		{content.ChunkSpec{Bytes: 1 << 20}, 10, 1 << 20},
		{content.DefaultChunk, 1e9, 1 << 20},
	}
	for _, tt := range tests {
		if got, err := tt.spec.For(tt.size); err != nil || got != tt.want {
			t.Errorf("%v of %d: %d, %v, want %d", tt.spec, tt.size, got, err, tt.want)
		}
	}
	if _, err := (content.ChunkSpec{}).For(1); !errors.Is(err, content.ErrZero) {
		t.Errorf("nothing set: %v", err)
	}
	if _, err := (content.ChunkSpec{Bytes: content.MaxSize + 1}).For(1); !errors.Is(err, content.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	for chunk, want := range map[uint64]uint32{
		1: 1024, 32 << 10: 1024, 64<<10 - 1: 1024, 64 << 10: 2048, 128 << 10: 4096, 500_000: 8192, 512<<10 - 1: 8192, 512 << 10: 16384, 1 << 20: 16384, content.MaxSize: 16384,
	} {
		if got := content.GroupFor(chunk); got != want {
			t.Errorf("group for %d: %d, want %d", chunk, got, want)
		}
	}
}

// FuzzParsePrice: a price is within bounds, is read again as it is written, and makes no chunk cost
// more than there is.
func FuzzParsePrice(f *testing.F) {
	for _, s := range []string{"1sat/64KiB", "1btc/file", "250msat/MiB", "0.00000000001btc/1.5 GB", "/", "1sat/", "9999999999999999999btc/file"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := content.ParsePrice(s)
		if err != nil {
			if !strings.Contains(err.Error(), "price") {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if p.Msat == 0 || p.Msat > content.MaxMsat || p.File == (p.PerBytes > 0) {
			t.Fatalf("%q: %+v", s, p)
		}
		if again, err := content.ParsePrice(p.String()); err != nil || again != p {
			t.Fatalf("%q: written %s, read %+v, %v", s, p, again, err)
		}
		if c, l, err := p.Apply(1<<30, 1<<20); err == nil && (c > content.MaxMsat || l > content.MaxMsat) {
			t.Fatalf("%q: %d, %d", s, c, l)
		}
	})
}
