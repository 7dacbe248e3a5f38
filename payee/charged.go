package payee

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/spillway/spillway/store"
)

// pageBits is how many chunks one page of the record of charged chunks covers.
const pageBits = 4096

// Item is one chunk that is to be released.
type Item struct {
	Resource [32]byte // what the chunk belongs to: a file's root
	Chunk    uint64   // index
	Price    uint64   // msat
}

// page is one stored page of charged chunks.
type page struct {
	key   string
	rev   uint64
	bits  []byte
	dirty bool
}

// pages holds the pages that a request touches.
type pages map[string]*page

// load reads the pages of the items.
func (p *Payee) loadPages(ctx context.Context, id string, items []Item) (pages, error) {
	all := pages{}
	for _, it := range items {
		key := pageKey(id, it)
		if all[key] != nil {
			continue
		}
		pg := &page{key: key}
		e, err := p.cfg.Store.Get(ctx, bucketCharged, key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			pg.bits = make([]byte, pageBits/8)
		case err != nil:
			return nil, err
		case len(e.Value) != pageBits/8:
			return nil, fmt.Errorf("%w: charged chunks %s", store.ErrDamaged, key)
		default:
			pg.bits, pg.rev = append([]byte(nil), e.Value...), e.Revision
		}
		all[key] = pg
	}
	return all, nil
}

func pageKey(id string, it Item) string {
	return fmt.Sprintf("%s/%s/%012x", id, hex.EncodeToString(it.Resource[:]), it.Chunk/pageBits)
}

// mark sets an item's bit and reports whether it was charged before.
func (ps pages) mark(id string, it Item) (before bool) {
	pg := ps[pageKey(id, it)]
	at, bit := it.Chunk%pageBits/8, byte(1)<<(it.Chunk%8)
	if pg.bits[at]&bit != 0 {
		return true
	}
	pg.bits[at] |= bit
	pg.dirty = true
	return false
}

// clear takes an item's bit back: it was charged and never arrived.
func (ps pages) clear(id string, it Item) {
	pg := ps[pageKey(id, it)]
	pg.bits[it.Chunk%pageBits/8] &^= byte(1) << (it.Chunk % 8)
	pg.dirty = true
}

func (ps pages) ops() (ops []store.Op) {
	for _, pg := range ps {
		if pg.dirty {
			ops = append(ops, store.Op{Bucket: bucketCharged, Key: pg.key, Value: pg.bits, Expect: pg.rev})
		}
	}
	return ops
}
