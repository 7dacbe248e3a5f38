package devnet

import (
	"testing"
)

// BenchmarkReplay is the start on a folder with the boot and 10,000 blocks more, a day and four hours of them at
// one every ten seconds.
func BenchmarkReplay(b *testing.B) {
	cfg := Config{Dir: b.TempDir()}
	n, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := n.Mine(10_000); err != nil {
		b.Fatal(err)
	}
	if err := n.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		n, err := New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBoot is the start with nothing: 250 blocks.
func BenchmarkBoot(b *testing.B) {
	for b.Loop() {
		n, err := New(Config{})
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
