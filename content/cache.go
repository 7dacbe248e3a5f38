package content

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spillway/spillway/content/bao"
	"lukechampine.com/blake3"
)

// cache keeps one outboard for each path and group size in a folder: a header
// with the stamp of the file that it belongs to, then the tree. A cached tree
// is only a hint: the header has a checksum, every node is verified when used,
// and what is damaged is built again. So nothing here needs a sync.
type cache struct {
	dir     string
	workers int
	log     *slog.Logger
}

const (
	cacheMagic  = "spwbao01"
	cacheSuffix = ".obao"
	tempSuffix  = ".obao.tmp"
	cacheFixed  = len(cacheMagic) + 4 + 4 + 8 + 8 + 8 + 8 + 32 // up to the path
)

var errCacheMiss = errors.New("no cached outboard")

// tree is an outboard and the open file that holds it.
type tree struct {
	*bao.Outboard
	f *os.File
}

func (c *cache) name(path string, group uint32) string {
	key := blake3.Sum256(fmt.Appendf(nil, "%d %s", group, path))
	return filepath.Join(c.dir, hex.EncodeToString(key[:16])+cacheSuffix)
}

// header is the file's beginning; its length follows from the path's.
func cacheHeader(path string, group uint32, s stamp, root [32]byte) []byte {
	b := append(make([]byte, 0, cacheFixed+len(path)+32), cacheMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(path)))
	b = binary.LittleEndian.AppendUint32(b, group)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Size))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Mtime))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Ctime))
	b = binary.LittleEndian.AppendUint64(b, s.Inode)
	b = append(b, root[:]...)
	b = append(b, path...)
	sum := blake3.Sum256(b)
	return append(b, sum[:]...)
}

// open returns the cached tree of path as it was at s: errCacheMiss where there
// is none, or it is damaged.
func (c *cache) open(path string, group uint32, s stamp) (*tree, error) {
	f, err := os.Open(c.name(path, group))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCacheMiss, err)
	}
	t, err := openTree(f, path, group, s)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errCacheMiss, err), f.Close())
	}
	return t, nil
}

func openTree(f *os.File, path string, group uint32, s stamp) (*tree, error) {
	head := make([]byte, cacheFixed+len(path)+32)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, err
	}
	root := [32]byte(head[cacheFixed-32:])
	if string(head) != string(cacheHeader(path, group, s, root)) {
		return nil, fmt.Errorf("%w: header is of another file, or damaged", bao.ErrDamaged)
	}
	want, err := bao.OutboardSize(uint64(s.Size), group)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if uint64(info.Size()) != uint64(len(head))+want {
		return nil, fmt.Errorf("%w: length", bao.ErrDamaged)
	}
	ob, err := bao.NewOutboard(io.NewSectionReader(f, int64(len(head)), int64(want)), root, uint64(s.Size), group)
	if err != nil {
		return nil, err
	}
	return &tree{ob, f}, nil
}

// build hashes f and caches its tree. ErrChanged where the file changed
// meanwhile.
func (c *cache) build(ctx context.Context, f *os.File, path string, group uint32, progress func(uint64)) (root [32]byte, s stamp, err error) {
	if s, err = settle(ctx, f); err != nil {
		return root, s, err
	}
	temp, err := os.CreateTemp(c.dir, "*"+tempSuffix)
	if err != nil {
		return root, s, fmt.Errorf("cache outboard: %w", err)
	}
	err = c.fill(ctx, temp, f, path, group, s, &root, progress)
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), c.name(path, group))
	}
	if err != nil {
		return root, s, errors.Join(err, os.Remove(temp.Name()))
	}
	return root, s, nil
}

func (c *cache) fill(ctx context.Context, temp, f *os.File, path string, group uint32, s stamp, root *[32]byte, progress func(uint64)) error {
	if err := lockFile(temp); err != nil {
		return err
	}
	body := int64(cacheFixed + len(path) + 32)
	var err error
	cfg := bao.BuildConfig{Workers: c.workers, Progress: progress}
	*root, err = bao.Build(ctx, f, uint64(s.Size), group, io.NewOffsetWriter(temp, body), cfg)
	if errors.Is(err, bao.ErrSourceShort) {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if err != nil {
		return err
	}
	after, err := stampFile(f)
	if err != nil {
		return err
	}
	if after != s {
		return fmt.Errorf("%w while it was hashed", ErrChanged)
	}
	if _, err := temp.WriteAt(cacheHeader(path, group, s, *root), 0); err != nil {
		return fmt.Errorf("cache outboard: %w", err)
	}
	return nil
}

// drop forgets a tree that turned out to be damaged.
func (c *cache) drop(path string, group uint32) {
	if err := os.Remove(c.name(path, group)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("cannot remove a damaged outboard", "path", path, "err", err)
	}
}

// prune removes the trees of files that are gone, and what crashed builds
// left. Trees of other folders' files stay.
func (c *cache) prune() error {
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("prune outboards: %w", err)
	}
	for _, e := range list {
		name := filepath.Join(c.dir, e.Name())
		var stale bool
		switch {
		case strings.HasSuffix(name, tempSuffix):
			stale = abandoned(name)
		case strings.HasSuffix(name, cacheSuffix):
			stale = orphan(name)
		}
		if !stale {
			continue
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("prune outboards: %w", err)
		}
	}
	return nil
}

// abandoned tells whether a temporary file is old and no build holds it.
func abandoned(name string) bool {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	info, err := f.Stat()
	free := err == nil && time.Since(info.ModTime()) > time.Minute && lockFile(f) == nil
	return f.Close() == nil && free
}

// orphan tells whether the file that a tree belongs to is gone.
func orphan(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	head := make([]byte, cacheFixed)
	_, err = io.ReadFull(f, head)
	n := binary.LittleEndian.Uint32(head[len(cacheMagic):])
	if err != nil || string(head[:len(cacheMagic)]) != cacheMagic || n > 1<<16 {
		return f.Close() == nil // not a tree, or of another version
	}
	path := make([]byte, n)
	_, err = io.ReadFull(f, path)
	if cerr := f.Close(); cerr != nil || err != nil {
		return err != nil
	}
	_, err = os.Lstat(string(path))
	return errors.Is(err, fs.ErrNotExist)
}
