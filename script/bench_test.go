package script_test

import (
	"testing"

	"github.com/spillway/spillway/script"
)

// What one payment costs on each side, and what completing it costs once.
func BenchmarkHalfSignature(b *testing.B) {
	for _, kind := range constructions {
		p := open(b, kind, "bench")
		sig := p.half(b, 500_000)
		b.Run("sign/"+string(kind), func(b *testing.B) {
			for b.Loop() {
				p.half(b, 500_000)
			}
		})
		b.Run("verify/"+string(kind), func(b *testing.B) {
			for b.Loop() {
				if err := p.VerifyHalf(500_000, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("settle/"+string(kind), func(b *testing.B) {
			claim := script.Claim{Channel: p.Channel, Rest: 500_000, HalfSig: sig, PayeeKey: p.payee}
			for b.Loop() {
				settle(b, 1000, claim)
			}
		})
	}
}
