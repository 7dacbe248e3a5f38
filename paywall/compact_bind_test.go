package paywall_test

import (
	"encoding/binary"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/script"
)

// A bind is refused for a challenge that has ended, for a channel of both directions, and
// for a number that is another channel's; nothing of it is taken, and what is bound stays.
func TestCompactBindsThatAreRefused(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	other := s.OpenChannel(script.Taproot)
	a := s.bound()
	a.bind(0, s.Seal(s.Quote("/f.bin").Challenge, s.VoucherFor(other, 0), a.key()))
	if p := a.problem(); p.Status != http.StatusBadRequest {
		t.Errorf("a number that is taken: %v", p)
	}
	b := s.raw("/f.bin")
	v := s.VoucherFor(s.id, 3)
	v.Epoch, v.LockHeight = 1, 1
	b.bind(0, s.Seal(s.Quote("/f.bin").Challenge, v, b.key()))
	if p := b.problem(); p.Status != http.StatusBadRequest || !strings.Contains(p.Detail, "one-way") {
		t.Errorf("a duplex voucher: %v", p)
	}
	old := s.Quote("/f.bin").Challenge
	s.Wait(11 * time.Minute)
	b.bind(1, s.Seal(old, s.VoucherFor(s.id, 4), b.key()))
	if p := b.problem(); p.Type != mpp.ProblemInvalidChallenge && !strings.Contains(p.Type, "expired") {
		t.Errorf("a challenge that has ended: %v", p)
	}
	b.bind(1, s.Seal(s.Quote("/f.bin").Challenge, s.VoucherFor(s.id, 1), b.key()))
	if at := b.acked(); at != 1 {
		t.Errorf("%d sat were taken before it was bound", at-1)
	}
	if r, err := s.Payee.Record(ctx, other); err != nil || r.Paid != 0 {
		t.Errorf("another channel has %d sat (%v)", r.Paid, err)
	}
}

// What a connection keeps of challenges is bounded: many channels on many challenges are
// refused at some point, and those that are bound go on.
func TestPitfall41_CompactChallenges(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	a := s.raw("/f.bin")
	bound := 0
	for number := range 200 {
		body := s.Seal(s.Quote("/f.bin").Challenge, s.VoucherFor(s.id, 0), a.key())
		frame := []byte{byte(number)}
		if number > 127 {
			frame = []byte{byte(number) | 0x80, byte(number >> 7)}
		}
		a.send(1, append(frame, body...))
		kind, answer := a.next()
		if kind == 0x42 {
			bound++
			continue
		}
		if kind != 0x47 || !strings.Contains(string(answer), "challenges") {
			t.Fatalf("%#x %s", kind, answer)
		}
		break
	}
	if bound < 10 || bound > 120 {
		t.Errorf("%d challenges are kept", bound)
	}
	a.send(2, s.updateBody(0, 1))
	if a.acked() != 1 {
		t.Error("what was bound is over")
	}
}

// Of updates that come in the wrong order the highest counts, and is acknowledged.
func TestCompactUpdatesOutOfOrder(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	a := s.bound()
	for base := uint64(0); base < 120; base += 6 {
		var message []byte
		for _, more := range []uint64{5, 6, 2, 4, 3, 1} {
			body := s.updateBody(0, base+more)
			message = append(binary.AppendUvarint(append(message, 2), uint64(len(body))), body...)
		}
		if err := a.ws.Write(ctx, websocket.MessageBinary, message); err != nil {
			t.Fatal(err)
		}
		for at := uint64(0); at < base+6; at = a.acked() {
			if r := s.record(); r.Paid > base+6 {
				t.Fatalf("%d sat are paid", r.Paid)
			}
		}
	}
	if r := s.record(); r.Paid != 120 {
		t.Errorf("%d sat are paid", r.Paid)
	}
}
