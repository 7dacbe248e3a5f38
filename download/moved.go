package download

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store"
)

// elsewhere finds an unfinished purchase of the same content, from the same address,
// that went to another name, and takes its journal as the beginning of this one: what
// was verified and paid there counts here. It changes nothing; adopt does.
func (b *Buyer) elsewhere(ctx context.Context, h *held, m *content.Manifest, url, path string) error {
	entries, err := b.cfg.Store.List(ctx, bucketJournal, m.Root.String()+"/")
	if err != nil {
		return err
	}
	for _, e := range entries {
		var j journal
		if err := json.Unmarshal(e.Value, &j); err != nil {
			return fmt.Errorf("%w: %s/%s: %v", store.ErrDamaged, bucketJournal, e.Key, err)
		}
		if j.Verified == nil {
			j.Verified = &content.Ranges{}
		}
		if j.Version != journalVersion || j.Path == path || j.Size != m.Size || j.LastPaid && j.Acked || !j.sound() ||
			paywall.Origin(j.URL) != paywall.Origin(url) || !j.bought() && j.Verified.Total() == 0 {
			continue
		}
		if _, err := os.Lstat(j.Path); !errors.Is(err, fs.ErrNotExist) {
			continue // it is whole there
		}
		if h.from != nil && h.Verified.Total() >= j.Verified.Total() {
			continue
		}
		h.from, h.oldPath = &e, j.Path
		h.journal = j
		h.Path = path
	}
	return nil
}

// adopt takes the purchase over that elsewhere found: its part file first, then its
// journal, in one commit. A crash in between is made good by the next run, which
// finds the part file here already.
func (b *Buyer) adopt(ctx context.Context, h *held, root content.Hash) error {
	if h.from == nil {
		return nil
	}
	from, to := content.PartPath(h.oldPath, root), content.PartPath(h.Path, root)
	b.cfg.Log.Info("a purchase goes on at another place", "from", h.oldPath, "to", h.Path)
	for _, move := range [][2]string{{content.TreePath(from), content.TreePath(to)}, {from, to}} {
		if _, err := os.Lstat(move[1]); err == nil {
			continue // somebody moved it here
		}
		if err := moveFile(move[0], move[1]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	value, err := json.Marshal(h.journal)
	if err != nil {
		return err
	}
	err = b.cfg.Store.Commit(ctx, store.Op{Bucket: bucketJournal, Key: h.key, Value: value},
		store.Op{Bucket: bucketJournal, Key: h.from.Key, Expect: h.from.Revision})
	if err != nil {
		return fmt.Errorf("the journal was not saved: %w", err)
	}
	h.from = nil
	return b.saved(ctx, h, h.journal)
}

// moveFile renames a file, or copies it to another file system.
func moveFile(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to+".moving", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		return errors.Join(err, os.Remove(to+".moving"))
	}
	return errors.Join(os.Rename(to+".moving", to), os.Remove(from))
}

// partOf is where the part file of a purchase lies; "" where it is nowhere.
func (h *held) partOf(root content.Hash) string {
	for _, path := range []string{h.Path, h.oldPath} {
		part := content.PartPath(path, root)
		if info, err := os.Lstat(part); path != "" && err == nil && info.Mode().IsRegular() {
			return part
		}
	}
	return ""
}
