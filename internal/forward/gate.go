package forward

import (
	"context"
	"errors"
	"sync"
	"time"
)

// gate keeps the files and the other resources of one origin apart: they are paid over
// the same channels, and each counts what it owes there by itself. Any number of other
// resources goes at once, or the purchase of one block of a file. A file waits for them,
// and never holds them up for longer than a block takes.
type gate struct {
	mu     sync.Mutex
	others int  // answers that are under way
	file   bool // a block is being bought
	change chan struct{}
}

// gateWait is how long a file waits for streams of the same origin.
const gateWait = 20 * time.Second

// errBusy: something else of the same origin is paid over its channel, and does not end.
var errBusy = errors.New("another answer of this host is under way, over the same channel; ask again when it has ended")

func newGate() *gate { return &gate{change: make(chan struct{})} }

// enter waits until a resource may be asked for. Errors: the context's, errBusy.
func (g *gate) enter(ctx context.Context, file bool) error {
	var late <-chan time.Time
	if file {
		limit := time.NewTimer(gateWait)
		defer limit.Stop()
		late = limit.C
	}
	for {
		g.mu.Lock()
		free, change := !g.file && (!file || g.others == 0), g.change
		if free {
			if g.file = file; !file {
				g.others++
			}
		}
		g.mu.Unlock()
		if free {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return errBusy
		case <-change:
		}
	}
}

// leave ends what enter began.
func (g *gate) leave(file bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if file {
		g.file = false
	} else {
		g.others--
	}
	close(g.change)
	g.change = make(chan struct{})
}
