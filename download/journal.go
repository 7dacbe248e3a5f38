package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/store"
)

// Buckets of the store.
const (
	bucketJournal = "payer/journal" // root and path → journal
	bucketEvicted = "payer/evicted" // channel id → why it is not used again
)

const journalVersion = 1

// journal is what is remembered of one purchase: one content under one name.
type journal struct {
	Version    int             `json:"version"`
	URL        string          `json:"url"`
	Path       string          `json:"path"`
	Root       string          `json:"root"`
	Size       uint64          `json:"size"`
	ChunkBytes uint64          `json:"chunk_bytes"`
	Verified   *content.Ranges `json:"verified"`   // bytes, written and synced
	PartMtime  int64           `json:"part_mtime"` // unix nanoseconds, when that was saved; 0: unknown
	Suspect    bool            `json:"suspect"`    // the part file was touched since: it is read back at the end
	Uses       []use           `json:"uses"`
	LastPaid   bool            `json:"last_paid"` // the last update of the purchase is signed
	Acked      bool            `json:"acked"`     // and the provider has it
}

// use is one channel's part in a purchase.
type use struct {
	Channel string          `json:"channel"`
	Base    uint64          `json:"base"`   // sat signed in the channel when the purchase came to it
	Msat    uint64          `json:"msat"`   // what of the channel's ledger is this purchase's
	Chunks  *content.Ranges `json:"chunks"` // indexes of the chunks that are in it
}

// held is a journal with the key and revision that it is saved under.
type held struct {
	journal
	key string
	rev uint64

	from    *store.Entry // the journal of the same purchase under another name, to be adopted
	oldPath string       // that name
}

func journalKey(root content.Hash, path string) string {
	sum := sha256.Sum256([]byte(path))
	return root.String() + "/" + hex.EncodeToString(sum[:16])
}

// load reads the journal of a purchase; an empty one where there is none.
func (b *Buyer) load(ctx context.Context, m *content.Manifest, url, path string) (*held, error) {
	h := &held{key: journalKey(m.Root, path)}
	e, err := b.cfg.Store.Get(ctx, bucketJournal, h.key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		h.journal = journal{Version: journalVersion, Path: path, Root: m.Root.String(), Size: m.Size}
		if err := b.elsewhere(ctx, h, m, url, path); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		h.rev = e.Revision
		if err := json.Unmarshal(e.Value, &h.journal); err != nil {
			return nil, fmt.Errorf("%w: the journal of %s: %v", store.ErrDamaged, path, err)
		}
		if h.Version != journalVersion || h.Root != m.Root.String() || h.Size != m.Size {
			return nil, fmt.Errorf("%w: the journal of %s is of another version or file", store.ErrDamaged, path)
		}
		if !h.sound() {
			return nil, fmt.Errorf("%w: the journal of %s names what the file does not have", store.ErrDamaged, path)
		}
	}
	if h.Verified == nil {
		h.Verified = &content.Ranges{}
	}
	h.URL = url
	h.rechunk(m)
	return h, b.renew(ctx, &h.journal)
}

// sound reports whether what a journal names lies in the file.
func (j *journal) sound() bool {
	if j.Verified != nil && j.Verified.Within(j.Size, math.MaxUint64) > 0 {
		return false
	}
	for _, u := range j.Uses {
		if u.Chunks == nil || j.ChunkBytes == 0 && u.Chunks.Total() > 0 {
			return false
		}
		for _, r := range u.Chunks.List() {
			if (r.End-1) > j.Size/j.ChunkBytes || (r.End-1)*j.ChunkBytes >= j.Size {
				return false
			}
		}
	}
	return true
}

// renew forgets the channels of a purchase that was finished where they are over:
// what is bought after that is another purchase.
func (b *Buyer) renew(ctx context.Context, j *journal) error {
	if !j.LastPaid || !j.Acked {
		return nil
	}
	var live []use
	for _, u := range j.Uses {
		r, err := b.cfg.Payer.Record(ctx, u.Channel)
		if err != nil {
			return err
		}
		gone, err := b.evicted(ctx, u.Channel)
		if err != nil {
			return err
		}
		if !gone && !over(r) {
			live = append(live, u)
		}
	}
	j.Uses = live
	return nil
}

