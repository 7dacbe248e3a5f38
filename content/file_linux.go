package content

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

const (
	fallocKeepSize  = 1 // FALLOC_FL_KEEP_SIZE
	fallocPunchHole = 2 // FALLOC_FL_PUNCH_HOLE
)

// punchHole makes the bytes of r read as zeros and gives back their space.
func punchHole(f *os.File, r Range) error {
	return control(f, func(fd int) error {
		return syscall.Fallocate(fd, fallocKeepSize|fallocPunchHole, int64(r.Start), int64(r.Len()))
	})
}

// stampOf returns what tells a change of a file.
func stampOf(info os.FileInfo) stamp {
	s := stamp{Size: info.Size(), Mtime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Ctime, s.Inode = st.Ctim.Nano(), st.Ino
	}
	return s
}

// syncData makes f's bytes durable.
func syncData(f *os.File) error {
	return control(f, syscall.Fdatasync)
}

// beginSync has the disk begin with bytes of f, without waiting for it: a later syncData
// then waits for less. It makes nothing durable, and is no error where the system does
// not know it. Errors: of the disk.
func beginSync(f *os.File, r Range) error {
	const write = 2 // SYNC_FILE_RANGE_WRITE
	err := control(f, func(fd int) error { return syscall.SyncFileRange(fd, int64(r.Start), int64(r.Len()), write) })
	if errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return nil
}

// lockFile locks f for this process: ErrBusy where another open file has it.
func lockFile(f *os.File) error {
	err := control(f, func(fd int) error { return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) })
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s", ErrBusy, f.Name())
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// control calls do with f's descriptor, again where a signal interrupted it.
func control(f *os.File, do func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var got error
	err = c.Control(func(fd uintptr) {
		for got = do(int(fd)); errors.Is(got, syscall.EINTR); got = do(int(fd)) {
		}
	})
	return errors.Join(err, got)
}
