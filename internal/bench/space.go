package bench

import (
	"fmt"
	"syscall"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/store"
)

// leeway is what stores, their logs and everything but the files takes, in bytes.
const leeway = 256 << 20

// fitting is how large a file so many payers can download at once into a folder, at most
// size bytes: halved until it fits, and four chunks at least. Errors: store.ErrFull.
func fitting(dir string, chunk, size uint64, payers int) (uint64, error) {
	free, err := freeBytes(dir)
	if err != nil {
		return 0, err
	}
	for need := uint64(0); ; size /= 2 {
		need = roomFor(size, payers)
		if need <= free {
			return size, nil
		}
		if size/2 < 4*chunk {
			return 0, fmt.Errorf("%w for this: %s are free in %s, and %d payers with %s each take %s; choose another folder with --dir",
				store.ErrFull, content.FormatBytes(free), dir, payers, content.FormatBytes(size), content.FormatBytes(need))
		}
	}
}

// roomFor is what so many payers and the provider take of the disk, in bytes.
func roomFor(size uint64, payers int) uint64 { return (uint64(payers)+1)*size + leeway }

// freeBytes is how much may be written in a folder.
func freeBytes(dir string) (uint64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("the free space in %s is not known: %w", dir, err)
	}
	return uint64(fs.Bavail) * uint64(fs.Bsize), nil
}
