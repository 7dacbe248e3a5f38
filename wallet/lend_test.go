package wallet

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/script"

	"github.com/spillway/spillway/store/memory"
)

// A lent coin is the smallest confirmed one that does, and the same one under its name:
// after a restart, and where the node shows its transaction no more. Nobody else gets it
// until it is returned.
func TestLentCoinIsKept(t *testing.T) {
	l, s := newLedger(), memory.New()
	w := open(t, l, s)
	l.pays(receive(t, w), 3_000, false)
	l.pays(receive(t, w), 50_000, true)
	small := l.pays(receive(t, w), 5_000, true)
	l.pays(receive(t, w), 900, true)
	out, err := w.Lend(t.Context(), "a", 1_000, perVB)
	if err != nil || len(out) != 1 || out[small] == nil || out[small].Value != 5_000 {
		t.Fatalf("%v, %v", out, err)
	}
	pk := out[small].PkScript
	delete(l.txs, small.Hash) // in a block that the node has pruned
	again := open(t, l, s)
	for _, need := range []int64{1_000, 400_000} {
		out, err := again.Lend(t.Context(), "a", need, perVB)
		if err != nil || len(out) != 1 || out[small] == nil || out[small].Value != 5_000 || string(out[small].PkScript) != string(pk) {
			t.Fatalf("asked again for %d sat: %v, %v", need, out, err)
		}
	}
	other, err := again.Lend(t.Context(), "b", 1_000, perVB)
	if err != nil || len(other) != 1 || other[small] != nil {
		t.Fatalf("a second name: %v, %v", other, err)
	}
	if _, err := again.Lend(t.Context(), "c", 1_000, perVB); !errors.Is(err, ErrInsufficient) {
		t.Fatalf("nothing confirmed is left: %v", err)
	}
	if _, err := again.Fund(t.Context(), outs(2_500), perVB); !errors.Is(err, ErrInsufficient) {
		t.Fatalf("a lent coin was spent: %v", err)
	}
	for range 2 {
		if err := again.Return(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := again.Lend(t.Context(), "c", 1_000, perVB); err != nil || len(out) != 1 {
		t.Fatalf("after it was returned: %v, %v", out, err)
	}
	if held, err := again.Reservations(t.Context()); err != nil || len(held) != 2 {
		t.Fatalf("%v, %v", held, err)
	}
}

// Bounds of what may be asked for.
func TestLendRefusesNonsense(t *testing.T) {
	w := open(t, newLedger(), memory.New())
	for _, c := range []struct{ need, rate int64 }{{1, 0}, {1, -1}, {-1, 1000}, {1, 1 << 60}, {1 << 62, 1000}} {
		out, err := w.Lend(t.Context(), "a", c.need, script.FeeRate(c.rate))
		if !errors.Is(err, ErrRate) || out != nil {
			t.Errorf("%d sat at %d: %v, %v", c.need, c.rate, out, err)
		}
	}
}
