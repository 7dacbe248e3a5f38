package devnet

import (
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/blockchain"
)

// clock is the time source of the chain: the real time, but never before the newest block's, so that a chain
// whose blocks come faster than seconds pass, or that outlives a clock set back, goes on. A block's timestamp is
// the later of this and the median time past plus a second, so it advances a second in about six blocks at most
// when blocks come in a burst.
type clock struct {
	now   func() time.Time
	floor atomic.Int64 // unix seconds
	fixed atomic.Int64 // unix seconds; not zero: this is the time
}

var _ blockchain.MedianTimeSource = (*clock)(nil)

// AdjustedTime implements blockchain.MedianTimeSource.
func (c *clock) AdjustedTime() time.Time {
	if at := c.fixed.Load(); at != 0 {
		return time.Unix(at, 0)
	}
	return time.Unix(max(c.now().Unix(), c.floor.Load()), 0)
}

// AddTimeSample implements blockchain.MedianTimeSource; there are no peers to sample.
func (c *clock) AddTimeSample(string, time.Time) {}

// Offset implements blockchain.MedianTimeSource.
func (c *clock) Offset() time.Duration { return 0 }

// fix stops the clock at a moment until release.
func (c *clock) fix(at time.Time) { c.fixed.Store(at.Unix()) }

func (c *clock) release() { c.fixed.Store(0) }
