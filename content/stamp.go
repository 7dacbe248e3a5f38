package content

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrChanged: a file is not the one that its manifest describes any more. The
// catalogue's Update or Refresh hashes it again.
var ErrChanged = errors.New("file changed")

// stamp is what tells a change of a file without reading it.
type stamp struct {
	Size  int64
	Mtime int64 // ns
	Ctime int64 // ns; 0 where unknown. It also tells a change whose mtime was set back
	Inode uint64
}

// settleTime is longer than file systems' clocks take from one tick to the
// next: a file that is older cannot change again with the same times.
const settleTime = 50 * time.Millisecond

// settle waits until the times of an open file are settled, and returns its
// stamp then. ErrChanged where it does not come to rest.
func settle(ctx context.Context, f *os.File) (stamp, error) {
	const tries = 20
	for range tries {
		s, err := stampFile(f)
		if err != nil {
			return stamp{}, err
		}
		left := max(unsettled(s.Mtime), unsettled(s.Ctime))
		if left == 0 {
			return s, nil
		}
		if err := wait(ctx, left); err != nil {
			return stamp{}, err
		}
	}
	return stamp{}, fmt.Errorf("%w: it is being written", ErrChanged)
}

// unsettled returns how long a time of a file still has to age. A time that
// lies far ahead comes from another clock or a person, and says nothing.
func unsettled(ns int64) time.Duration {
	age := time.Since(time.Unix(0, ns))
	if age >= settleTime || age < -settleTime {
		return 0
	}
	return min(settleTime, settleTime-age)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stampFile returns the stamp of an open file, which must be a regular one.
func stampFile(f *os.File) (stamp, error) {
	info, err := f.Stat()
	if err != nil {
		return stamp{}, err
	}
	if !info.Mode().IsRegular() {
		return stamp{}, fmt.Errorf("%w: not a regular file", ErrNotOffered)
	}
	return stampOf(info), nil
}
