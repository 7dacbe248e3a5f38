package content

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/spillway/spillway/content/bao"
)

const (
	// MaxSize is the largest file or chunk, in bytes.
	MaxSize = bao.MaxSize
	// SmallChunk is the chunk size, in bytes, below which a provider should be
	// warned: the groups at a chunk's ends travel whole, and here the
	// neighbour's bytes in them are a notable part of what is not charged.
	SmallChunk = 32 << 10
)

// PriceSpec is a price as a provider states it: Msat for every PerBytes bytes,
// or Msat for the whole file, which is free where that is nothing.
type PriceSpec struct {
	Msat     uint64
	PerBytes uint64 // bytes; 0 where File
	File     bool
}

// Free is the price of a file that is given away.
var Free = PriceSpec{File: true}

// ParsePrice reads a price like 1sat/64KiB, 250msat/MiB or 1btc/file, or the word
// free. Errors are *InputError, as for amounts and sizes, and ErrZero.
func ParsePrice(s string) (PriceSpec, error) {
	fail := func(err error) (PriceSpec, error) {
		return PriceSpec{}, &InputError{What: "price", Input: s, Err: err, Hint: priceHint}
	}
	if s == "free" {
		return Free, nil
	}
	amount, per, ok := strings.Cut(s, "/")
	if !ok {
		return fail(ErrSyntax)
	}
	msat, err := ParseAmountMsat(strings.TrimSuffix(amount, " "))
	if err != nil {
		return fail(err.(*InputError).Err)
	}
	p := PriceSpec{Msat: msat}
	switch per = strings.TrimPrefix(per, " "); {
	case per == "file":
		p.File = true
	case per == "":
		return fail(ErrUnit)
	default:
		if per[0] < '0' || per[0] > '9' {
			per = "1" + per
		}
		if p.PerBytes, err = parseBytes(per); err != nil {
			return fail(err)
		}
	}
	if p.Msat == 0 || (!p.File && p.PerBytes == 0) {
		return fail(ErrZero)
	}
	return p, nil
}

// String writes the price so that ParsePrice reads the same.
func (p PriceSpec) String() string {
	if p == Free {
		return "free"
	}
	if p.File {
		return FormatMsat(p.Msat) + "/file"
	}
	return FormatMsat(p.Msat) + "/" + FormatBytes(p.PerBytes)
}

// Apply returns the price in msat of each chunk of chunkBytes of a file of
// size bytes, and of its last one. A price by the file is divided: every chunk
// costs floor(total/n), the last one the remainder too. A price by size is
// rounded up to a whole msat for each chunk, the last one by its own length.
// An empty file has no chunks and is free. Errors: ErrTooLarge where the file
// would cost more than MaxMsat, ErrZero for a chunk or a unit of no bytes.
func (p PriceSpec) Apply(size, chunkBytes uint64) (chunkMsat, lastMsat uint64, err error) {
	return p.apply(size, chunkBytes, 0)
}

// apply is Apply where so many chunks at the beginning are free: a price by the
// file is divided among the others.
func (p PriceSpec) apply(size, chunkBytes, free uint64) (chunkMsat, lastMsat uint64, err error) {
	if chunkBytes == 0 || (!p.File && p.PerBytes == 0) {
		return 0, 0, fmt.Errorf("price %v by chunks of %d bytes: %w", p, chunkBytes, ErrZero)
	}
	n := chunkCount(size, chunkBytes)
	if n == 0 {
		return 0, 0, nil
	}
	if p.File {
		paid := n - min(free, n-1)
		chunkMsat = p.Msat / paid
		lastMsat = p.Msat - chunkMsat*(paid-1)
	} else {
		var ok1, ok2 bool
		chunkMsat, ok1 = proportion(p.Msat, chunkBytes, p.PerBytes)
		lastMsat, ok2 = proportion(p.Msat, size-chunkBytes*(n-1), p.PerBytes)
		if n == 1 { // the last chunk is the only one
			chunkMsat, ok1 = lastMsat, ok2
		}
		if !ok1 || !ok2 {
			return 0, 0, p.tooDear(size)
		}
	}
	if _, ok := totalMsat(n, chunkMsat, lastMsat); !ok {
		return 0, 0, p.tooDear(size)
	}
	return chunkMsat, lastMsat, nil
}

func (p PriceSpec) tooDear(size uint64) error {
	return fmt.Errorf("price %v of %d bytes: %w: above 21 million btc", p, size, ErrTooLarge)
}

// proportion returns ceil(msat * n / per), and whether it is at most MaxMsat.
func proportion(msat, n, per uint64) (uint64, bool) {
	hi, lo := bits.Mul64(msat, n)
	if hi >= per {
		return 0, false
	}
	q, r := bits.Div64(hi, lo, per)
	if r > 0 {
		q++
	}
	return q, q <= MaxMsat
}

// totalMsat returns the price of n chunks, and whether it is at most MaxMsat.
func totalMsat(n, chunkMsat, lastMsat uint64) (uint64, bool) {
	if n == 0 {
		return 0, true
	}
	hi, lo := bits.Mul64(n-1, chunkMsat)
	sum, carry := bits.Add64(lo, lastMsat, 0)
	return sum, hi == 0 && carry == 0 && sum <= MaxMsat
}

// chunkCount returns how many chunks size bytes have.
func chunkCount(size, chunkBytes uint64) uint64 {
	n := size / chunkBytes
	if size%chunkBytes != 0 {
		n++
	}
	return n
}

// ChunkSpec is how a provider divides files: into chunks of Bytes, or into
// Count equal ones where Count is not 0.
type ChunkSpec struct {
	Bytes uint64
	Count uint64
}

// DefaultChunk divides files into chunks of 1 MiB.
var DefaultChunk = ChunkSpec{Bytes: 1 << 20}

// For returns the chunk size, in bytes, for a file of size bytes. Count equal
// chunks have ceil(size/Count) bytes, the last one less where that does not
// divide the file, which can make them fewer than Count. ErrZero where
// neither is set, ErrTooLarge for more than MaxSize.
func (c ChunkSpec) For(size uint64) (uint64, error) {
	n := c.Bytes
	if c.Count > 0 {
		n = max(1, chunkCount(size, c.Count))
	}
	switch {
	case n == 0:
		return 0, fmt.Errorf("chunk size: %w", ErrZero)
	case n > MaxSize:
		return 0, fmt.Errorf("chunk size %d: %w", n, ErrTooLarge)
	}
	return n, nil
}

// String writes the spec as its flag's value: a size, or a number of chunks.
func (c ChunkSpec) String() string {
	if c.Count > 0 {
		return fmt.Sprintf("%d chunks", c.Count)
	}
	return FormatBytes(c.Bytes)
}

// GroupFor returns the group size, in bytes, for chunks of chunkBytes: the
// largest power of two up to chunkBytes/32, from 1 to 16 KiB.
func GroupFor(chunkBytes uint64) uint32 {
	g := uint64(bao.MinGroup)
	for g < bao.MaxGroup && 2*g <= chunkBytes/32 {
		g *= 2
	}
	return uint32(g)
}
