package bao

import (
	"fmt"
	"math/bits"

	"lukechampine.com/blake3/guts"
)

const (
	// MinGroup is the least group size, in bytes.
	MinGroup = 1 << 10
	// MaxGroup is the largest group size, in bytes.
	MaxGroup = 16 << 10
	// MaxSize is the largest content, in bytes: what a JSON number holds
	// exactly, 2^53-1.
	MaxSize = 1<<53 - 1

	headerBytes = 8
	nodeBytes   = 64
)

// CheckGroup returns ErrGroup unless groupBytes is a power of two from
// MinGroup to MaxGroup.
func CheckGroup(groupBytes uint32) error {
	if groupBytes < MinGroup || groupBytes > MaxGroup || groupBytes&(groupBytes-1) != 0 {
		return fmt.Errorf("%w: %d", ErrGroup, groupBytes)
	}
	return nil
}

// CheckSize returns ErrSize where size is above MaxSize.
func CheckSize(size uint64) error {
	if size > MaxSize {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrSize, size, uint64(MaxSize))
	}
	return nil
}

func checkTree(size uint64, groupBytes uint32) error {
	if err := CheckGroup(groupBytes); err != nil {
		return err
	}
	return CheckSize(size)
}

// checkRange accepts a range of at least one byte inside the content, and the
// empty range of empty content.
func checkRange(size, off, length uint64) error {
	if size == 0 && off == 0 && length == 0 {
		return nil
	}
	if length == 0 || off >= size || length > size-off {
		return fmt.Errorf("%w: %d bytes from %d of %d", ErrRange, length, off, size)
	}
	return nil
}

// split returns how many of n > 1 bytes belong to the left child: the largest
// power of two below n.
func split(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// groups returns how many groups n bytes have; empty content has one.
func groups(n, group uint64) uint64 {
	if n == 0 {
		return 1
	}
	return (n + group - 1) / group
}

// parents returns how many parent nodes a subtree of n bytes has.
func parents(n, group uint64) uint64 { return groups(n, group) - 1 }

// nodeIndex returns the pre-order number of the first node of the subtree that
// starts at pos and has n bytes, in a tree of size bytes.
func nodeIndex(size, group, pos, n uint64) uint64 {
	var start, index uint64
	for width := size; start != pos || width != n; {
		mid := split(width)
		index++
		if pos < start+mid {
			width = mid
			continue
		}
		index += parents(mid, group)
		start += mid
		width -= mid
	}
	return index
}

// OutboardSize returns the bytes of the outboard of size bytes of content: a
// header and its parent nodes.
func OutboardSize(size uint64, groupBytes uint32) (uint64, error) {
	if err := checkTree(size, groupBytes); err != nil {
		return 0, err
	}
	return headerBytes + nodeBytes*parents(size, uint64(groupBytes)), nil
}

// SliceSize returns the exact bytes of the slice for length bytes from off of
// size bytes of content: header, parents and whole groups.
func SliceSize(size uint64, groupBytes uint32, off, length uint64) (uint64, error) {
	if err := checkTree(size, groupBytes); err != nil {
		return 0, err
	}
	if err := checkRange(size, off, length); err != nil {
		return 0, err
	}
	if size == 0 {
		return headerBytes, nil
	}
	return headerBytes + sliceBelow(0, size, uint64(groupBytes), off, off+length), nil
}

// sliceBelow counts the slice's bytes in the subtree of n bytes at pos, for
// the range from off to end.
func sliceBelow(pos, n, group, off, end uint64) uint64 {
	if pos >= end || pos+n <= off {
		return 0
	}
	if off <= pos && pos+n <= end {
		return n + nodeBytes*parents(n, group)
	}
	if n <= group {
		return n
	}
	mid := split(n)
	return nodeBytes + sliceBelow(pos, mid, group, off, end) + sliceBelow(pos+mid, n-mid, group, off, end)
}

// cv is a chaining value as eight little-endian words.
type cv = [8]uint32

func cvOf(b []byte) (c cv) {
	_ = b[31]
	for i := range c {
		c[i] = uint32(b[4*i]) | uint32(b[4*i+1])<<8 | uint32(b[4*i+2])<<16 | uint32(b[4*i+3])<<24
	}
	return c
}

func putCV(b []byte, c *cv) {
	_ = b[31]
	for i, w := range c {
		b[4*i], b[4*i+1], b[4*i+2], b[4*i+3] = byte(w), byte(w>>8), byte(w>>16), byte(w>>24)
	}
}

func cvBytes(c cv) (b [32]byte) {
	putCV(b[:], &c)
	return b
}

func parentCV(l, r cv, flags uint32) cv {
	return guts.ChainingValue(guts.ParentNode(l, r, &guts.IV, flags))
}

// rootFlag is the flag of the node at pos 0 that spans the whole content.
func rootFlag(n, size uint64) uint32 {
	if n == size {
		return guts.FlagRoot
	}
	return 0
}

// groupCV hashes one group of at most MaxGroup bytes at the byte offset pos.
// A buffer with room for MaxGroup bytes spares a copy.
func groupCV(p []byte, pos uint64, flags uint32) cv {
	var n guts.Node
	counter := pos / guts.ChunkSize
	switch {
	case len(p) <= guts.ChunkSize:
		n = guts.CompressChunk(p, &guts.IV, counter, 0)
	case cap(p) >= MaxGroup:
		n = guts.CompressBuffer((*[MaxGroup]byte)(p[:MaxGroup]), len(p), &guts.IV, counter, 0)
	default:
		var buf [MaxGroup]byte
		copy(buf[:], p)
		n = guts.CompressBuffer(&buf, len(p), &guts.IV, counter, 0)
	}
	n.Flags |= flags
	return guts.ChainingValue(n)
}

// groupCVs appends the chaining values of the groups of p, which starts at the
// byte offset pos, a multiple of the group size. The last group may be short.
func groupCVs(dst []cv, p []byte, pos, group uint64) []cv {
	pair := int(2 * group)
	for len(p) > 0 {
		// The two children of a parent of two full groups come out of one
		// vectorised call; single chunks are faster one by one.
		if group > guts.ChunkSize && pair <= MaxGroup && len(p) >= pair && cap(p) >= MaxGroup {
			n := guts.CompressBuffer((*[MaxGroup]byte)(p[:MaxGroup]), pair, &guts.IV, pos/guts.ChunkSize, 0)
			dst = append(dst, cv(n.Block[:8]), cv(n.Block[8:]))
			p, pos = p[pair:], pos+uint64(pair)
			continue
		}
		k := min(len(p), int(group))
		dst = append(dst, groupCV(p[:k], pos, 0))
		p, pos = p[k:], pos+uint64(k)
	}
	return dst
}
