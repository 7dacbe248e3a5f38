package bao_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"github.com/spillway/spillway/content/bao"
)

// FuzzSlice: any slice of any content is the one that the library cuts, is decoded to
// the content by both, and with any one byte changed nothing wrong is written.
func FuzzSlice(f *testing.F) {
	f.Add(uint16(0), byte(0), byte(0), uint16(0), uint16(0), uint32(0), byte(1))
	f.Add(uint16(1024), byte(1), byte(0), uint16(0), uint16(1024), uint32(9), byte(1))
	f.Add(uint16(20_000), byte(2), byte(1), uint16(1023), uint16(2050), uint32(900), byte(0x80))
	f.Add(uint16(65_535), byte(3), byte(4), uint16(16_384), uint16(16_385), uint32(70), byte(7))
	f.Fuzz(func(t *testing.T, size uint16, seed, log byte, off, length uint16, at uint32, flip byte) {
		data, group := fill(int(size), seed), allGroups[int(log)%len(allGroups)]
		ob, _, root := build(t, data, group)
		s := bao.Slice{Root: root, Size: uint64(size), GroupBytes: group, Offset: uint64(off), Length: uint64(length)}
		outside := uint64(off)+uint64(length) > uint64(size) || length == 0 && size > 0
		if outside {
			err := bao.ExtractSlice(context.Background(), &bytes.Buffer{}, bytes.NewReader(data), ob, s.Offset, s.Length)
			if _, serr := s.EncodedSize(); !errors.Is(err, bao.ErrRange) || !errors.Is(serr, bao.ErrRange) {
				t.Fatalf("%d+%d of %d: %v, %v", off, length, size, err, serr)
			}
			return
		}
		checkSlice(t, data, group, ob, root, s.Offset, s.Length)
		slice := extract(t, data, ob, s.Offset, s.Length)
		slice[int(at)%len(slice)] ^= max(flip, 1)
		w := &checked{t: t, data: data, off: s.Offset, end: s.Offset + s.Length}
		if err := bao.DecodeSlice(context.Background(), w, bytes.NewReader(slice), s, nil); !errors.Is(err, bao.ErrWrongBytes) {
			t.Fatalf("byte %d changed: %v", int(at)%len(slice), err)
		}
	})
}

// FuzzOutboard: whatever bytes stand for an outboard, what leaves with VerifySource
// is the true slice or the beginning of it, and any changed byte that is used is
// found.
func FuzzOutboard(f *testing.F) {
	const size, group = 5000, 1024
	data := fill(size, 9)
	good, raw, root := build(f, data, group)
	whole := extract(f, data, good, 0, size)
	f.Add(raw, uint64(size), uint64(0), uint64(size))
	f.Add(raw[:100], uint64(size), uint64(4000), uint64(10))
	f.Add(append(bytes.Repeat([]byte{7}, 8), raw[8:]...), uint64(7), uint64(0), uint64(7))
	f.Add([]byte{}, uint64(math.MaxUint64), uint64(1), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, tree []byte, total, off, length uint64) {
		ob, err := bao.NewOutboard(bytes.NewReader(tree), root, total, group)
		if err != nil {
			return
		}
		var out bytes.Buffer
		e := bao.Extractor{Source: bytes.NewReader(data), Outboard: ob, VerifySource: true}
		if err := e.Slice(context.Background(), &out, off, length); err != nil {
			if off == 0 && length == size && total == size && !bytes.HasPrefix(whole, out.Bytes()) {
				t.Fatalf("wrong bytes left before %v", err)
			}
			return
		}
		s := bao.Slice{Root: root, Size: total, GroupBytes: group, Offset: off, Length: length}
		w := &checked{t: t, data: data, off: off, end: off + length}
		if err := bao.DecodeSlice(context.Background(), w, bytes.NewReader(out.Bytes()), s, nil); err != nil {
			t.Fatalf("%d+%d of %d: our own slice does not verify: %v", off, length, total, err)
		}
	})
}
