package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Locker gives a name one user at a time. waiting is called once where somebody
// else has it.
type Locker interface {
	Lock(ctx context.Context, name string, waiting func()) (unlock func() error, err error)
}

// MemoryLocks are locks within one process. The zero value is ready.
type MemoryLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when it is free
}

// Lock implements Locker.
func (l *MemoryLocks) Lock(ctx context.Context, name string, waiting func()) (func() error, error) {
	for first := true; ; first = false {
		l.mu.Lock()
		if l.held == nil {
			l.held = map[string]chan struct{}{}
		}
		free, taken := l.held[name]
		if !taken {
			free = make(chan struct{})
			l.held[name] = free
			l.mu.Unlock()
			return func() error { l.release(name, free); return nil }, nil
		}
		l.mu.Unlock()
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-free:
		}
	}
}

func (l *MemoryLocks) release(name string, free chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[name] == free {
		delete(l.held, name)
		close(free)
	}
}

// FileLocks are locks between all processes that use one folder. They end with
// the process that holds them.
type FileLocks struct {
	Dir string
	// Poll is how often a lock that is taken is tried again; default: 200 ms.
	Poll time.Duration

	own MemoryLocks // a file lock does not hold between goroutines
}

// Lock implements Locker.
func (l *FileLocks) Lock(ctx context.Context, name string, waiting func()) (func() error, error) {
	told := false
	once := func() {
		if !told && waiting != nil {
			told = true
			waiting()
		}
	}
	inner, err := l.own.Lock(ctx, name, once)
	if err != nil {
		return nil, err
	}
	f, err := l.file(ctx, name, once)
	if err != nil {
		return nil, errors.Join(err, inner())
	}
	return func() error { return errors.Join(f.Close(), inner()) }, nil
}

func (l *FileLocks) file(ctx context.Context, name string, waiting func()) (*os.File, error) {
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	sum := sha256.Sum256([]byte(name))
	f, err := os.OpenFile(filepath.Join(l.Dir, hex.EncodeToString(sum[:8])+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	poll := l.Poll
	if poll <= 0 {
		poll = 200 * time.Millisecond
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		}
		waiting()
		if err := sleep(ctx, poll); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
}
