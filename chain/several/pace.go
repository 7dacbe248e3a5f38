package several

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spillway/spillway/chain"
)

// agreement is the last time that all backends were asked and named nearly the same tip.
type agreement struct {
	height uint32    // the lowest of their tips, in blocks
	at     time.Time // by the clock of Config; zero: never yet
}

// ahead is how many blocks the chain may have grown beyond its pace since the last agreement. Blocks come by chance:
// with a quarter more time than the pace says, eight cover all but one stretch in some hundred, of any length.
const ahead = 8

// agree takes down that all backends named nearly the same tip, the lowest at this height.
func (b *Backend) agree(low uint32) {
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.agreement = agreement{low, now}
}

// plausible is a height, but not more than the chain can have reached by the clock since all backends agreed: a backend
// that names ever higher tips can have nothing hurried by more than that. It never holds a height below what the pace
// since then allows, so a backend that names a low tip, or none, makes no deadline come late.
func (b *Backend) plausible(height uint32) uint32 {
	if b.cfg.Pace <= 0 {
		return height
	}
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.agreement.at.IsZero() {
		return height
	}
	// the clock that stops while a machine sleeps, and the one that does not: whichever says more
	passed := max(now.Sub(b.agreement.at), now.Round(0).Sub(b.agreement.at.Round(0)), 0)
	grown := uint64(passed/4*5/b.cfg.Pace) + ahead
	return uint32(min(uint64(height), uint64(b.agreement.height)+grown))
}

// capped is the tip that counts: the highest, as far as it is plausible.
func (b *Backend) capped(ctx context.Context, said []answer[chain.Tip]) chain.Tip {
	best := highest(said)
	height := b.plausible(best.Height)
	b.note(subject{Hasty, best.name, ""}, height < best.Height, func() string {
		return fmt.Sprintf("it is at block %d, which the chain can't have reached yet; %d is what counts", best.Height, height)
	})
	if height == best.Height {
		return best.Tip
	}
	tip := chain.Tip{Height: height, Hash: best.Hash, Time: best.Time}
	for _, m := range b.cfg.Members {
		if m.Name != best.name {
			continue
		}
		if hash, err := m.Backend.BlockHash(ctx, height); err == nil {
			tip.Hash = hash
		}
	}
	return tip
}

// settle takes an agreement down where there is one.
func (b *Backend) settle(said []answer[chain.Tip]) {
	if len(said) != len(b.cfg.Members) {
		return
	}
	heights := make([]uint32, len(said))
	for i, a := range said {
		heights[i] = a.value.Height
	}
	if low := slices.Min(heights); slices.Max(heights)-low <= b.cfg.Lag {
		b.agree(low)
	}
}
