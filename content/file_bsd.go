//go:build darwin || freebsd || netbsd || openbsd

package content

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// punchHole is not known here: zeros are written like other bytes.
func punchHole(*os.File, Range) error { return errors.ErrUnsupported }

// stampOf returns what tells a change of a file.
func stampOf(info os.FileInfo) stamp {
	return stamp{Size: info.Size(), Mtime: info.ModTime().UnixNano()}
}

// syncData makes f's bytes durable.
func syncData(f *os.File) error { return f.Sync() }

// beginSync does nothing here: syncData waits for all of it.
func beginSync(*os.File, Range) error { return nil }

// lockFile locks f for this process: ErrBusy where another open file has it.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s", ErrBusy, f.Name())
	}
	return err
}
