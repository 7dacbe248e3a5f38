package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spillway/spillway/store"
)

// mark is what the lock's file says once a store was made beside it.
const mark = "spillway store\n"

// lock is the right to use the file beside it: alone, or with other sharers.
// Whoever makes the store or changes its schema is alone meanwhile.
type lock struct {
	file   *os.File
	shared bool
	held   int  // syscall.LOCK_EX or LOCK_SH
	ready  bool // a store was made here before
}

// takeLock takes the lock. A sharer first tries to be alone, to set things up; it
// waits for another that does so. Errors: store.ErrLocked.
func takeLock(ctx context.Context, path string, shared bool, wait time.Duration) (*lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, classify(err)
	}
	l := &lock{file: f, shared: shared}
	got, err := l.take()
	if err == nil && !got && shared {
		got, err = l.await(ctx, wait)
	}
	if err == nil && !got {
		err = l.refused()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// await takes the lock once it can be had.
func (l *lock) await(ctx context.Context, wait time.Duration) (bool, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-over.C:
			return false, nil
		case <-ctx.Done():
			return false, fmt.Errorf("%w: %w", l.refused(), ctx.Err())
		}
		if got, err := l.take(); got || err != nil {
			return got, err
		}
	}
}

// take takes the lock if it can be had: alone, or with others where a store is.
func (l *lock) take() (got bool, err error) {
	if got, err = l.try(syscall.LOCK_EX); !got && err == nil && l.shared {
		got, err = l.try(syscall.LOCK_SH)
	}
	if !got || err != nil {
		return got, err
	}
	text := make([]byte, len(mark))
	n, err := l.file.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	l.ready = string(text[:n]) == mark
	if l.alone() || l.ready {
		return true, nil
	}
	// whoever was to make the store ended before: nobody may hold on to this
	return false, syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN)
}

// try takes the lock if it is free.
func (l *lock) try(how int) (bool, error) {
	for {
		err := syscall.Flock(int(l.file.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			l.held = how
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, fmt.Errorf("%s cannot be locked: %w", l.file.Name(), err)
		}
	}
}

func (l *lock) refused() error {
	return fmt.Errorf("%w: %s; end the other process, or use another folder", store.ErrLocked, filepath.Dir(l.file.Name()))
}

// alone reports whether no other process can be using the store.
func (l *lock) alone() bool { return l.held == syscall.LOCK_EX }

// settle notes that there is a store, and lets other sharers in.
func (l *lock) settle() error {
	if !l.ready {
		if _, err := l.file.WriteAt([]byte(mark), 0); err != nil {
			return classify(err)
		}
		if err := l.file.Sync(); err != nil {
			return classify(err)
		}
		l.ready = true
	}
	if !l.shared || !l.alone() {
		return nil
	}
	if got, err := l.try(syscall.LOCK_SH); !got && err == nil {
		return l.refused() // somebody else took it alone in between
	} else if err != nil {
		return err
	}
	return nil
}

// release gives the lock back.
func (l *lock) release() error { return l.file.Close() }
