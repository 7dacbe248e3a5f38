package main

import "testing"

func TestMoney(t *testing.T) {
	for msat, want := range map[uint64]string{
		0: "nothing", 5: "5 msat", 1000: "1 sat", 1500: "1.5 sat", 1_234_567_000: "0.01234567 BTC", 999_999_000: "999,999 sat",
		10_000_000_000_000: "100 BTC", 100_000_000_000: "1 BTC", 150_000_000_000: "1.5 BTC", 1_000_001: "1,000.001 sat",
	} {
		if got := money(msat); got != want {
			t.Errorf("money(%d) = %q, want %q", msat, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 3 << 29: "1.5 GiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		line    string
		columns int
		want    string
	}{{"│██│", 4, "│██│"}, {"│██│ more", 4, "│██…"}, {"", 4, ""}, {"abc", 0, "abc"}, {"abc", 1, "…"}} {
		if got := clip(c.line, c.columns); got != c.want {
			t.Errorf("clip(%q, %d) = %q, want %q", c.line, c.columns, got, c.want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 chunks", 1: "1 chunk", 1000: "1,000 chunks"} {
		if got := count(n, "chunk"); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
}

// TestGrouped: amounts in sentences read like those in tables.
func TestGrouped(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"3447 sat come back", "3,447 sat come back"},
		{"763 sat of 4210 sat, 123456789 msat", "763 sat of 4,210 sat, 123,456,789 msat"},
		{"762.9400 sat and 1,234 sat and 0.12345 sat", "762.9400 sat and 1,234 sat and 0.12345 sat"},
		{"height 1258, 4000 satellites, 12345 bytes", "height 1258, 4000 satellites, 12345 bytes"},
		{"(10000 sat)", "(10,000 sat)"},
	} {
		if got := grouped(tc.in); got != tc.want {
			t.Errorf("%q is %q, want %q", tc.in, got, tc.want)
		}
	}
}
