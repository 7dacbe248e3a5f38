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

// settle waits until the times of s are settled.
func settle(ctx context.Context, s stamp) error {
	age := time.Since(time.Unix(0, max(s.Mtime, s.Ctime)))
	if age >= settleTime {
		return nil
	}
	t := time.NewTimer(min(settleTime, settleTime-age))
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
