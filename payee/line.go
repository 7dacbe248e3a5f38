package payee

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
)

// bucketLine holds what metered answers were charged: channel id/resource → units,
// msat and the time of the last charge.
const bucketLine = "payee/line"

const (
	lineBytes = 24
	// pruneEvery is after how many saves of a channel its old lines are looked at, and
	// pruneMost how many of them one commit forgets.
	pruneEvery = 256
	pruneMost  = 512
)

// Line is a metered delivery, such as one answer of an API: its charge is
// ceil(Units · Price / Per) on its cumulative units, so what was charged once is
// released again free. docs/protocol.md, section 6.
type Line struct {
	Resource [32]byte // names the delivery
	Units    uint64   // all that will have been released once this is charged
	Price    uint64   // msat for Per units
	Per      uint64   // units, at least 1
	Since    int64    // unix seconds; a line that was charged last before counts as none
}

// Cost is what the line's units cost in all, in msat. Errors: channel.ErrOverflow.
func (l Line) Cost() (uint64, error) { return l.of(l.Units) }

func (l Line) of(units uint64) (uint64, error) {
	if l.Per == 0 {
		return 0, fmt.Errorf("%w: a price per nothing", channel.ErrOverflow)
	}
	hi, lo := bits.Mul64(units, l.Price)
	if hi >= l.Per {
		return 0, fmt.Errorf("%w: %d units at %d msat per %d", channel.ErrOverflow, units, l.Price, l.Per)
	}
	msat, rest := bits.Div64(hi, lo, l.Per)
	if rest > 0 {
		msat++
	}
	return channel.AddMsat(0, msat)
}

// metered is a line with what is saved of it.
type metered struct {
	fresh uint64 // msat of this charge
	had   uint64 // units that were charged before
	units uint64 // of this charge
	total uint64 // msat of the line, with this charge
	ops   []store.Op
}

// meter works out what a line's next charge is. The channel is locked: nobody else
// writes its lines. Errors: channel.ErrOverflow, store.ErrDamaged, of the store.
func (p *Payee) meter(ctx context.Context, h *held, l *Line) (metered, error) {
	var m metered
	if l == nil {
		return m, nil
	}
	key := h.id + "/" + hex.EncodeToString(l.Resource[:])
	e, err := p.cfg.Store.Get(ctx, bucketLine, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return m, err
	}
	now := p.cfg.Now().Unix()
	var had, msat uint64
	if err == nil {
		if len(e.Value) != lineBytes {
			return m, fmt.Errorf("%w: %s %s", store.ErrDamaged, bucketLine, key)
		}
		if at := int64(binary.BigEndian.Uint64(e.Value[16:])); at >= l.Since {
			had, msat = binary.BigEndian.Uint64(e.Value), binary.BigEndian.Uint64(e.Value[8:])
		}
	}
	m.total, m.had = msat, had
	if l.Units <= had {
		return m, nil
	}
	before, err := l.of(had)
	if err != nil {
		return m, err
	}
	after, err := l.Cost()
	if err != nil {
		return m, err
	}
	m.fresh, m.units = after-before, l.Units-had
	if m.total, err = channel.AddMsat(msat, m.fresh); err != nil {
		return m, err
	}
	value := binary.BigEndian.AppendUint64(nil, l.Units)
	value = binary.BigEndian.AppendUint64(value, m.total)
	value = binary.BigEndian.AppendUint64(value, uint64(now))
	m.ops = []store.Op{{Bucket: bucketLine, Key: key, Value: value, Expect: e.Revision}}
	return m, p.prune(ctx, h, l.Since, key, &m)
}

// prune forgets, once in a while, the lines of a channel that count as none.
func (p *Payee) prune(ctx context.Context, h *held, since int64, keep string, m *metered) error {
	if h.rev%pruneEvery != 0 {
		return nil
	}
	old, err := p.cfg.Store.List(ctx, bucketLine, h.id+"/")
	if err != nil {
		return err
	}
	for _, e := range old {
		if len(m.ops) > pruneMost {
			break
		}
		if e.Key != keep && len(e.Value) == lineBytes && int64(binary.BigEndian.Uint64(e.Value[16:])) < since {
			m.ops = append(m.ops, store.Op{Bucket: bucketLine, Key: e.Key, Expect: e.Revision})
		}
	}
	return nil
}

// sold is a line's charge as the earnings count it: by the name of what is sold.
func (m metered) sold(name string) []Item {
	if m.fresh == 0 {
		return nil
	}
	return []Item{{Resource: sha256.Sum256([]byte("spillway/line " + name)), Price: m.fresh}}
}
