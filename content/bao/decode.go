package bao

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"
)

// Slice names a slice: which content, and which bytes of it.
type Slice struct {
	Root       [32]byte // plain BLAKE3 hash of the content
	Size       uint64   // bytes of the content
	GroupBytes uint32   // a power of two from 1 to 16 KiB
	Offset     uint64   // first byte wanted
	Length     uint64   // bytes wanted; 0 only where the content is empty
}

// EncodedSize returns the exact bytes of the slice on the wire.
func (s Slice) EncodedSize() (uint64, error) {
	return SliceSize(s.Size, s.GroupBytes, s.Offset, s.Length)
}

// DecodeSlice reads the slice s from r, to its end, and writes its bytes to w
// at their offsets in the content: only those in the range, and only after
// they were verified. After each run that was written onVerified, where set,
// is told the offset up to which the range is verified and written.
//
// Errors: *WrongBytesError (ErrWrongBytes), *TruncatedError (ErrTruncated),
// ErrTrailing, ErrRange, ErrGroup, ErrSize, the context's, and those of r and
// w. Whatever was verified before an error has been written and reported.
//
// Where w is a NodeWriter too it is given the verified nodes, before the bytes below
// them are reported.
func DecodeSlice(ctx context.Context, w io.WriterAt, r io.Reader, s Slice, onVerified func(upto uint64)) error {
	if err := checkTree(s.Size, s.GroupBytes); err != nil {
		return err
	}
	if err := checkRange(s.Size, s.Offset, s.Length); err != nil {
		return err
	}
	b := decodeBuffers.Get().(*decodeBuffer)
	defer decodeBuffers.Put(b)
	b.in.Reset(&sticky{r: r})
	defer b.in.Reset(nil)
	d := &decoder{ctx: ctx, w: w, b: b, s: s, group: uint64(s.GroupBytes), end: s.Offset + s.Length, next: s.Offset, on: onVerified}
	d.nodes, _ = w.(NodeWriter)
	err := d.decode()
	if ferr := d.flush(); ferr != nil && err == nil {
		err = ferr
	} else if ferr != nil {
		err = errors.Join(err, ferr)
	}
	if err != nil {
		return d.located(err)
	}
	return d.trailing()
}

// outBytes is how much verified content is gathered before it is written.
const outBytes = 256 << 10

type decodeBuffer struct {
	in   *bufio.Reader
	node [nodeBytes]byte
	out  [outBytes + MaxGroup]byte // the last MaxGroup are room for the hash
}

var decodeBuffers = sync.Pool{New: func() any {
	return &decodeBuffer{in: bufio.NewReaderSize(nil, 64<<10)}
}}

// sticky repeats a reader's first error, which looking ahead would lose.
type sticky struct {
	r   io.Reader
	err error
}

func (s *sticky) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.err = err
	return n, err
}

type decoder struct {
	ctx     context.Context
	w       io.WriterAt
	b       *decodeBuffer
	s       Slice
	group   uint64
	end     uint64
	next    uint64 // offset of the first byte not yet written
	pending int    // verified bytes of b.out that follow next
	on      func(uint64)

	nodes  NodeWriter // nil: nobody keeps them
	kept   []byte     // verified nodes that were not handed over yet, one after the other
	keptAt uint64     // number of the first of them
}

// errShort marks an end of input; located turns it into a TruncatedError.
type errShort struct{ err error }

func (e errShort) Error() string { return e.err.Error() }

func (d *decoder) located(err error) error {
	if short, ok := err.(errShort); ok {
		return &TruncatedError{Verified: d.next, Err: short.err}
	}
	return err
}

