// Package charged remembers which chunks were charged on a channel, one bit each, so
// that none is charged twice. Whoever sells keeps it: the payee, and in a duplex
// channel the payer too.
//
// It decides nothing about money, and writes nothing by itself: what changed is
// returned as operations, for the commit that charges.
package charged

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

// Store is what pages are read from.
type Store interface {
	Get(ctx context.Context, bucket, key string) (store.Entry, error)
}

type page struct {
	key   string
	rev   uint64
	bits  []byte
	dirty bool
}

// Pages holds the pages that a request touches.
type Pages struct {
	bucket, id string
	pages      map[string]*page
}

// Load reads the pages of a channel's items. Errors: store.ErrDamaged, of the store.
func Load(ctx context.Context, s Store, bucket, id string, items []Item) (Pages, error) {
	all := Pages{bucket: bucket, id: id, pages: map[string]*page{}}
	for _, it := range items {
		key := pageKey(id, it)
		if all.pages[key] != nil {
			continue
		}
		pg := &page{key: key}
		e, err := s.Get(ctx, bucket, key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			pg.bits = make([]byte, pageBits/8)
		case err != nil:
			return Pages{}, err
		case len(e.Value) != pageBits/8:
			return Pages{}, fmt.Errorf("%w: charged chunks %s", store.ErrDamaged, key)
		default:
			pg.bits, pg.rev = append([]byte(nil), e.Value...), e.Revision
		}
		all.pages[key] = pg
	}
	return all, nil
}

func pageKey(id string, it Item) string {
	return fmt.Sprintf("%s/%s/%012x", id, hex.EncodeToString(it.Resource[:]), it.Chunk/pageBits)
}

func (ps Pages) at(it Item) (pg *page, at uint64, bit byte) {
	return ps.pages[pageKey(ps.id, it)], it.Chunk % pageBits / 8, byte(1) << (it.Chunk % 8)
}

// Mark sets the bit of an item that was loaded and reports whether it was charged before.
func (ps Pages) Mark(it Item) (before bool) {
	pg, at, bit := ps.at(it)
	if pg.bits[at]&bit != 0 {
		return true
	}
	pg.bits[at] |= bit
	pg.dirty = true
	return false
}

// Clear takes the bit of an item that was loaded back: it was charged and never arrived.
func (ps Pages) Clear(it Item) {
	pg, at, bit := ps.at(it)
	pg.bits[at] &^= bit
	pg.dirty = true
}

// Ops is what changed.
func (ps Pages) Ops() (ops []store.Op) {
	for _, pg := range ps.pages {
		if pg.dirty {
			ops = append(ops, store.Op{Bucket: ps.bucket, Key: pg.key, Value: pg.bits, Expect: pg.rev})
		}
	}
	return ops
}