// rechunk follows a change of the chunk size: what belongs to whole chunks that
// were paid stays, the rest of it and the charges by index mean nothing any more.
func (j *journal) rechunk(m *content.Manifest) {
	if old := j.ChunkBytes; old != 0 && old != m.ChunkBytes {
		whole := &content.Ranges{}
		for _, u := range j.Uses {
			for _, r := range u.Chunks.List() {
				start, end := r.Start*old, min(r.End*old, j.Size)
				have := j.Verified.Clone()
				for _, gap := range have.Missing(start, end) {
					whole.Add(start, gap.Start)
					start = gap.End
				}
				whole.Add(start, end)
			}
		}
		j.Verified = whole
		for i := range j.Uses {
			j.Uses[i].Chunks = &content.Ranges{}
		}
	}
	j.ChunkBytes = m.ChunkBytes
}

// clone copies a journal so that what is to be saved can differ from what is.
func (j *journal) clone() journal {
	c := *j
	c.Verified = j.Verified.Clone()
	c.Uses = make([]use, len(j.Uses))
	for i, u := range j.Uses {
		c.Uses[i] = u
		c.Uses[i].Chunks = u.Chunks.Clone()
	}
	return c
}

// use returns the part of a channel; nil where it has none.
func (j *journal) use(id string) *use {
	for i := range j.Uses {
		if j.Uses[i].Channel == id {
			return &j.Uses[i]
		}
	}
	return nil
}

// bought reports whether anything was bought.
func (j *journal) bought() bool {
	for _, u := range j.Uses {
		if u.Chunks.Total() > 0 {
			return true
		}
	}
	return false
}

// begin notes that a channel is used from now on; signed is what was signed in
// it before, in sat.
func (j *journal) begin(id string, signed uint64) {
	if j.use(id) == nil {
		j.Uses = append(j.Uses, use{Channel: id, Base: signed, Chunks: &content.Ranges{}})
	}
}

// op is the commit of a journal.
func (h *held) op(next journal) (store.Op, error) {
	value, err := json.Marshal(next)
	return store.Op{Bucket: bucketJournal, Key: h.key, Value: value, Expect: h.rev}, err
}

// saved takes a journal that was committed as the present one.
func (b *Buyer) saved(ctx context.Context, h *held, next journal) error {
	if h.rev > 0 {
		h.journal, h.rev = next, h.rev+1
		return nil
	}
	e, err := b.cfg.Store.Get(ctx, bucketJournal, h.key)
	if err != nil {
		return err
	}
	h.journal, h.rev = next, e.Revision
	return nil
}

// save commits a journal by itself.
func (b *Buyer) save(ctx context.Context, h *held, next journal) error {
	op, err := h.op(next)
	if err != nil {
		return err
	}
	if err := b.cfg.Store.Commit(ctx, op); err != nil {
		return fmt.Errorf("the journal was not saved: %w", err)
	}
	return b.saved(ctx, h, next)
}

// drop deletes the journal of a purchase that is over.
func (b *Buyer) drop(ctx context.Context, h *held) error {
	if h.rev == 0 {
		return nil
	}
	if err := b.cfg.Store.Commit(ctx, store.Op{Bucket: bucketJournal, Key: h.key, Expect: h.rev}); err != nil {
		return fmt.Errorf("the journal was not saved: %w", err)
	}
	h.rev = 0
	return nil
}

// floor is what was signed in a channel for anything but this purchase, in sat. In a
// duplex channel it is what is in the ledger beside this purchase, which is less than
// nothing where more flows back.
func (u *use) floor(r channel.PayerRecord) int64 {
	if r.Duplex != nil {
		other := int64(r.Owed) - int64(u.Msat)
		if other <= 0 {
			return other / 1000
		}
		return int64(channel.CeilSat(uint64(other)))
	}
	return int64(max(u.Base, channel.CeilSat(r.Owed-min(r.Owed, u.Msat))))
}

// spent is what was signed in a channel for this purchase, in sat.
func (u *use) spent(r channel.PayerRecord) uint64 {
	return uint64(max(0, int64(r.Signed)-u.floor(r)))
}

// spent is what was signed for this purchase over all channels, in sat. skip is
// a channel that does not count.
func (b *Buyer) spent(ctx context.Context, j *journal, skip string) (uint64, error) {
	var sum uint64
	for i := range j.Uses {
		u := &j.Uses[i]
		if u.Channel == skip {
			continue
		}
		r, err := b.cfg.Payer.Record(ctx, u.Channel)
		if err != nil {
			return 0, err
		}
		sum += u.spent(r)
	}
	return sum, nil
}