func (d *decoder) decode() error {
	var head [headerBytes]byte
	if err := d.read(head[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(head[:]) != d.s.Size {
		return &WrongBytesError{Part: PartHeader, Length: d.s.Size, Bytes: head[:]}
	}
	if d.s.Size > 0 {
		return d.subtree(0, d.s.Size, cvOf(d.s.Root[:]))
	}
	if empty := blake3.Sum256(nil); empty != d.s.Root {
		return &WrongBytesError{Part: PartGroup, Want: d.s.Root, Got: empty}
	}
	return nil
}

func (d *decoder) subtree(pos, n uint64, want cv) error {
	if pos >= d.end || pos+n <= d.s.Offset {
		return nil
	}
	if n <= d.group {
		return d.leaf(pos, n, want)
	}
	if n == MaxGroup && d.s.Offset <= pos && pos+n <= d.end {
		if ok, err := d.block(pos, want); ok || err != nil {
			return err
		}
	}
	node := d.b.node[:]
	if err := d.read(node); err != nil {
		return err
	}
	l, r := cvOf(node), cvOf(node[32:])
	if got := parentCV(l, r, rootFlag(n, d.s.Size)); got != want {
		return wrong(PartNode, pos, n, want, got, node)
	}
	if err := d.keep(pos, n, node); err != nil {
		return err
	}
	mid := split(n)
	if err := d.subtree(pos, mid, l); err != nil {
		return err
	}
	return d.subtree(pos+mid, n-mid, r)
}

// leaf reads one group behind the pending bytes, verifies it, and keeps the
// part of it that is in the range.
func (d *decoder) leaf(pos, n uint64, want cv) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if d.pending+int(n) > outBytes {
		if err := d.flush(); err != nil {
			return err
		}
	}
	p := d.b.out[d.pending : d.pending+int(n)]
	if err := d.read(p); err != nil {
		return err
	}
	var flags uint32
	if n == d.s.Size {
		flags = guts.FlagRoot
	}
	if got := groupCV(p, pos, flags); got != want {
		return wrong(PartGroup, pos, n, want, got, p)
	}
	kept := p[:min(n, d.end-pos)]
	if pos < d.s.Offset {
		copy(kept, kept[d.s.Offset-pos:])
		kept = kept[:uint64(len(kept))-(d.s.Offset-pos)]
	}
	d.pending += len(kept)
	return nil
}

// block verifies a whole subtree of MaxGroup bytes with one vectorised hash
// instead of one for each of its small groups; its nodes are verified as ever.
// Where anything is wrong or cut short it consumes nothing and returns false,
// and the groups are taken one by one.
func (d *decoder) block(pos uint64, want cv) (ok bool, err error) {
	if err := d.ctx.Err(); err != nil {
		return false, err
	}
	p, err := d.b.in.Peek(MaxGroup + nodeBytes*int(parents(MaxGroup, d.group)))
	if err != nil {
		return false, nil // the next read gets the same error
	}
	if d.pending+MaxGroup > outBytes {
		if err := d.flush(); err != nil {
			return false, err
		}
	}
	out := d.b.out[d.pending : d.pending+MaxGroup]
	flags := rootFlag(MaxGroup, d.s.Size)
	if !unfold(out, p, d.group, want, flags) || groupCV(out, pos, flags) != want {
		return false, nil
	}
	d.pending += MaxGroup
	if err := d.keepBelow(pos, MaxGroup, p); err != nil {
		return false, err
	}
	_, err = d.b.in.Discard(len(p))
	return err == nil, err
}

// unfold copies the groups of a subtree to out and tells whether its nodes hash
// to want. The groups themselves are not verified.
func unfold(out, p []byte, group uint64, want cv, flags uint32) bool {
	n := uint64(len(out))
	if n <= group {
		copy(out, p)
		return true
	}
	l, r := cvOf(p), cvOf(p[32:])
	if parentCV(l, r, flags) != want {
		return false
	}
	mid := split(n)
	cut := nodeBytes*(1+parents(mid, group)) + mid
	return unfold(out[:mid], p[nodeBytes:cut], group, l, 0) && unfold(out[mid:], p[cut:], group, r, 0)
}

func wrong(part Part, pos, n uint64, want, got cv, p []byte) error {
	return &WrongBytesError{
		Part: part, Offset: pos, Length: n,
		Want: cvBytes(want), Got: cvBytes(got), Bytes: append([]byte(nil), p...),
	}
}

func (d *decoder) read(p []byte) error {
	_, err := io.ReadFull(d.b.in, p)
	switch {
	case err == nil:
		return nil
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return errShort{err}
	}
	return fmt.Errorf("read slice: %w", err)
}

func (d *decoder) flush() error {
	if err := d.handOver(); err != nil {
		return err
	}
	if d.pending == 0 {
		return nil
	}
	p := d.b.out[:d.pending]
	d.pending = 0
	if _, err := d.w.WriteAt(p, int64(d.next)); err != nil {
		return fmt.Errorf("write verified bytes: %w", err)
	}
	d.next += uint64(len(p))
	if d.on != nil {
		d.on(d.next)
	}
	return nil
}

// trailing reads on to the end of the slice.
func (d *decoder) trailing() error {
	_, err := d.b.in.ReadByte()
	switch {
	case err == nil:
		return ErrTrailing
	case err == io.EOF:
		return nil
	}
	return fmt.Errorf("read the end of the slice: %w", err)
}
