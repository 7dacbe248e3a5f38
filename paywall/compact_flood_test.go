package paywall_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// TestPitfall41_OrdersThatNobodyReads: whoever sends orders without end and takes no
// answer occupies no more of the provider than a few of them.
func TestPitfall41_OrdersThatNobodyReads(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	a := s.bound()
	u := s.Update(s.id, 1)
	var message []byte
	for order := uint64(1); len(message) < 60<<10; order++ {
		b := append(binary.AppendUvarint(binary.AppendUvarint([]byte{0}, order), 1), byte(len(u.Signature)))
		b = append(append(append(b, u.Signature...), 0, 0), "slice=0-9"...)
		message = append(binary.AppendUvarint(append(message, 3), uint64(len(b))), b...)
	}
	before, most := runtime.NumGoroutine(), 0
	within, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for range 400 { // 24 MB; it is enough where nothing more is taken
		if err := a.ws.Write(within, websocket.MessageBinary, message); err != nil {
			break
		}
		most = max(most, runtime.NumGoroutine()-before)
	}
	if most > 100 {
		t.Errorf("%d goroutines answer one connection", most)
	}
	_ = a.ws.CloseNow()
	until(t, func() bool { return s.Wall.Connections() == 0 })
}

// A connection on which no channel is bound ends in its time, whatever is sent on it:
// strangers hold no places.
func TestCompactBindsThatProveNothing(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	s.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Wall.Compact(w, r, paywall.CompactConfig{Handshake: 300 * time.Millisecond, Idle: time.Hour})
	}))
	a := s.raw("/f.bin")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	for kind, body := byte(0x47), []byte(nil); kind == 0x47 && !bytes.Contains(body, []byte("nothing came")); kind, body = a.next() {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("a stranger's connection goes on")
		}
		_ = a.ws.Write(ctx, websocket.MessageBinary, []byte{1, 3, 0, 'x', 'y'})
		<-tick.C
	}
	b := s.raw("/f.bin") // one that is bound goes on
	b.bind(0, s.Seal(s.challenge, s.VoucherFor(s.id, 0), b.key()))
	b.acked()
	for range 30 {
		<-tick.C
	}
	b.send(2, s.updateBody(0, 1))
	if b.acked() != 1 {
		t.Error("a connection that is bound ended")
	}
}
