package content

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
)

// ErrRanges: serialised ranges are damaged.
var ErrRanges = errors.New("byte ranges damaged")

// Range are the bytes from Start up to, not including, End.
type Range struct{ Start, End uint64 }

// Len returns how many bytes the range has.
func (r Range) Len() uint64 { return r.End - r.Start }

// Ranges is a set of bytes: which of a file are verified. The zero value is
// empty. It keeps as few intervals as there are: sorted, apart, none empty. It
// is not safe for concurrent use.
type Ranges struct{ list []Range }

// first returns the index of the first interval that ends at or after off.
func (r *Ranges) first(off uint64) int {
	return sort.Search(len(r.list), func(i int) bool { return r.list[i].End >= off })
}

// Add adds the bytes from start up to end; nothing where end <= start.
func (r *Ranges) Add(start, end uint64) {
	if end <= start {
		return
	}
	i := r.first(start)
	j := i
	for j < len(r.list) && r.list[j].Start <= end {
		start, end = min(start, r.list[j].Start), max(end, r.list[j].End)
		j++
	}
	r.list = slices.Replace(r.list, i, j, Range{start, end})
}

// Contains tells whether every byte from start up to end is in the set; true
// for no bytes.
func (r *Ranges) Contains(start, end uint64) bool {
	if end <= start {
		return true
	}
	i := r.first(end)
	return i < len(r.list) && r.list[i].Start <= start
}

// Missing returns the bytes from start up to end that are not in the set, as
// intervals in order.
func (r *Ranges) Missing(start, end uint64) []Range {
	var missing []Range
	for i := r.first(start); start < end; i++ {
		if i == len(r.list) || r.list[i].Start >= end {
			return append(missing, Range{start, end})
		}
		if r.list[i].Start > start {
			missing = append(missing, Range{start, r.list[i].Start})
		}
		start = r.list[i].End
	}
	return missing
}

// Within returns how many bytes from start up to end are in the set.
func (r *Ranges) Within(start, end uint64) uint64 {
	var n uint64
	for i := r.first(start); i < len(r.list) && r.list[i].Start < end; i++ {
		if s, e := max(start, r.list[i].Start), min(end, r.list[i].End); s < e {
			n += e - s
		}
	}
	return n
}

// Total returns how many bytes are in the set.
func (r *Ranges) Total() uint64 { return r.Within(0, math.MaxUint64) }

// List returns the intervals, in order.
func (r *Ranges) List() []Range { return slices.Clone(r.list) }

// Clone returns a copy that changes apart.
func (r *Ranges) Clone() *Ranges { return &Ranges{slices.Clone(r.list)} }

// Equal tells whether both sets hold the same bytes.
func (r *Ranges) Equal(other *Ranges) bool { return slices.Equal(r.list, other.list) }

const rangesVersion = 1

// MarshalBinary writes the set as a version byte, then for each interval the
// gap before it and its length, as unsigned varints.
func (r *Ranges) MarshalBinary() ([]byte, error) {
	b := append(make([]byte, 0, 1+10*len(r.list)), rangesVersion)
	var last uint64
	for _, v := range r.list {
		b = binary.AppendUvarint(b, v.Start-last)
		b = binary.AppendUvarint(b, v.Len())
		last = v.End
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary wrote, and nothing else: ErrRanges.
func (r *Ranges) UnmarshalBinary(b []byte) error {
	if len(b) == 0 || b[0] != rangesVersion {
		return fmt.Errorf("%w: unknown version", ErrRanges)
	}
	var list []Range
	var last uint64
	for b = b[1:]; len(b) > 0; {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return fmt.Errorf("%w: cut short", ErrRanges)
		}
		length, k := binary.Uvarint(b[n:])
		if k <= 0 {
			return fmt.Errorf("%w: cut short", ErrRanges)
		}
		if length == 0 || (gap == 0 && len(list) > 0) || gap > math.MaxUint64-last || length > math.MaxUint64-last-gap {
			return fmt.Errorf("%w: intervals out of order", ErrRanges)
		}
		v := Range{last + gap, last + gap + length}
		list, last, b = append(list, v), v.End, b[n+k:]
	}
	r.list = list
	return nil
}

// MarshalJSON writes the set as a list of [start, end] pairs, the end not
// included.
func (r *Ranges) MarshalJSON() ([]byte, error) {
	pairs := make([][2]uint64, len(r.list))
	for i, v := range r.list {
		pairs[i] = [2]uint64{v.Start, v.End}
	}
	return json.Marshal(pairs)
}

// UnmarshalJSON reads what MarshalJSON wrote: ErrRanges unless the pairs are
// sorted, apart and not empty.
func (r *Ranges) UnmarshalJSON(b []byte) error {
	var pairs [][]uint64
	if err := json.Unmarshal(b, &pairs); err != nil {
		return fmt.Errorf("%w: %w", ErrRanges, err)
	}
	var list []Range
	for i, p := range pairs {
		if len(p) != 2 || p[0] >= p[1] || (i > 0 && p[0] <= list[i-1].End) {
			return fmt.Errorf("%w: intervals out of order", ErrRanges)
		}
		list = append(list, Range{p[0], p[1]})
	}
	r.list = list
	return nil
}
