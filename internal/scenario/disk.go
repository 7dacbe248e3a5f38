package scenario

import (
	"context"

	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
)

// disk is a store in memory that remembers its commits, so that a copy can be made
// of what it held at any moment.
type disk struct {
	*memory.Store
	commits [][]store.Op
}

func newDisk() *disk { return &disk{Store: memory.New()} }

// Commit implements store.Store.
func (d *disk) Commit(ctx context.Context, ops ...store.Op) error {
	err := d.Store.Commit(ctx, ops...)
	if err == nil {
		d.commits = append(d.commits, ops)
	}
	return err
}

// backup is a disk with what this one holds now.
func (d *disk) backup(ctx context.Context) (*disk, error) {
	old := newDisk()
	for _, ops := range d.commits {
		if err := old.Commit(ctx, ops...); err != nil {
			return nil, err
		}
	}
	return old, nil
}
