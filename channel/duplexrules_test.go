package channel

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/script"
)

// A duplex offer whose step is below the margin, or no step at all, makes no channel.
func TestDuplexStepOfAnOffer(t *testing.T) {
	for step, want := range map[uint32]error{margin: nil, margin + 1: nil, margin - 1: ErrTerms, 0: ErrTerms, expiry - 1: nil, expiry: ErrTerms} {
		o := offer(func(o *Offer) {
			o.Constructions = append(o.Constructions, script.Duplex)
			o.Step, o.PayeeRest = step, p2tr(0x55)
		})
		op, _ := opening(t, func(op *Opening) { op.Construction = script.Duplex })
		if _, _, err := o.Terms(op, policy()); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("a step of %d with a margin of %d: %v", step, margin, err)
		}
	}
}

// More is paid in one's own epoch only while the other side would still take it: a margin
// before the lock of the epoch before.
func TestDuplexPaysInTime(t *testing.T) {
	b := newBoth(t)
	b.goods(20_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	b.goods(1_000_000)
	edge := uint32(expiry - margin) // of epoch 1
	if _, due, err := b.side[script.Payer].Pay(edge-1, anyAmount); err != nil || !due {
		t.Fatalf("a block before the edge: %v, %v", due, err)
	}
	if next, due, err := b.side[script.Payer].Pay(edge, anyAmount); !errors.Is(err, ErrExpiring) || due || next.Sent.Amount != 20_000 {
		t.Fatalf("at the edge: %v, %v, %d sat", due, err, next.Sent.Amount)
	}
}
