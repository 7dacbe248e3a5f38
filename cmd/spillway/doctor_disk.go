package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spillway/spillway/internal/durable"
)

// roles that may have a folder.
var roles = []string{"payer", "payee"}

// lookAtFolder says who may read what lies in the data folder.
func (a *app) lookAtFolder() (all []finding) {
	for _, name := range roles {
		if _, err := os.Lstat(a.folder(name)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		all = append(all, a.lookAtRole(name)...)
	}
	if len(all) == 0 {
		all = append(all, warning("folder", "Make a wallet: spillway wallet create (--provider for one that sells)", "there is nothing in %s for %s yet", a.flags.data, a.flags.network))
	}
	if a.flags.network == "mainnet" {
		if _, err := os.Stat(filepath.Join(a.flags.data, consentFile)); err != nil {
			all = append(all, warning("real money", "Agree once with --yes-real-money.", "mainnet was not agreed to in %s", a.flags.data))
		}
	}
	return all
}

func (a *app) lookAtRole(name string) []finding {
	dir := a.folder(name)
	all := private(dir, name+" folder")
	seed := false
	for _, file := range []string{plainSeed, sealedSeed} {
		if _, err := os.Lstat(filepath.Join(dir, file)); err == nil {
			seed = true
			if file == plainSeed && !a.regtest() {
				all = append(all, wrong(name+" seed", exitLocal, "Have its words at hand, move the file away, and seal them: spillway wallet restore --passphrase-file F",
					"the seed in %s is not sealed with a passphrase", dir))
			}
		}
	}
	if !seed {
		all = append(all, wrong(name+" seed", exitLocal, "Put it back from its words: spillway wallet restore", "there is no seed in %s", dir))
	}
	if len(all) == 0 {
		all = append(all, fine(name+" folder", "%s is private", dir))
	}
	return all
}

// private finds what others of this machine may read or write below a folder, or what
// belongs to somebody else.
func private(dir, check string) (all []finding) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != dir && d.Name() == "outboards" {
			return fs.SkipDir // what is on sale anyway
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone again
		} else if err != nil {
			return err
		}
		open := info.Mode().Perm()&0o077 != 0 && info.Mode()&(fs.ModeSocket|fs.ModeSymlink) == 0
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
			all = append(all, warning(check, "Run spillway as that user, or chown it.", "%s belongs to user %d, this is user %d", path, stat.Uid, os.Geteuid()))
		}
		if open {
			all = append(all, wrong(check, exitLocal, fmt.Sprintf("chmod go-rwx %s", path), "%s may be read by others of this machine (mode %04o)", path, info.Mode().Perm()))
		}
		if len(all) >= 20 {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		all = append(all, failedCheck(check, err))
	}
	return all
}

// Bounds of a disk that channels can be held on.
const (
	leastSpace = 100 << 20 // bytes; below that a commit may soon fail
	lowSpace   = 1 << 30
	slowSync   = 250 * time.Millisecond
	deadSync   = 5 * time.Second
	tmpfs      = 0x01021994 // statfs(2)
)

// diskState is what was measured of a disk.
type diskState struct {
	sync   time.Duration // write, fsync and read back
	err    error         // of that
	free   uint64        // bytes
	files  uint64        // inodes that are free; where all is 0 the file system has no number
	all    uint64
	memory bool // gone with the machine's power
}

func (a *app) lookAtDisk() []finding {
	dir := a.flags.data
	for { // the folder that is there
		if info, err := os.Stat(dir); err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return judgeDisk(dir, measureDisk(dir))
}

// measureDisk writes a small file, makes it durable, reads it back, and removes it.
func measureDisk(dir string) (s diskState) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err == nil {
		s.free, s.files, s.all = stat.Bavail*uint64(stat.Bsize), stat.Ffree, stat.Files
		s.memory = int64(stat.Type) == tmpfs
	}
	begin := time.Now()
	s.err = writeAndRead(dir)
	s.sync = time.Since(begin)
	return s
}

func writeAndRead(dir string) (err error) {
	want := make([]byte, 64<<10)
	if _, err := rand.Read(want); err != nil {
		return err
	}
	path := filepath.Join(dir, ".spillway-doctor-"+fmt.Sprintf("%x", want[:6]))
	defer func() {
		if gone := durable.Remove(path); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	if err := durable.Write(path, want); err != nil {
		return err
	}
	got, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("what was written is not what is read")
	}
	return err
}

func judgeDisk(dir string, s diskState) (all []finding) {
	const next = "Free space, or move the data folder (--data) to another disk."
	switch {
	case s.err != nil:
		all = append(all, wrong("disk", exitLocal, "Check the disk, who may write there, and the free space.", "a small file could not be written to %s and read back: %v", dir, s.err))
	case s.sync > deadSync:
		all = append(all, wrong("disk", exitLocal, "Look at the disk's health and load: each payment waits for it.", "an fsync in %s takes %v", dir, s.sync.Round(time.Millisecond)))
	case s.sync > slowSync:
		all = append(all, warning("disk", "A faster disk makes for faster payments.", "an fsync in %s takes %v", dir, s.sync.Round(time.Millisecond)))
	default:
		all = append(all, fine("disk", "written, synced and read back in %v", s.sync.Round(time.Microsecond)))
	}
	switch {
	case s.free < leastSpace:
		all = append(all, wrong("space", exitLocal, next, "%s are free in %s", size(s.free), dir))
	case s.all > 0 && s.files < 1000:
		all = append(all, wrong("space", exitLocal, "Remove files: the file system takes no more of them.", "%d files are left in %s", s.files, dir))
	case s.free < lowSpace:
		all = append(all, warning("space", next, "%s are free in %s", size(s.free), dir))
	default:
		all = append(all, fine("space", "%s are free", size(s.free)))
	}
	if s.memory {
		all = append(all, warning("disk", "Move the data folder (--data) to a disk.", "%s lies in memory: it is gone when the machine restarts", dir))
	}
	return all
}
