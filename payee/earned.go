package payee

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
)

// bucketEarned holds what was charged: day/channel id/resource → Earned. An entry is
// saved in the commit of the charge itself, so there is never one without the other.
// Its growth is bounded by what was sold: one entry for a day, a channel and a file,
// however many chunks.
const bucketEarned = "payee/earned"

// Earned is what was charged for one resource on one channel on one day (UTC).
type Earned struct {
	Day      string `json:"day"`            // 2026-11-21
	Channel  string `json:"channel"`        // id
	Resource string `json:"resource"`       // hex, Item.Resource
	Name     string `json:"name"`           // what the seller called it; "" where it gave no name
	Chunks   uint64 `json:"chunks"`         // that were charged
	Msat     uint64 `json:"msat"`           // charged for them
	Back     uint64 `json:"back,omitempty"` // msat that were taken off again, or paid back, on that day
}

// PaidBack is the resource of what was paid back for no chunk in particular.
const PaidBack = "paid-back"

// earn adds what a request is charged for to the day's entries; the ops belong into
// the commit of the charge. The channel is locked: nobody else writes its entries.
func (p *Payee) earn(ctx context.Context, id, name string, fresh []Item) (ops []store.Op, err error) {
	at := map[string]int{}
	day := p.cfg.Now().UTC().Format("2006-01-02")
	var sums []Earned
	var revs []uint64
	for _, it := range fresh {
		key := day + "/" + id + "/" + hex.EncodeToString(it.Resource[:])
		i, ok := at[key]
		if !ok {
			e, rev, err := p.earned(ctx, key)
			if err != nil {
				return nil, err
			}
			e.Day, e.Channel, e.Resource = day, id, hex.EncodeToString(it.Resource[:])
			i, at[key] = len(sums), len(sums)
			sums, revs = append(sums, e), append(revs, rev)
		}
		sums[i].Chunks++
		sums[i].Msat += it.Price
		if name != "" {
			sums[i].Name = name
		}
	}
	for i, e := range sums {
		raw, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		ops = append(ops, store.Op{Bucket: bucketEarned, Key: e.Day + "/" + e.Channel + "/" + e.Resource, Value: raw, Expect: revs[i]})
	}
	return ops, nil
}

// takenOff adds what is taken off or paid back to the day's entries: for chunks, or
// with no charges msat for none in particular. The ops belong into the same commit.
func (p *Payee) takenOff(ctx context.Context, id string, off []channel.Charge, msat uint64) (ops []store.Op, err error) {
	sums := map[string]uint64{}
	for _, c := range off {
		sums[hex.EncodeToString(c.Resource)] += c.Price
	}
	if len(off) == 0 {
		sums[PaidBack] = msat
	}
	day := p.cfg.Now().UTC().Format("2006-01-02")
	for _, resource := range slices.Sorted(maps.Keys(sums)) {
		key := day + "/" + id + "/" + resource
		e, rev, err := p.earned(ctx, key)
		if err != nil {
			return nil, err
		}
		e.Day, e.Channel, e.Resource = day, id, resource
		e.Back += sums[resource]
		raw, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		ops = append(ops, store.Op{Bucket: bucketEarned, Key: key, Value: raw, Expect: rev})
	}
	return ops, nil
}

// earned reads an entry; an empty one where there is none yet.
func (p *Payee) earned(ctx context.Context, key string) (e Earned, rev uint64, err error) {
	entry, err := p.cfg.Store.Get(ctx, bucketEarned, key)
	if errors.Is(err, store.ErrNotFound) {
		return e, 0, nil
	} else if err != nil {
		return e, 0, err
	}
	if err := json.Unmarshal(entry.Value, &e); err != nil {
		return e, 0, fmt.Errorf("%w: %s %s: %v", store.ErrDamaged, bucketEarned, key, err)
	}
	return e, entry.Revision, nil
}

// Earnings reads what was charged from a day on (2026-11-21; "": from the first),
// sorted by day, channel and resource, with what was paid back beside it. What was charged is owed: whether it was paid
// stands in the channels' records. Errors: store.ErrDamaged, of the store.
func Earnings(ctx context.Context, s Store, since string) ([]Earned, error) {
	entries, err := s.List(ctx, bucketEarned, "")
	if err != nil {
		return nil, err
	}
	all := make([]Earned, 0, len(entries))
	for _, entry := range entries {
		if strings.Compare(entry.Key, since) < 0 {
			continue
		}
		var e Earned
		if err := json.Unmarshal(entry.Value, &e); err != nil {
			return nil, fmt.Errorf("%w: %s %s: %v", store.ErrDamaged, bucketEarned, entry.Key, err)
		}
		all = append(all, e)
	}
	return all, nil
}
