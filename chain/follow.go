package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// Mark is a block of the best chain, as it was.
type Mark struct {
	Height uint32
	Hash   chainhash.Hash
}

// Cursor remembers how far a chain was followed: the newest blocks that were seen, oldest first, at consecutive
// heights. The zero Cursor has seen nothing. It is a value and can be saved as JSON.
type Cursor []Mark

// cursorLength is how many blocks a cursor remembers: the deepest reorg that is told block by block.
const cursorLength = 144

// ErrDeepReorg says that a reorg undid every block that a cursor remembers: what happened before is unknown, and the
// cursor begins again at the new tip.
var ErrDeepReorg = errors.New("a reorg undid every block that was remembered")

// Change is what happened to the best chain since a cursor.
type Change struct {
	Undone []Mark // no longer in the best chain, newest first
	Added  []Mark // new in the best chain, oldest first
}

// Empty says that nothing happened.
func (c Change) Empty() bool { return len(c.Undone)+len(c.Added) == 0 }

// Updates is what happened since the cursor, at most so many new blocks at once (0: 2,016), and the cursor after it,
// which is saved once the change is dealt with. A zero Cursor begins at the tip. It asks for block hashes only, so
// every backend can be followed. Errors: ErrDeepReorg (with the cursor at the new tip), those of the backend.
func Updates(ctx context.Context, b Backend, from Cursor, most int) (Change, Cursor, error) {
	if most <= 0 {
		most = 2016
	}
	for range 5 {
		tip, err := b.Tip(ctx)
		if err != nil {
			return Change{}, from, err
		}
		change, next, err := updates(ctx, b, from, tip, most)
		if errors.Is(err, errMoved) {
			continue
		}
		return change, next, err
	}
	return Change{}, from, fmt.Errorf("%w: the tip kept moving", ErrUnavailable)
}

var errMoved = errors.New("the chain moved meanwhile")

func updates(ctx context.Context, b Backend, from Cursor, tip Tip, most int) (c Change, next Cursor, err error) {
	start := Cursor{{tip.Height, tip.Hash}}
	if len(from) == 0 {
		return c, start, nil
	}
	keep := len(from)
	for ; keep > 0; keep-- {
		m := from[keep-1]
		hash, err := b.BlockHash(ctx, m.Height)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return c, from, err
		}
		if err == nil && hash == m.Hash {
			break
		}
		c.Undone = append(c.Undone, m)
	}
	if keep == 0 {
		return c, start, ErrDeepReorg
	}
	next = append(next, from[:keep]...)
	for h := next[keep-1].Height + 1; h <= tip.Height && len(c.Added) < most; h++ {
		hash, err := b.BlockHash(ctx, h)
		if errors.Is(err, ErrNotFound) {
			return c, from, errMoved
		}
		if err != nil {
			return c, from, err
		}
		c.Added = append(c.Added, Mark{h, hash})
	}
	// The tip is where it was before: all that was read in between is of one chain.
	hash, err := b.BlockHash(ctx, tip.Height)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && hash != tip.Hash:
		return Change{}, from, errMoved
	case err != nil:
		return Change{}, from, err
	}
	next = append(next, c.Added...)
	return c, next[max(0, len(next)-cursorLength):], nil
}
