package payee

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
)

// keyEpochs, in bucketMeta, holds the epochs of challenges, newest last.
const keyEpochs = "epochs"

// firstEpoch is the epoch of a store that was never restored.
const firstEpoch = 0

// ErrEpoch: the number of a new epoch that was used before, or is none.
var ErrEpoch = errors.New("this epoch of challenges cannot be begun")

// Epochs are the epochs of challenges of a payee's store: that of the offers that are
// made now, and those from before restores, oldest first. Errors: store.ErrDamaged.
func Epochs(ctx context.Context, s Store) (now uint32, before []uint32, err error) {
	all, _, err := epochs(ctx, s)
	if err != nil {
		return 0, nil, err
	}
	last := len(all) - 1
	return all[last], all[:last], nil
}

func epochs(ctx context.Context, s Store) (all []uint32, rev uint64, err error) {
	e, err := s.Get(ctx, bucketMeta, keyEpochs)
	if errors.Is(err, store.ErrNotFound) {
		return []uint32{firstEpoch}, 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	if err := json.Unmarshal(e.Value, &all); err != nil || len(all) == 0 {
		return nil, 0, fmt.Errorf("%w: %s %s: %q", store.ErrDamaged, bucketMeta, keyEpochs, e.Value)
	}
	return all, e.Revision, nil
}

// OpenRestored takes an opening on an offer of this payee from before a restore: the
// channel may have been opened then, and been forgotten. It is taken for updates and
// settlement only, whatever time is left. Errors: as Open. docs/protocol.md, section 12.
func (p *Payee) OpenRestored(ctx context.Context, o channel.Offer, op channel.Opening) (Opened, error) {
	return p.open(ctx, o, op, true)
}

// Restored turns a payee's store that comes from a backup into one that may be served
// from: challenges begin a new epoch (a random number below 2^31, so that a second
// restore from one backup takes another), and every channel that is not over is marked,
// see MarkRestored. Errors: ErrEpoch, of the store. docs/protocol.md, section 12.
func Restored(ctx context.Context, s Store, epoch uint32) error {
	all, rev, err := epochs(ctx, s)
	if err != nil {
		return err
	}
	if epoch >= 1<<31 || slices.Contains(all, epoch) {
		return fmt.Errorf("%w: %d", ErrEpoch, epoch)
	}
	value, err := json.Marshal(append(all, epoch))
	if err != nil {
		return err
	}
	if err := s.Commit(ctx, store.Op{Bucket: bucketMeta, Key: keyEpochs, Value: value, Expect: rev}); err != nil {
		return err
	}
	return (&Payee{cfg: Config{Store: s}}).MarkRestored(ctx)
}
