package gateway

import (
	"context"
	"errors"
	"testing"
	"time"
)

// bench is a set of streams under a clock that a test moves.
type bench struct {
	streams
	at time.Time
}

func newBench(most, perChannel int) *bench {
	b := &bench{at: time.Unix(1_700_000_000, 0)}
	b.streams = streams{most: most, perChannel: perChannel, now: func() time.Time { return b.at }}
	return b
}

func (b *bench) open(channel string) (*stream, context.Context) {
	ctx, cancel := context.WithCancelCause(context.Background())
	return b.enter(channel, cancel), ctx
}

// Who takes next to nothing gives way, the slowest first, once there was time enough
// to tell; who takes something, or is within the slow rate of repeats, does not.
func TestPitfall41_SlowReadersGiveWay(t *testing.T) {
	b := newBench(3, 3)
	fast, fastCtx := b.open("a")
	slow, slowCtx := b.open("b")
	slower, slowerCtx := b.open("c")
	b.at = b.at.Add(29 * time.Second)
	if st, _ := b.open("d"); st != nil {
		t.Fatal("given way too early")
	}
	fast.took(leastRate * 31)
	slow.took(3000)
	slower.took(1)
	b.at = b.at.Add(2 * time.Second)
	for i, gone := range []context.Context{slowerCtx, slowCtx} {
		if st, _ := b.open("d"); st == nil {
			t.Fatalf("%d: no room", i)
		}
		if !errors.Is(context.Cause(gone), errGaveWay) {
			t.Errorf("%d: %v", i, context.Cause(gone))
		}
	}
	if st, _ := b.open("d"); st != nil || fastCtx.Err() != nil {
		t.Error("who takes enough gave way")
	}
	slower.leave() // a second time changes nothing
	fast.leave()
	if st, _ := b.open("e"); st == nil {
		t.Error("no room after one left")
	}
}

// Who waits for a payment goes first, the longest wait of all; the time of a wait does
// not count as slowness; a channel that is full makes room among its own only.
func TestWaitingStreamsGiveWayFirst(t *testing.T) {
	b := newBench(10, 2)
	one, oneCtx := b.open("a")
	two, twoCtx := b.open("a")
	other, otherCtx := b.open("b")
	b.at = b.at.Add(time.Hour)
	other.pause(true)
	two.pause(true)
	one.pause(true)
	if st, _ := b.open("a"); st == nil || twoCtx.Err() == nil || oneCtx.Err() != nil || otherCtx.Err() != nil {
		t.Fatalf("%v %v %v", oneCtx.Err(), twoCtx.Err(), otherCtx.Err())
	}
	one.pause(false)
	b.at = b.at.Add(10 * time.Second)
	if st, _ := b.open("a"); st != nil {
		t.Fatal("a stream that just went on gave way")
	}
	if st, _ := b.open("c"); st == nil {
		t.Fatal("another channel has no room")
	}
}
